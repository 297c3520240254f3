"""Inputs of which one member must be given: the part of the specification's rule that graphql-core does not see."""

from typing import Any

from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    NonNullTypeNode,
    OperationDefinitionNode,
    ValidationRule,
    get_nullable_type,
)


class OneOfVariables(ValidationRule):
    """A variable that may be null cannot be the one member. graphql-core takes an input that must be given for another type."""

    def leave_operation_definition(self, operation: OperationDefinitionNode, *_args: Any) -> None:
        """Looks at every use of its variables, in fragments, too."""
        defined = {each.variable.name.value: each for each in operation.variable_definitions or ()}
        for usage in self.context.get_recursive_variable_usages(operation):
            kind, definition = get_nullable_type(usage.parent_type), defined.get(usage.node.name.value)
            is_one_of = isinstance(kind, GraphQLInputObjectType) and kind.is_one_of
            if is_one_of and definition is not None and not isinstance(definition.type, NonNullTypeNode):
                message = f"Variable '${usage.node.name.value}' must be non-nullable to be used for OneOf Input Object '{kind}'."
                self.report_error(GraphQLError(message, [definition, usage.node]))
