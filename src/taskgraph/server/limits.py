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
    SelectionSetNode,
    ValidationContext,
)


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Upper bounds per operation: nested fields, aliased fields, lexical tokens."""

    max_depth: int
    max_aliases: int
    max_tokens: int


def rule(limits: DocumentLimits) -> type[ASTValidationRule]:
    """A validation rule for graphql-core that refuses operations beyond the limits."""

    class OperationLimits(ASTValidationRule):
        """One visit per document; each fragment is measured once."""

        def __init__(self, context: ValidationContext) -> None:
            super().__init__(context)
            self._sizes: dict[str, tuple[int, int]] = {}

        def enter_document(self, document: DocumentNode, *_args: object) -> None:
            for definition in document.definitions:
                if isinstance(definition, OperationDefinitionNode):
                    depth, aliases = self._measure(definition.selection_set, frozenset())
                    name = f"Operation {definition.name.value!r}" if definition.name else "The operation"
                    if depth > limits.max_depth:
                        self._refuse(definition, f"{name} nests {depth} levels deep; {limits.max_depth} are allowed.")
                    if aliases > limits.max_aliases:
                        self._refuse(definition, f"{name} has {aliases} aliases; {limits.max_aliases} are allowed.")

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

    return OperationLimits
