"""What a document may demand, checked when it is validated: before anything runs, once per document."""

from dataclasses import dataclass

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OverlappingFieldsCanBeMergedRule,
    SelectionSetNode,
    ValidationContext,
)

# What comparing fields of the same name may cost, in graphql-core's units of about 5 us. Its own bound is ten times this, and
# 500 times `owner { id }` held the process for 2.7 s.
MERGING_BUDGET = 50_000


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


class BoundedMerging(OverlappingFieldsCanBeMergedRule):
    """The specification's rule on fields of the same name, the one whose cost is quadratic, given up sooner."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MERGING_BUDGET


def rule(limits: DocumentLimits) -> type[ASTValidationRule]:
    """The rule with these limits; graphql-core makes an object of it for each document."""
    return type("OperationLimits", (OperationLimits,), {"limits": limits})
