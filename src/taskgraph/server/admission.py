"""From what a client sent to an operation that may run: found or made ready, priced, and paid for. HTTP and WebSocket ask here."""

from collections.abc import Callable

from graphql import OperationDefinitionNode

from taskgraph.server import rate_limit
from taskgraph.server.executor import Operation
from taskgraph.server.gate import Caller, Gate, Reply
from taskgraph.server.parameters import Parameters
from taskgraph.server.persisted import PersistedDocuments
from taskgraph.server.rate_limit import REFUSED, RateLimited, RateLimits

Expect = Callable[[OperationDefinitionNode], None]


def anything(_operation: OperationDefinitionNode) -> None:
    """Expects nothing in particular."""


class Admission:
    """What every operation passes before it runs."""

    def __init__(self, documents: PersistedDocuments, gate: Gate, rates: RateLimits) -> None:
        self._documents = documents
        self._gate = gate
        self._rates = rates

    async def operation(
        self, parameters: Parameters, caller: Caller, address: str | None, reply: Reply, expect: Expect = anything
    ) -> Operation:
        """The operation; how its caller stands goes into the headers of `reply`, and `expect` may refuse it by raising.

        DocumentRefused, OperationUnknown, PersistedQueryNotFound, OperationTooExpensive, RateLimited, BadUserInput, Busy.
        """
        if self._rates.is_on:
            operation = await self._paid(parameters, caller, address, reply, expect)
        else:
            operation = await self._priced(parameters, expect)
        if parameters.document_id is not None:
            await self._documents.keep(parameters.query, parameters.document_id, of_viewer=caller.viewer is not None)
        if parameters.read_after is not None:
            await self._gate.reach(parameters.read_after)
        return operation

    async def _paid(self, parameters: Parameters, caller: Caller, address: str | None, reply: Reply, expect: Expect) -> Operation:
        """What is refused for itself is paid for, too; and who cannot pay gets nothing read, as that is what a new document costs."""
        charge = REFUSED
        try:
            if not self._documents.knows(parameters.query, parameters.document_id):
                await self._rates.expect_room(caller.purse, address)
            try:
                operation = await self._priced(parameters, expect)
                charge = operation.charge
            finally:
                standings = await self._rates.admit(caller.purse, address, charge)
                reply.headers.update(rate_limit.headers(standings))
        except RateLimited as error:
            reply.headers.update(rate_limit.headers([error.standing]))
            raise
        return operation

    async def _priced(self, parameters: Parameters, expect: Expect) -> Operation:
        prepared = self._documents.at_hand(parameters.query, parameters.document_id)
        if prepared is None:
            prepared = await self._documents.prepare(parameters.query, parameters.document_id)
        chosen = prepared.operation(parameters.operation_name)
        expect(chosen.operation)
        charge = chosen.price.affordable(parameters.variables or {}, max_cost=self._rates.max_cost)
        return Operation(prepared.document, chosen, parameters.variables, charge)
