"""GraphQL over HTTP: one request, one operation, one answer. Follows the specification draft for both of its media types."""

import functools
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import orjson
from graphql import OperationDefinitionNode, OperationType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from taskgraph.errors import BadUserInput, OperationTooExpensive
from taskgraph.server import compression, revalidation
from taskgraph.server.admission import Admission
from taskgraph.server.attendance import Attendance, ClientLeft
from taskgraph.server.csrf import CsrfGuard
from taskgraph.server.deadline import Deadline
from taskgraph.server.documents import DocumentRefused, OperationUnknown, is_query
from taskgraph.server.durations import Durations
from taskgraph.server.executor import Answer, refusal, refused_document
from taskgraph.server.gate import Caller, Gate, Reply
from taskgraph.server.one_write import WHOLE_EXCHANGE, WholeExchange
from taskgraph.server.parameters import Parameters
from taskgraph.server.persisted import PersistedQueryNotFound
from taskgraph.server.response_cache import ResponseCache

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
HTML = "text/html"
# What in an address says that it is an operation.
OPERATION = frozenset({"query", "documentId", "extensions"})
BODY_SECONDS = 10
# Hardly any operation takes so long that it is worth a look whether its client still waits.
UNWATCHED_SECONDS = 0.3
# As nginx counts them; nobody is sent this status.
CLIENT_LEFT = 499
ANSWERED_IN = {GRAPHQL_JSON: GRAPHQL_JSON, JSON: JSON, "application/*": JSON, "*/*": JSON, "": JSON}
STATUS_OF_CODE = {
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "CSRF_REFUSED": HTTPStatus.FORBIDDEN,
    "RATE_LIMITED": HTTPStatus.TOO_MANY_REQUESTS,
    "BUSY": HTTPStatus.SERVICE_UNAVAILABLE,
    "INTERNAL": HTTPStatus.INTERNAL_SERVER_ERROR,
}


# Answers are a viewer's own, so no cache between here and there may keep them.
HEADERS = {
    media_type: (
        (b"content-type", f"{media_type}; charset=utf-8".encode()),
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept, Authorization, Cookie"),
    )
    for media_type in (JSON, GRAPHQL_JSON)
}


