"""What a client may send along with an operation, over HTTP and WebSocket alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskgraph.errors import BadUserInput
from taskgraph.server.limits import check_variables
from taskgraph.server.persisted import named


@dataclass(slots=True)
class Parameters:
    """Of one operation, as it was sent."""

    # Empty where the client only names its document.
    query: str
    operation_name: str | None
    variables: Mapping[str, Any] | None
    # A cursor of the event log: the answer must show that write and all before it.
    read_after: str | None = None
    document_id: str | None = None

    @classmethod
    def of(cls, sent: Any) -> "Parameters":
        """Checked by type; BadUserInput says which one is wrong."""
        if isinstance(sent, list):
            raise BadUserInput("Batches are not supported: send one operation per request.")
        if not isinstance(sent, dict):
            raise BadUserInput("The request must be a JSON object with a query.")
        query, name, variables = sent.get("query"), sent.get("operationName"), sent.get("variables")
        extensions = sent.get("extensions")
        if extensions is not None and not isinstance(extensions, dict):
            raise BadUserInput("extensions must be an object or null.")
        document_id = named(sent.get("documentId"), extensions)
        if not query and document_id is not None:
            query = ""
        elif not isinstance(query, str) or not query.strip():
            raise BadUserInput("query must be a GraphQL document in a string.")
        if name is not None and not isinstance(name, str):
            raise BadUserInput("operationName must be a string or null.")
        if variables is not None and not isinstance(variables, dict):
            raise BadUserInput("variables must be an object or null.")
        if variables:
            check_variables(variables)
        read_after = extensions.get("readAfter") if extensions else None
        if read_after is not None and not isinstance(read_after, str):
            raise BadUserInput("extensions.readAfter must be a cursor that a payload or an event gave, or null.")
        return cls(query, name or None, variables, read_after, document_id)
