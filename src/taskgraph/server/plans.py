"""Compiled operations: made when an operation comes for the second time, kept with its document, left when they cannot answer.

Leaving is called deoptimising: graphql-core runs the operation again, with the results of the root fields remembered, so no
root field ever runs twice and every error is graphql-core's own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import strawberry
import structlog
from graphql import (
    SKIP,
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLSchema,
    OperationDefinitionNode,
    VariableNode,
    Visitor,
    get_variable_values,
    visit,
)
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.values import VariableValues

from taskgraph.server import variables
from taskgraph.server.arguments import Conversions
from taskgraph.server.compiler import compile_operation
from taskgraph.server.limits import check_variables
from taskgraph.server.plan import Deoptimised, Plan, Run, Unsupported
from taskgraph.server.prices import Price
from taskgraph.server.variables import CoerceVariables, Unusual

MIN_CALLS = 2
# From here on compiling takes less time than Strawberry needs to convert the variables, 0.1 ms for each.
MANY_OBJECTS = 50
MAX_VARIANTS = 16
# More turns of the event loop than graphql-core needs to give up on the siblings of a field that failed.
TURNS_APART = 20
log = structlog.get_logger(__name__)


def _nobody_asks() -> None:
    """For an operation whose document is not kept."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Compiled:
    """What is known about one operation. `conditions` are the variables of @skip and @include: each combination has its own plan.

    `inner_variables` are those that are used anywhere but in the arguments of root fields. `has_grown` is called for each plan made.
    """

    operation: OperationDefinitionNode
    fragments: Mapping[str, FragmentDetails]
    price: Price
    conditions: tuple[str, ...]
    inner_variables: tuple[str, ...]
    calls: int = 0
    is_reported: bool = False
    coerce: CoerceVariables | None = None
    variants: dict[tuple[Any, ...], Plan | None] = field(default_factory=dict)
    has_grown: Callable[[], None] = _nobody_asks
    # What others may know it by, longer than its document is kept, without holding the whole tree.
    identity: object = field(default_factory=object)


@dataclass(slots=True)
class Outcome:
    """What became of an attempt: the data, or None and what the root fields gave before it was left."""

    data: dict[str, Any] | None
    roots: Mapping[str, Any] = field(default_factory=dict)


class Plans:
    """Runs operations of one schema the compiled way; `deoptimised` counts by reason how often that was left."""

    def __init__(self, schema: strawberry.Schema, *, min_calls: int = MIN_CALLS) -> None:
        self._min_calls = min_calls
        self._schema: GraphQLSchema = schema._schema  # noqa: SLF001 - Strawberry has no public name for what it has built
        self._conversions = Conversions(schema)
        self.deoptimised: Counter[str] = Counter()
        self.answered = 0

    async def run(self, compiled: Compiled, inputs: Mapping[str, Any], context: Any, *, source: object = None) -> Outcome:
        """The data, where a plan answers; `source` is the message of a subscription."""
        compiled.calls += 1
        if compiled.calls < self._min_calls and check_variables(inputs) < MANY_OBJECTS:
            return Outcome(None)
        values = self._variables(compiled, inputs)
        if values is None:
            return self._left(compiled, "variables do not fit", {})
        plan = self._plan(compiled, values)
        if plan is None:
            return Outcome(None)
        run = Run(context, values, {}, source=source)
        try:
            data = await plan.run(run)
        except Deoptimised as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - graphql-core turns it into an error with its path
            reason = type(error).__name__
        else:
            self.answered += 1
            return Outcome(data)
        # What is at hand already would let some fields fail before their siblings have begun, and so decide which error is shown.
        context.forget()
        return self._left(compiled, reason, run.roots)

    def _variables(self, compiled: Compiled, inputs: Mapping[str, Any]) -> VariableValues | None:
        definitions = compiled.operation.variable_definitions or ()
        if compiled.coerce is None:
            compiled.coerce = variables.coercer(self._schema, definitions)
        try:
            return compiled.coerce(inputs)
        except (Unusual, RecursionError):
            # Whether they fit is all that matters here; what is wrong is said by whoever answers.
            values = get_variable_values(self._schema, definitions, dict(inputs), max_errors=1, hide_suggestions=True)
            return values if isinstance(values, VariableValues) else None

    def _plan(self, compiled: Compiled, variables: VariableValues) -> Plan | None:
        combination = tuple(variables.coerced.get(name) for name in compiled.conditions)
        if combination not in compiled.variants:
            if len(compiled.variants) >= MAX_VARIANTS:
                return None
            try:
                compiled.variants[combination] = compile_operation(
                    self._schema, self._conversions, compiled.operation, compiled.fragments, variables
                )
            except Unsupported as error:
                self.deoptimised[f"unsupported: {error}"] += 1
                compiled.variants[combination] = None
            except Exception:
                # A bug of the compiler costs speed, not the answer.
                log.exception("operation could not be compiled")
                self.deoptimised["compiler failed"] += 1
                compiled.variants[combination] = None
            compiled.has_grown()
        return compiled.variants[combination]

    def _left(self, compiled: Compiled, reason: str, roots: Mapping[str, Any]) -> Outcome:
        self.deoptimised[reason] += 1
        if not compiled.is_reported:
            compiled.is_reported = True
            name = compiled.operation.name.value if compiled.operation.name else None
            log.info("operation left its compiled plan", operation=name, reason=reason)
        return Outcome(None, roots)


