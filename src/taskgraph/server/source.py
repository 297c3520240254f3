"""Functions that are written for one operation: the text of each, and the objects that the text speaks of.

A closure calls another one for every part of its work; in a text written for the purpose the parts stand in one expression,
which costs half.
"""

from collections.abc import Callable, Iterable
from typing import Any

Lines = list[str]


class Source:
    """The text of a function on its way. Texts hold nothing of a client's but response keys, as literals."""

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}
        self._first: Lines = []
        self._variables = 0

    def name(self, known: object) -> str:
        """What the text may call an object."""
        name = f"_{len(self._objects)}"
        self._objects[name] = known
        return name

    def variable(self) -> str:
        """A name that the text has not used yet."""
        self._variables += 1
        return f"v{self._variables}"

    def first(self, line: str) -> None:
        """What the function does once, before anything else."""
        self._first.append(line)

    def function(self, parameters: str, body: Lines) -> Callable[..., Any]:
        """The function with this body. The names above are its globals."""
        text = "\n".join([f"def written({parameters}):", *indented([*self._first, *body])])
        exec(compile(text, "<plan>", "exec"), self._objects)  # noqa: S102 - see the class
        return self._objects.pop("written")  # type: ignore[no-any-return]


def indented(body: Iterable[str]) -> Lines:
    """The lines as the body of what is written before them."""
    return [f" {line}" for line in body]
