"""GraphQL over WebSocket (graphql-transport-ws): many operations at a time on one connection, each with its own context."""

import asyncio
from contextlib import aclosing, suppress
from datetime import datetime
from functools import partial
from typing import Any

import orjson
import structlog
from graphql import OperationType
from starlette.types import Receive, Scope, Send

from taskgraph.errors import BadUserInput, TaskgraphError, Unauthenticated
from taskgraph.server.admission import Admission
from taskgraph.server.deadline import Deadline
from taskgraph.server.documents import DocumentRefused, OperationUnknown
from taskgraph.server.executor import Answer, Executor, Operation, refusal, refused_document
from taskgraph.server.gate import Caller, Gate, OperationContext, Reply
from taskgraph.server.parameters import Parameters
from taskgraph.server.socket import Disconnected, Socket
from taskgraph.server.streams import Streams
from taskgraph.storage import clock, mongo
from taskgraph.storage.event_hub import SlowListener

PROTOCOL = "graphql-transport-ws"
INIT_SECONDS = 10.0
SEND_SECONDS = 10.0
FINISH_SECONDS = 10.0
OPERATIONS = 100
ID_CHARACTERS = 200
REASON_BYTES = 123
log = structlog.get_logger(__name__)


class CloseSocket(TaskgraphError):
    """The connection must end with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        # A close frame has no room for more, and some reasons quote the client.
        self.reason = reason.encode()[:REASON_BYTES].decode(errors="ignore")


class GraphQLOverWebSocket:
    """The WebSocket of /graphql."""

    def __init__(
        self,
        admission: Admission,
        executor: Executor,
        gate: Gate,
        *,
        max_message_bytes: int,
        init_seconds: float = INIT_SECONDS,
        send_seconds: float = SEND_SECONDS,
    ) -> None:
        self._admission = admission
        self._executor = executor
        self._streams = Streams(executor)
        self._gate = gate
        self._sending = Deadline(send_seconds)
        self._max_message_bytes = max_message_bytes
        self._init_seconds = init_seconds
        self.connections = 0

    @property
    def subscriptions(self) -> int:
        """How many are running, on all connections."""
        return self._streams.subscribers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: serves one connection until either side ends it."""
        socket = Socket(scope, receive, send)
        self.connections += 1
        try:
            if PROTOCOL in scope["subprotocols"]:
                await socket.accept(PROTOCOL)
                await self._connection(socket).serve(self._init_seconds)
            else:
                await socket.accept()
                await socket.close(4406, "Subprotocol not acceptable")
        except* CloseSocket as group:
            error = _first(group)
            # A stalled client, which is why some of these end, takes no close message either.
            with suppress(RuntimeError, Disconnected, TimeoutError):
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.close(error.code, error.reason)
        except* Disconnected:
            pass
        finally:
            self.connections -= 1

    def _connection(self, socket: Socket) -> "Connection":
        return Connection(
            socket,
            self._admission,
            self._executor,
            self._streams,
            self._gate,
            self._sending,
            max_message_bytes=self._max_message_bytes,
        )


