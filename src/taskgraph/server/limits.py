"""What a document and its variables may demand, checked before anything runs: a document once, variables each time they come."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInputType,
    InlineFragmentNode,
    ListValueNode,
    OperationDefinitionNode,
    OverlappingFieldsCanBeMergedRule,
    SelectionSetNode,
    ValidationContext,
    ValueNode,
    ValuesOfCorrectTypeRule,
    VisitorAction,
    validate_input_literal,
)

from taskgraph.errors import BadUserInput

# What comparing fields of the same name may cost, in graphql-core's units of about 1 us. Its own bound is twenty times this, and
# 500 times `owner { id }` held the process for 2.7 s. Forty components that ask for the same ten fields need 18,000.
MERGING_BUDGET = 25_000
# Tokens are bounded by a setting, but comments are none, and 120,000 of them took 180 ms to read.
DOCUMENT_CHARACTERS = 50_000
# Each is validated with all fragments that it uses: 390 of them with 100 fragments took 400 ms.
OPERATIONS = 50
VALUE_ERRORS = 3
# Operations on 500 tasks need lists of 500, and some thousands of values. An object takes ten times as long to understand as a text:
# 80,000 filters without a condition took 9 s.
LIST_ITEMS = 1_000
VARIABLE_VALUES = 20_000
VARIABLE_OBJECTS = 5_000
VARIABLE_DEPTH = 32


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Upper bounds per operation: nested fields, aliased fields, lexical tokens."""

    max_depth: int
    max_aliases: int
    max_tokens: int


class OperationLimits(ASTValidationRule):
    """A validation rule of graphql-core: one visit per document, each fragment measured once."""

    limits: DocumentLimits

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._sizes: dict[str, tuple[int, int]] = {}

    def enter_list_value(self, node: ListValueNode, *_args: object) -> None:
        """Measures a list that is written out."""
        if len(node.values) > LIST_ITEMS:
            self.report_error(GraphQLError(f"A list has {len(node.values)} items; {LIST_ITEMS} are allowed.", node))

    def enter_document(self, document: DocumentNode, *_args: object) -> None:
        """Measures every operation."""
        for definition in document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                depth, aliases = self._measure(definition.selection_set, frozenset())
                name = f"Operation {definition.name.value!r}" if definition.name else "The operation"
                if depth > self.limits.max_depth:
                    self._refuse(definition, f"{name} nests {depth} levels deep; {self.limits.max_depth} are allowed.")
                if aliases > self.limits.max_aliases:
                    self._refuse(definition, f"{name} has {aliases} aliases; {self.limits.max_aliases} are allowed.")

    def _measure(self, selections: SelectionSetNode | None, above: frozenset[str]) -> tuple[int, int]:
        """Depth and number of aliases of a selection set, fragments included. `above` ends cycles; another rule reports them."""
        depth = aliases = 0
        for node in selections.selections if selections else ():
            if isinstance(node, FieldNode):
                inner, inner_aliases = self._measure(node.selection_set, above)
                # Introspection is deep by nature and bounded by the schema.
                inner = 0 if node.name.value.startswith("__") else inner + 1
                aliases += node.alias is not None
            elif isinstance(node, InlineFragmentNode):
                inner, inner_aliases = self._measure(node.selection_set, above)
            else:
                assert isinstance(node, FragmentSpreadNode)  # noqa: S101 - the grammar has no fourth kind
                inner, inner_aliases = self._measure_fragment(node.name.value, above)
            depth = max(depth, inner)
            aliases += inner_aliases
        return depth, aliases

    def _measure_fragment(self, name: str, above: frozenset[str]) -> tuple[int, int]:
        if name not in self._sizes:
            fragment: FragmentDefinitionNode | None = self.context.get_fragment(name)
            if fragment is None or name in above:
                return 0, 0
            self._sizes[name] = self._measure(fragment.selection_set, above | {name})
        return self._sizes[name]

    def _refuse(self, node: OperationDefinitionNode, message: str) -> None:
        self.report_error(GraphQLError(message, node))


def check_variables(variables: Mapping[str, Any]) -> int:
    """How many objects and lists they hold. BadUserInput for more values, longer lists or deeper nesting than any operation needs,
    whether or not they are used.

    Level by level, as a recursion would itself have to be bounded.
    """
    values = objects = depth = 0
    level: list[Any] = [variables]
    while level:
        depth += 1
        if depth > VARIABLE_DEPTH:
            raise BadUserInput(f"variables nest more than {VARIABLE_DEPTH} levels deep.")
        inside: list[Any] = []
        for each in level:
            values += len(each)
            if type(each) is dict:
                inside += each.values()
            elif len(each) > LIST_ITEMS:
                raise BadUserInput(f"A list in variables has {len(each)} items; {LIST_ITEMS} are allowed.")
            else:
                inside += each
        if values > VARIABLE_VALUES:
            raise BadUserInput(f"variables hold more than {VARIABLE_VALUES} values.")
        level = [each for each in inside if type(each) is dict or type(each) is list]
        objects += len(level)
        if objects > VARIABLE_OBJECTS:
            raise BadUserInput(f"variables hold more than {VARIABLE_OBJECTS} objects and lists.")
    return objects


class BoundedMerging(OverlappingFieldsCanBeMergedRule):
    """The specification's rule on fields of the same name, the one whose cost is quadratic, given up sooner."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MERGING_BUDGET


class BoundedValues(ValuesOfCorrectTypeRule):
    """The specification's rule on values that are written out, given up after some errors in one: each quotes all of it."""

    def is_valid_value_node(self, node: ValueNode, input_type: GraphQLInputType | None) -> VisitorAction:
        """Reports what is wrong."""
        errors = 0

        def report(error: GraphQLError, _path: list[str | int]) -> None:
            nonlocal errors
            errors += 1
            self.report_error(error)
            if errors >= VALUE_ERRORS:
                raise _EnoughErrors

        if input_type:
            with suppress(_EnoughErrors):
                validate_input_literal(node, input_type, report, None, None, self.context.hide_suggestions)
        return self.SKIP


class _EnoughErrors(Exception):
    """In one value."""


# What graphql-core checks, and what does so within bounds.
BOUNDED: dict[type[ASTValidationRule], type[ASTValidationRule]] = {
    OverlappingFieldsCanBeMergedRule: BoundedMerging,
    ValuesOfCorrectTypeRule: BoundedValues,
}


def rule(limits: DocumentLimits) -> type[ASTValidationRule]:
    """The rule with these limits; graphql-core makes an object of it for each document."""
    return type("OperationLimits", (OperationLimits,), {"limits": limits})
