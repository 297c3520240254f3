"""GraphQL over WebSocket (graphql-transport-ws): many operations at a time on one connection, each with its own context."""

import asyncio
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any

import orjson
import structlog
from graphql import OperationType
from starlette.websockets import WebSocket, WebSocketDisconnect

from taskgraph.errors import BadUserInput, RequestError, TaskgraphError, Unauthenticated
from taskgraph.server.documents import DocumentRefused, Documents, OperationUnknown
from taskgraph.server.executor import Answer, Executor, Operation, refusal, refused_document
from taskgraph.server.gate import Caller, Gate, Reply
from taskgraph.server.http import Parameters
from taskgraph.storage import clock
from taskgraph.storage.event_hub import SlowListener

PROTOCOL = "graphql-transport-ws"
INIT_SECONDS = 10.0
SEND_SECONDS = 10.0
FINISH_SECONDS = 10.0
OPERATIONS = 100
ID_CHARACTERS = 200
log = structlog.get_logger(__name__)


class CloseSocket(TaskgraphError):
    """The connection must end with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class GraphQLOverWebSocket:
    """The WebSocket of /graphql."""

    def __init__(
        self, documents: Documents, executor: Executor, gate: Gate, *, max_message_bytes: int, init_seconds: float = INIT_SECONDS
    ) -> None:
        self._documents = documents
        self._executor = executor
        self._gate = gate
        self._max_message_bytes = max_message_bytes
        self._init_seconds = init_seconds

    async def serve(self, socket: WebSocket) -> None:
        """Serves one connection until either side ends it."""
        if PROTOCOL not in socket.scope["subprotocols"]:
            await socket.accept()
            await socket.close(4406, "Subprotocol not acceptable")
            return
        await socket.accept(PROTOCOL)
        connection = Connection(socket, self._documents, self._executor, self._gate, max_message_bytes=self._max_message_bytes)
        try:
            await connection.serve(self._init_seconds)
        except* CloseSocket as group:
            error = _first(group)
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(error.code, error.reason)
        except* WebSocketDisconnect:
            pass


class Connection:
    """One socket: its caller, once known, and its running operations by id."""

    def __init__(self, socket: WebSocket, documents: Documents, executor: Executor, gate: Gate, *, max_message_bytes: int) -> None:
        self._socket = socket
        self._documents = documents
        self._executor = executor
        self._gate = gate
        self._max_message_bytes = max_message_bytes
        self._caller: Caller | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._streaming: set[str] = set()

    async def serve(self, init_seconds: float) -> None:
        """Receives until the connection ends; ends everything that runs on it."""
        async with asyncio.TaskGroup() as tasks:
            try:
                message = await asyncio.wait_for(self._receive(), init_seconds)
            except TimeoutError as error:
                raise CloseSocket(4408, "Connection initialisation timeout") from error
            await self._initialise(message, tasks)
            while True:
                await self._handle(await self._receive(), tasks)

    async def _initialise(self, message: dict[str, Any], tasks: asyncio.TaskGroup) -> None:
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
            raise CloseSocket(4403, "Forbidden") from error
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
            await self._send({"type": "pong", **payload})

    def _subscribe(self, message: dict[str, Any], tasks: asyncio.TaskGroup) -> None:
        operation_id = _id_of(message)
        if operation_id in self._running:
            raise CloseSocket(4409, f"Subscriber for {operation_id} already exists")
        if len(self._running) >= OPERATIONS:
            raise CloseSocket(4400, f"More than {OPERATIONS} operations at once")
        task = tasks.create_task(self._run(operation_id, message.get("payload")))
        self._running[operation_id] = task

    async def _run(self, operation_id: str, payload: Any) -> None:
        """One operation from its first to its last message."""
        try:
            parameters = Parameters.of(payload)
            prepared = self._documents.prepare(parameters.query)
            chosen = prepared.operation(parameters.operation_name)
            operation = Operation(prepared, parameters.operation_name, parameters.variables)
            assert self._caller is not None  # noqa: S101 - nothing is run before connection_init
            context = self._gate.context(self._caller, self._socket, Reply())
            if chosen.operation is OperationType.SUBSCRIPTION:
                is_complete = await self._stream(operation_id, operation, context)
            else:
                is_complete = await self._deliver(operation_id, await self._executor.run(operation, context))
        except DocumentRefused as error:
            is_complete = await self._deliver(operation_id, refused_document(error.code, error.errors))
        except OperationUnknown as error:
            is_complete = await self._deliver(operation_id, refusal(BadUserInput(str(error))))
        except RequestError as error:
            is_complete = await self._deliver(operation_id, refusal(error))
        # Free before the last message: a client may use the id again as soon as it has read that.
        if self._running.pop(operation_id, None) and is_complete:
            await self._send({"type": "complete", "id": operation_id})

    async def _end_with_session(self, caller: Caller) -> None:
        """Waits until the caller's token expires or the session is revoked, then ends the connection."""
        if caller.expires_at is None or caller.ended is None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(caller.ended.wait(), _seconds_until(caller.expires_at))
        # The mutation that ends the session, a logout or an erasure, may have come this way: it is finished and answered.
        under_way = [task for operation_id, task in self._running.items() if operation_id not in self._streaming]
        if under_way:
            await asyncio.wait(under_way, timeout=FINISH_SECONDS)
        raise CloseSocket(4410, "Session ended")

    async def _stream(self, operation_id: str, operation: Operation, context: object) -> bool:
        self._streaming.add(operation_id)
        try:
            async with aclosing(self._executor.stream(operation, context)) as answers:  # type: ignore[type-var]
                async for answer in answers:
                    if not await self._deliver(operation_id, answer):
                        return False
        except SlowListener as error:
            raise CloseSocket(4411, "Slow consumer: resume from the last cursor") from error
        finally:
            self._streaming.discard(operation_id)
        return True

    async def _deliver(self, operation_id: str, answer: Answer) -> bool:
        """Sends an answer; False when it was the error that ends an operation before anything was run."""
        if answer.was_run:
            await self._send({"type": "next", "id": operation_id, "payload": answer.body})
        else:
            self._running.pop(operation_id, None)
            await self._send({"type": "error", "id": operation_id, "payload": list(answer.errors)})
        return answer.was_run

    async def _receive(self) -> dict[str, Any]:
        try:
            text = await self._socket.receive_text()
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
        try:
            await asyncio.wait_for(self._socket.send_text(orjson.dumps(message).decode()), SEND_SECONDS)
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