def compiled(document: DocumentNode, price: Callable[[OperationDefinitionNode], Price]) -> list[Compiled]:
    """The operations of a document, each ready to be compiled when it is hot. What several share is looked for once."""
    fragments = {
        each.name.value: FragmentDetails(each) for each in document.definitions if isinstance(each, FragmentDefinitionNode)
    }
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    conditions, inner = _Conditions(), _InnerVariables(operations)
    visit(document, conditions)
    visit(document, inner)
    names = tuple(sorted(conditions.names)), tuple(sorted(inner.names))
    return [Compiled(each, fragments, price(each), *names) for each in operations]


def remembering(roots: Mapping[str, Any]) -> Callable[..., Any]:
    """Middleware for graphql-core: root fields that have run give what they gave, in the order in which they gave it.

    The order decides which of several errors comes first, and with it which siblings are still heard.
    """
    turns = {key: position * TURNS_APART for position, key in enumerate(roots)}

    async def give(key: str) -> Any:
        for _ in range(turns[key]):
            await asyncio.sleep(0)
        given = roots[key]
        if isinstance(given, Exception):
            raise given
        return given

    def resolve(next_resolver: Callable[..., Any], source: Any, info: Any, **arguments: Any) -> Any:
        if info.path.prev is None and info.path.key in roots:
            return give(info.path.key)
        return next_resolver(source, info, **arguments)

    return resolve


class _Conditions(Visitor):
    """Collects the variables that decide about selections."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: Any, *_args: Any) -> None:
        """`if` is the only argument of both."""
        if node.name.value in {"skip", "include"}:
            self.names |= {each.value.name.value for each in node.arguments if isinstance(each.value, VariableNode)}


class _InnerVariables(Visitor):
    """Collects the variables that are used by more than the arguments of root fields."""

    def __init__(self, operations: Sequence[OperationDefinitionNode]) -> None:
        super().__init__()
        self._root_arguments = {
            id(argument)
            for operation in operations
            for each in operation.selection_set.selections
            if isinstance(each, FieldNode)
            for argument in each.arguments or ()
        }
        self.names: set[str] = set()

    def enter_variable_definition(self, *_args: Any) -> Any:
        """Declaring is not using."""
        return SKIP

    def enter_argument(self, node: ArgumentNode, *_args: Any) -> Any:
        """Those of fields that a fragment adds to the root count as inner ones, which is only cautious."""
        return SKIP if id(node) in self._root_arguments else None

    def enter_variable(self, node: VariableNode, *_args: Any) -> None:
        """Anywhere else."""
        self.names.add(node.name.value)