class HttpRefusal(Exception):
    """The request is turned away with a status of its own."""

    def __init__(self, status: HTTPStatus, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class GraphQLOverHttp:
    """The POST and GET of /graphql."""

    def __init__(
        self,
        admission: Admission,
        responses: ResponseCache,
        gate: Gate,
        csrf: CsrfGuard,
        *,
        max_body_bytes: int,
    ) -> None:
        self._admission = admission
        self._responses = responses
        self._gate = gate
        self._csrf = csrf
        self._max_body_bytes = max_body_bytes
        self._receiving = Deadline(BODY_SECONDS)
        self._attendance = Attendance(UNWATCHED_SECONDS)
        self.durations: defaultdict[int, Durations] = defaultdict(Durations)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI: operations need nothing of what Starlette does before and after an endpoint."""
        response = await self.answer(Request(scope, receive))
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        """The answer; how long it took is noted by its status."""
        began = time.perf_counter()
        response = await self._answer(request)
        self.durations[response.status_code].note(time.perf_counter() - began)
        return response

    async def _answer(self, request: Request) -> Response:
        """Read, prepare, admit, run, answer."""
        media_type = JSON
        reply = Reply()
        # The first of each name counts, as everywhere; Starlette would walk through all of them for each that is asked for.
        headers = dict(reversed(request.scope["headers"]))
        try:
            media_type = _media_type(_text(headers, b"accept") or "*/*")
            parameters = await self._parameters(request, _text(headers, b"content-type") or "")
            caller = await self._gate.admit(_text(headers, b"authorization"))
            client: tuple[str, int] | None = request.scope.get("client")
            address = None if client is None else client[0]
            expect = _no_subscription if request.method == "POST" else _query
            operation = await self._admission.operation(parameters, caller, address, reply, expect)
            if (read_after := _text(headers, b"read-after")) is not None:
                await self._gate.reach(read_after)
            running = self._responses.run(
                operation, caller, lambda: self._gate.context(caller, request, reply, operation.charge.cost)
            )
            if operation.is_query:
                # What writes is finished in any case.
                running = self._attendance.required(running, request.receive)
            answer = await running
            response = _response(answer, media_type, reply)
            if parameters.document_id is not None and request.method != "POST" and not answer.errors:
                _revalidate(response, headers, caller, media_type)
            if len(response.body) >= compression.MIN_BYTES and operation.is_query:
                await compression.pack(response, _text(headers, b"accept-encoding") or "")
            return response  # noqa: TRY300 - an else clause here would be read as the way of what was refused
        except Exception as error:  # noqa: BLE001 - the edge
            return _refused(error, media_type, reply)

    async def _parameters(self, request: Request, content_type: str) -> Parameters:
        if request.method != "POST":
            self._csrf.check(request.scope["headers"])
            return Parameters.of(_from_address(request))
        if not _is_json(content_type):
            self._csrf.check(request.scope["headers"])
            raise HttpRefusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send the operation as {JSON} in UTF-8.", accept=JSON)
        return Parameters.of(_from_json(await self._body(request), "The body"))

    async def _body(self, request: Request) -> bytes:
        """The whole body, never more than allowed."""
        whole = _whole_exchange(request.scope)
        body = None if whole is None else whole.body()
        if body is None:
            try:
                return await self._receiving.bound(self._received(request))
            except TimeoutError as error:
                late = f"The body did not arrive within {BODY_SECONDS} s."
                raise HttpRefusal(HTTPStatus.REQUEST_TIMEOUT, late, connection="close") from error
        self._expect_bounded(body)
        return body

    async def _received(self, request: Request) -> bytes:
        body: bytes = b""
        while (message := await request.receive())["type"] == "http.request":
            body += message.get("body", b"")
            self._expect_bounded(body)
            if not message.get("more_body"):
                return body
        raise HttpRefusal(HTTPStatus.BAD_REQUEST, "The body ended early.")

    def _expect_bounded(self, body: bytes) -> None:
        if len(body) > self._max_body_bytes:
            too_large = f"The body is larger than {self._max_body_bytes} bytes."
            raise HttpRefusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large, connection="close")


def _whole_exchange(scope: Scope) -> WholeExchange | None:
    exchange: WholeExchange | None = scope.get("extensions", {}).get(WHOLE_EXCHANGE)
    return exchange


def _no_subscription(operation: OperationDefinitionNode) -> None:
    if operation.operation is OperationType.SUBSCRIPTION:
        raise HttpRefusal(HTTPStatus.BAD_REQUEST, "Subscriptions need a WebSocket at this address (graphql-transport-ws).")


def _query(operation: OperationDefinitionNode) -> None:
    """Of a GET; HEAD is a GET without the answer's body."""
    _no_subscription(operation)
    if not is_query(operation):
        raise HttpRefusal(HTTPStatus.METHOD_NOT_ALLOWED, "GET runs queries only; send mutations by POST.", allow="POST")


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def accepts_html(request: Request) -> bool:
    """Whether a person with a browser is asking, rather than a program."""
    accepted = request.headers.get("accept", "")
    return HTML in accepted and OPERATION.isdisjoint(request.query_params)


@functools.lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    kind, _, options = content_type.partition(";")
    return kind.strip().lower() == JSON and ("charset" not in options.lower() or "utf-8" in options.lower())


@functools.lru_cache(maxsize=256)
def _media_type(accepted: str) -> str:
    """The media type to answer in: of those that we have, the one that the client likes best, or else names first."""
    weights: dict[str, float] = {}
    for entry in accepted.split(","):
        name, *options = (part.strip().lower() for part in entry.split(";"))
        if name in ANSWERED_IN:
            weights.setdefault(ANSWERED_IN[name], _weight(options))
    media_type = max(weights, key=weights.__getitem__, default=None)
    if media_type is None or weights[media_type] <= 0:
        raise HttpRefusal(HTTPStatus.NOT_ACCEPTABLE, f"Answers come as {GRAPHQL_JSON} or {JSON}.")
    return media_type


def _weight(options: Sequence[str]) -> float:
    for option in options:
        name, _, value = option.partition("=")
        if name.strip() == "q":
            with suppress(ValueError):
                return float(value)
    return 1.0


def _from_address(request: Request) -> dict[str, Any]:
    sent: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if sent.get(name):
            sent[name] = _from_json(sent[name].encode(), name)
        else:
            sent.pop(name, None)
    return sent


def _from_json(text: bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise HttpRefusal(HTTPStatus.BAD_REQUEST, f"{what} is not valid JSON in UTF-8.") from error


def _status_of_refusal(answer: Answer) -> HTTPStatus:
    (code,) = answer.codes
    return STATUS_OF_CODE.get(code, HTTPStatus.BAD_REQUEST)


def _status(answer: Answer, media_type: str) -> HTTPStatus:
    """200 whenever something was run, except when all of it failed for want of a sign-in or of capacity."""
    if not answer.errors:
        return HTTPStatus.OK
    if answer.data is None and "UNAUTHENTICATED" in answer.codes:
        return HTTPStatus.UNAUTHORIZED
    if answer.data is None and "BUSY" in answer.codes:
        return HTTPStatus.SERVICE_UNAVAILABLE
    # Older clients, which only know application/json, take any other status for a failure of the network.
    return HTTPStatus.OK if answer.was_run or media_type == JSON else HTTPStatus.BAD_REQUEST


def _response(
    answer: Answer,
    media_type: str,
    reply: Reply,
    *,
    status: HTTPStatus | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    status = status or _status(answer, media_type)
    response = Encoded(answer.encode(), status, media_type)
    if headers:
        response.headers.update(headers)
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["www-authenticate"] = "Bearer"
    if answer.errors and answer.retry_after_seconds is not None:
        response.headers["retry-after"] = str(answer.retry_after_seconds)
    if reply.has_headers:
        response.raw_headers.extend(reply.headers.raw)
    return response


def _refused(error: Exception, media_type: str, reply: Reply) -> Response:
    """The answer to what was not run, or not to its end. What is no RequestError is logged and shown as BUSY or INTERNAL."""
    match error:
        case ClientLeft():
            return Encoded(b"", CLIENT_LEFT, media_type)
        case HttpRefusal():
            return _response(refusal(BadUserInput(str(error))), media_type, reply, status=error.status, headers=error.headers)
        case OperationUnknown():
            return _response(refusal(BadUserInput(str(error))), media_type, reply, status=HTTPStatus.BAD_REQUEST)
        case DocumentRefused():
            return _response(refused_document(error.code, error.errors), media_type, reply)
        case OperationTooExpensive() | PersistedQueryNotFound():
            return _response(refusal(error), media_type, reply)
    answer = refusal(error)
    return _response(answer, media_type, reply, status=_status_of_refusal(answer))


def _revalidate(response: Response, headers: Mapping[bytes, bytes], caller: Caller, media_type: str) -> None:
    revalidation.tag(response, account=caller.purse.account if caller.purse is not None else "", media_type=media_type)
    revalidation.shorten(response, _text(headers, b"if-none-match") or "")


class Encoded(Response):
    """A body of one of our media types with the headers of every answer, which Starlette would put together anew each time."""

    def __init__(self, body: bytes, status: int, media_type: str) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [*HEADERS[media_type], (b"content-length", str(len(body)).encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, the short way where the server has it."""
        whole = _whole_exchange(scope)
        if whole is None or not whole.write(self.status_code, self.raw_headers, bytes(self.body)):
            await super().__call__(scope, receive, send)
