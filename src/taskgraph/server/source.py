"""Functions that are written for one operation: the text of each, and the objects that the text speaks of.

A closure calls another one for every part of its work; in a text written for the purpose the parts stand in one expression,
which costs half.
"""

from collections.abc import Callable
from textwrap import indent
from typing import Any


class Source:
    """The text of a function on its way. Texts hold nothing of a client's but response keys, as literals."""

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}

    def name(self, known: object) -> str:
        """What the text may call an object."""
        name = f"_{len(self._objects)}"
        self._objects[name] = known
        return name

    def function(self, parameters: str, body: str) -> Callable[..., Any]:
        """The function with this body. The names above are its globals."""
        text = f"def written({parameters}):\n{indent(body, ' ')}\n"
        exec(compile(text, "<plan>", "exec"), self._objects)  # noqa: S102 - see the class
        return self._objects.pop("written")  # type: ignore[no-any-return]
