"""The kinds of fields of an object that wraps a document: `stored` takes a value from it, `derived` makes one of what is stored,
`wrapped` shows it, or other documents at hand, as another type, `batched` loads something for many objects at once.

They say in their metadata what they do and which keys of the document they read, so that the compiled executor can do it for a
whole list without calling a resolver for each object, and ask the database for those keys alone; graphql-core calls the
resolvers made here. There is one definition for both.
"""

import inspect
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import strawberry

from taskgraph.storage.mongo import Document, Projection

Source = TypeVar("Source")
ContextType = TypeVar("ContextType")
RootType = TypeVar("RootType")
STORED, DERIVED, WRAPPED, BATCHED, READS = "stored", "derived", "wrapped", "batched", "reads"
# The metadata of root fields whose answers may be kept until the data of the caller's versions changes.
REPEATABLE = {"repeatable": True}


@dataclass
class FieldInfo(strawberry.Info[ContextType, RootType]):
    """What a resolver is told. `projection` is what the selection below the field reads of the documents that the field returns."""

    projection: Projection = None


@dataclass(frozen=True, slots=True)
class Reading(Generic[Source]):
    """How a batched field gets its value: `key` of an object (None: nothing to load), `batch` for all keys, `show` for each value."""

    batch: Callable[..., Awaitable[list[Any]]]
    key: Callable[[Source], Hashable | None]
    show: Callable[[Source, Any], Any]


@dataclass(frozen=True, slots=True)
class Wrapped:
    """How a field makes objects around documents: `wrap(object, document)`; of the object's own document where `documents` is None."""

    wrap: Callable[[Any, Any], Any]
    documents: Callable[[Any], Sequence[Document]] | None = None


def stored(key: str, description: str) -> Any:
    """A field that is read from the object's stored document as it is."""

    def read(self: Any) -> Any:
        return self.document[key]

    return strawberry.field(resolver=read, description=description, metadata={STORED: key, READS: frozenset({key})})


def derived(*reads: str, description: str, directives: Sequence[object] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Decorates the resolver of a field that follows from these keys of the object's document, and from nothing else of it."""
    field: Callable[[Callable[..., Any]], Any] = strawberry.field(
        description=description, directives=directives, metadata={DERIVED: True, READS: frozenset(reads)}
    )
    return field


def wrapped(
    wrap: Callable[[Any, Any], Any],
    description: str,
    *,
    documents: Callable[[Any], Sequence[Document]] | None = None,
    directives: Sequence[object] = (),
) -> Any:
    """A field that shows the object's document, or each of `documents` that it has at hand, as what `wrap` makes of it."""

    def read(self: Any) -> Any:
        return wrap(self, self.document) if documents is None else [wrap(self, document) for document in documents(self)]

    return strawberry.field(
        resolver=read, description=description, directives=directives, metadata={WRAPPED: Wrapped(wrap, documents)}
    )


def batched(plan: Callable[..., Reading[Any]], description: str, *, reads: Sequence[str], directives: Sequence[object] = ()) -> Any:
    """A field whose values are loaded together. `plan(info, **arguments)` is called once for all objects at a place of the operation;
    `reads` are the keys of the object's document that it needs for that.

    The field has the plan's arguments, and the type of the annotation that it is assigned to.
    """
    signature = inspect.signature(plan)
    info_name = next(iter(signature.parameters))

    async def read(self: Any, **arguments: Any) -> Any:
        reading = plan(**arguments)
        key = reading.key(self)
        return reading.show(self, None if key is None else await arguments[info_name].context.loader.load(reading.batch, key))

    source = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    read.__signature__ = signature.replace(parameters=[source, *signature.parameters.values()])  # type: ignore[attr-defined]
    read.__annotations__ = {name: kind for name, kind in plan.__annotations__.items() if name != "return"}
    read.__name__, read.__qualname__, read.__module__ = plan.__name__, plan.__qualname__, plan.__module__
    return strawberry.field(
        resolver=read, description=description, directives=directives, metadata={BATCHED: plan, READS: frozenset(reads)}
    )
