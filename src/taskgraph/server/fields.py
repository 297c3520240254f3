"""The two kinds of fields that read: `stored` takes a value from the object's document, `batched` loads one for many objects at once.

Both say in their metadata what they do, so that the compiled executor can do it for a whole list without calling a resolver
for each object; graphql-core calls the resolvers made here. There is one definition for both.
"""

import inspect
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import strawberry

Source = TypeVar("Source")
STORED, BATCHED = "stored", "batched"


@dataclass(frozen=True, slots=True)
class Reading(Generic[Source]):
    """How a batched field gets its value: `key` of an object (None: nothing to load), `batch` for all keys, `show` for each value."""

    batch: Callable[[Any, Sequence[Any]], Awaitable[list[Any]]]
    key: Callable[[Source], Hashable | None]
    show: Callable[[Source, Any], Any]


def stored(key: str, description: str) -> Any:
    """A field that is read from the object's stored document as it is."""

    def read(self: Any) -> Any:
        return self.document[key]

    return strawberry.field(resolver=read, description=description, metadata={STORED: key})


def batched(plan: Callable[..., Reading[Any]], description: str) -> Any:
    """A field whose values are loaded together. `plan(info, **arguments)` is called once for all objects at a place of the operation.

    The field has the plan's arguments, and the type of the annotation that it is assigned to.
    """
    signature = inspect.signature(plan)
    info_name = next(iter(signature.parameters))

    async def read(self: Any, **arguments: Any) -> Any:
        reading = plan(**arguments)
        key = reading.key(self)
        return reading.show(self, None if key is None else await arguments[info_name].context.load(reading.batch, key))

    source = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    read.__signature__ = signature.replace(parameters=[source, *signature.parameters.values()])  # type: ignore[attr-defined]
    read.__annotations__ = {name: kind for name, kind in plan.__annotations__.items() if name != "return"}
    read.__name__, read.__qualname__, read.__module__ = plan.__name__, plan.__qualname__, plan.__module__
    return strawberry.field(resolver=read, description=description, metadata={BATCHED: plan})
