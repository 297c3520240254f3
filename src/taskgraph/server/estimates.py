"""Documents priced without being run, as they would be priced and refused if they were."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import OperationDefinitionNode, get_variable_values
from graphql.execution.values import VariableValues

from taskgraph.errors import OperationTooExpensive
from taskgraph.server.documents import DocumentRefused, Documents, OperationUnknown, Prepared, bounded, in_our_words
from taskgraph.server.executor import can_be_guessed_at
from taskgraph.server.prices import Estimate, FieldPrice

NOTHING = Estimate(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Estimated:
    """What one operation would cost; `rejected_because` says why it would not be run. Without a valid document there is no price."""

    estimate: Estimate
    rejected_because: str | None
    fields: Sequence[FieldPrice] = ()


class Estimates:
    """Prices documents of strangers, one after the other."""

    def __init__(self, schema: strawberry.Schema, documents: Documents, *, max_cost: int) -> None:
        self._schema = schema._schema  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        self._documents = documents
        self._max_cost = max_cost
        self._turn = asyncio.Lock()

    async def estimate(self, text: str, name: str | None, variables: Mapping[str, Any]) -> Estimated:
        """A new document takes milliseconds of the processor, so between two of them others have their turn. Busy."""
        async with self._turn:
            await asyncio.sleep(0)
            try:
                prepared = await self._documents.prepare_aside(text)
            except DocumentRefused as refused:
                unlimited = await asyncio.to_thread(self._documents.without_limits, text)
                return self._estimated(unlimited, bounded(refused.errors[0].message), name, variables)
            return self._estimated(prepared, None, name, variables)

    def _estimated(
        self, prepared: Prepared | None, reason: str | None, name: str | None, variables: Mapping[str, Any]
    ) -> Estimated:
        if prepared is None:
            return Estimated(NOTHING, reason)
        try:
            chosen = prepared.operation(name)
        except OperationUnknown as error:
            return Estimated(NOTHING, str(error))
        if reason is None:
            reason = self._why_variables_do_not_fit(chosen.operation, variables)
        if reason is None:
            try:
                chosen.price.affordable(variables, max_cost=self._max_cost)
            except OperationTooExpensive as error:
                reason = str(error)
        return Estimated(chosen.price.estimate(variables), reason, chosen.price.fields(variables))

    def _why_variables_do_not_fit(self, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> str | None:
        hides = self._documents.hides_suggestions or not can_be_guessed_at(variables)
        definitions = operation.variable_definitions or ()
        values = get_variable_values(self._schema, definitions, dict(variables), max_errors=1, hide_suggestions=hides)
        return None if isinstance(values, VariableValues) else bounded(in_our_words(values[0]).message)
