"""A compiled operation and how it runs: root fields first, then breadth first, wave by wave.

The happy path only. Whatever is unexpected raises, `Deoptimised` or an error of a resolver, and graphql-core answers instead.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

from graphql.execution.values import VariableValues


class Unsupported(Exception):
    """The operation cannot be compiled; the message says why."""


class Deoptimised(Exception):
    """The plan cannot answer this time; the message says why."""


@dataclass(slots=True)
class Run:
    """One execution. `roots` remembers what each root field gave, a result or an exception, so that none ever runs twice.

    `source` is what root fields are resolved on: the message of a subscription, otherwise None.
    """

    context: Any
    variables: VariableValues
    roots: dict[str, Any]
    waiting: "Waiting" = field(default_factory=lambda: defaultdict(list))
    source: Any = None


Complete = Callable[[Any, Run], Any]


@dataclass(eq=False, slots=True)
class Place:
    """A field, at one place of the operation, whose values are awaited for all objects together."""

    key: str
    load: Callable[[Sequence[Any], Run], Awaitable[Sequence[Any]]]
    complete: Complete


# The objects at each place, and what is to be filled in of the answer.
Waiting = defaultdict[Place, list[tuple[Any, dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Root:
    """A root field: `resolve` gives its value or an awaitable of it, `complete` makes the output of a value."""

    key: str
    resolve: Callable[[Run], Any]
    complete: Complete


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled operation. `constants` are the root fields that need no running; `keys` is the order of the answer.

    `fields` counts every place where one stands: what the plan's memory grows with.
    """

    roots: Sequence[Root]
    constants: Mapping[str, str]
    keys: Sequence[str]
    is_serial: bool
    fields: int

    async def run(self, run: Run) -> dict[str, Any]:
        """The data of the answer. Deoptimised, or whatever a resolver raises; `run.roots` tells what has been run by then."""
        found: dict[str, Any] = dict(self.constants)
        if self.is_serial:
            for root in self.roots:
                await _resolve(root, run)
                found[root.key] = root.complete(run.roots[root.key], run)
                await _fill_waiting(run)
        else:
            await _resolve_all(self.roots, run)
            for root in self.roots:
                found[root.key] = root.complete(run.roots[root.key], run)
            await _fill_waiting(run)
        return {key: found[key] for key in self.keys}


async def _resolve(root: Root, run: Run) -> None:
    try:
        value = root.resolve(run)
        run.roots[root.key] = await value if isawaitable(value) else value
    except Exception as error:
        run.roots[root.key] = error
        raise


async def _resolve_all(roots: Sequence[Root], run: Run) -> None:
    """Every root runs to its end, also when another fails: what has begun must be remembered."""
    if len(roots) == 1:
        await _resolve(roots[0], run)
        return
    results = await asyncio.gather(*(_resolve(root, run) for root in roots), return_exceptions=True)
    for result in results:
        if result is not None:
            raise result


async def _fill_waiting(run: Run) -> None:
    """All places of a depth load at the same time, so that equal batches become one query; what they give may wait again."""
    while run.waiting:
        wave, run.waiting = run.waiting, defaultdict(list)
        loads = [place.load([source for source, _ in pairs], run) for place, pairs in wave.items()]
        loaded = await asyncio.gather(*loads) if len(loads) > 1 else [await loads[0]]
        for (place, pairs), values in zip(wave.items(), loaded, strict=True):
            for (_, target), value in zip(pairs, values, strict=True):
                target[place.key] = place.complete(value, run)