class Connection:
    """One socket: its caller, once known, and its running operations by id."""

    def __init__(
        self,
        socket: Socket,
        admission: Admission,
        executor: Executor,
        streams: Streams,
        gate: Gate,
        sending: Deadline,
        *,
        max_message_bytes: int,
    ) -> None:
        self._socket = socket
        self._admission = admission
        self._executor = executor
        self._streams = streams
        self._gate = gate
        self._sending = sending
        self._max_message_bytes = max_message_bytes
        self._caller: Caller | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._streaming: set[asyncio.Task[None]] = set()
        self._is_ending = False

    async def serve(self, init_seconds: float) -> None:
        """Receives until the connection ends; ends everything that runs on it."""
        async with asyncio.TaskGroup() as tasks:
            try:
                async with asyncio.timeout(init_seconds):
                    await self._initialise(tasks)
            except TimeoutError as error:
                raise CloseSocket(4408, "Connection initialisation timeout") from error
            while True:
                await self._handle(await self._receive(), tasks)

    async def _initialise(self, tasks: asyncio.TaskGroup) -> None:
        message = await self._receive()
        while message["type"] in {"ping", "pong"}:
            await self._handle_ping(message)
            message = await self._receive()
        if message["type"] != "connection_init":
            raise CloseSocket(4401, "Unauthorized")
        payload = message.get("payload") or {}
        if not isinstance(payload, dict):
            raise CloseSocket(4400, "The payload of connection_init must be an object")
        authorization = payload.get("authorization", payload.get("Authorization"))
        if not isinstance(authorization, str | None):
            raise CloseSocket(4400, "authorization must be a string")
        try:
            if authorization:
                self._caller = await self._gate.admit(authorization)
            else:
                self._caller = await self._gate.admit_by_cookie(self._socket)
        except Unauthenticated as error:
            raise CloseSocket(4403, str(error)) from error
        except Exception as error:
            if not mongo.is_unavailable(error):
                raise
            raise CloseSocket(1013, "Try again later") from error
        tasks.create_task(self._end_with_session(self._caller))
        await self._send({"type": "connection_ack"})

    async def _handle(self, message: dict[str, Any], tasks: asyncio.TaskGroup) -> None:
        match message["type"]:
            case "subscribe":
                self._subscribe(message, tasks)
            case "complete":
                if task := self._running.pop(_id_of(message), None):
                    task.cancel()
            case "ping" | "pong":
                await self._handle_ping(message)
            case "connection_init":
                raise CloseSocket(4429, "Too many initialisation requests")
            case other:
                raise CloseSocket(4400, f"Unknown message type {str(other)[:40]!r}")

    async def _handle_ping(self, message: dict[str, Any]) -> None:
        if message["type"] == "ping":
            payload = {"payload": message["payload"]} if "payload" in message else {}
            try:
                await self._send({"type": "pong", **payload})
            except TypeError as error:  # What orjson has read it may refuse to write again: nested too deep.
                raise CloseSocket(4400, "The payload of a ping is nested too deep") from error

    def _subscribe(self, message: dict[str, Any], tasks: asyncio.TaskGroup) -> None:
        operation_id = _id_of(message)
        if self._is_ending:
            raise CloseSocket(4410, "Session ended")
        if operation_id in self._running:
            raise CloseSocket(4409, f"Subscriber for {operation_id} already exists")
        if len(self._running) >= OPERATIONS:
            raise CloseSocket(4400, f"More than {OPERATIONS} operations at once")
        task = tasks.create_task(self._run(operation_id, message))
        self._running[operation_id] = task

    async def _run(self, operation_id: str, message: dict[str, Any]) -> None:
        """One operation from its first to its last message; whatever goes wrong in it, the others go on."""
        try:
            # Taken out: a subscription may last for days, and does not need its text again.
            operation = await self._operation(message.pop("payload", None))
            is_complete = await self._answer(operation_id, operation)
        except DocumentRefused as error:
            is_complete = await self._deliver(operation_id, refused_document(error.code, error.errors))
        except OperationUnknown as error:
            is_complete = await self._deliver(operation_id, refusal(BadUserInput(str(error))))
        except (CloseSocket, Disconnected):
            raise
        except Exception as error:  # noqa: BLE001 - the edge: what is no RequestError is logged and shown as BUSY or INTERNAL
            is_complete = await self._deliver(operation_id, refusal(error))
        # Free before the last message: a client may use the id again as soon as it has read that.
        if is_complete and self._release(operation_id):
            await self._send({"type": "complete", "id": operation_id})

    async def _operation(self, payload: Any) -> Operation:
        assert self._caller is not None  # noqa: S101 - nothing is run before connection_init
        address = self._socket.client.host if self._socket.client else None
        return await self._admission.operation(Parameters.of(payload), self._caller, address, Reply())

    async def _answer(self, operation_id: str, operation: Operation) -> bool:
        assert self._caller is not None  # noqa: S101 - nothing is run before connection_init
        if operation.chosen.operation.operation is OperationType.SUBSCRIPTION:
            return await self._stream(operation_id, operation, self._caller)
        # What writes is finished, also when its client completes it or leaves: half of it may be done already.
        run = self._executor.run if operation.is_query else self._executor.finish
        return await self._deliver(operation_id, await run(operation, self._new_context(self._caller, operation.charge.cost)))

    async def _end_with_session(self, caller: Caller) -> None:
        """Waits until the caller's token expires or the session is revoked, then ends the connection."""
        if caller.expires_at is None or caller.until_ended is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_seconds_until(caller.expires_at)):
                await caller.until_ended()
        self._is_ending = True
        for task in self._streaming:
            task.cancel()
        # The mutation that ends the session, a logout or an erasure, may have come this way: it is finished and answered.
        under_way = [task for task in self._running.values() if task not in self._streaming]
        if under_way:
            await asyncio.wait(under_way, timeout=FINISH_SECONDS)
        raise CloseSocket(4410, "Session ended")

    def _new_context(self, caller: Caller, cost: int) -> OperationContext:
        return self._gate.context(caller, self._socket, Reply(), cost)

    async def _stream(self, operation_id: str, operation: Operation, caller: Caller) -> bool:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        # By task: a client may use the id again while this one is still being cancelled.
        self._streaming.add(task)
        self._streams.subscribers += 1
        try:
            stream = await self._executor.stream(operation, self._new_context(caller, operation.charge.cost))
            if isinstance(stream, Answer):
                return await self._deliver(operation_id, stream)
            channel, new_context = (
                self._streams.channel(operation, caller.viewer),
                partial(self._new_context, caller, operation.charge.cost),
            )
            beginning = f'{{"type":"next","id":{orjson.dumps(operation_id).decode()},"payload":'
            async with aclosing(stream) as messages:
                async for message in messages:
                    payload = channel.rendered(message) or await channel.payload(message, new_context)
                    await self._send_text(f"{beginning}{payload}}}")
        except SlowListener as error:
            raise CloseSocket(4411, "Slow consumer: resume from the last cursor") from error
        finally:
            self._streams.subscribers -= 1
            self._streaming.discard(task)
        return True

    async def _deliver(self, operation_id: str, answer: Answer) -> bool:
        """Sends an answer; False when it was the error that ends an operation before anything was run."""
        if answer.was_run:
            await self._send({"type": "next", "id": operation_id, "payload": answer.body})
        else:
            self._release(operation_id)
            await self._send({"type": "error", "id": operation_id, "payload": list(answer.errors)})
        return answer.was_run

    def _release(self, operation_id: str) -> bool:
        """Frees the id of the operation that calls; False when its client has ended it, and may have used the id again."""
        if self._running.get(operation_id) is not asyncio.current_task():
            return False
        del self._running[operation_id]
        return True

    async def _receive(self) -> dict[str, Any]:
        try:
            text = (await self._socket.receive())["text"]
        except KeyError as error:
            raise CloseSocket(4400, "Messages must be text") from error
        if len(text) > self._max_message_bytes:
            raise CloseSocket(4400, f"Messages may have at most {self._max_message_bytes} bytes")
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise CloseSocket(4400, "Messages must be JSON") from error
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise CloseSocket(4400, "Messages must be objects with a type")
        return message

    async def _send(self, message: dict[str, Any]) -> None:
        await self._send_text(orjson.dumps(message).decode())

    async def _send_text(self, text: str) -> None:
        if self._socket.sent_at_once(text):
            return
        try:
            await self._sending.bound(self._socket.send_text(text))
        except TimeoutError as error:
            raise CloseSocket(4411, "Slow consumer: resume from the last cursor") from error


def _seconds_until(moment: datetime) -> float:
    return max(0.0, (moment - clock.now()).total_seconds())


def _id_of(message: dict[str, Any]) -> str:
    operation_id = message.get("id")
    if not isinstance(operation_id, str) or not 1 <= len(operation_id) <= ID_CHARACTERS:
        raise CloseSocket(4400, "id must be a short, non-empty string")
    return operation_id


def _first(group: BaseExceptionGroup[CloseSocket]) -> CloseSocket:
    error = group.exceptions[0]
    return error if isinstance(error, CloseSocket) else _first(error)
