"""Answers of queries, kept as bytes in this process for as long as nobody has changed the data behind them, and not for long.

The key holds the caller's names and the marks of their versions (storage/versions.py), read after the request began; so nobody is
given another's answer, or one older than a write that was acknowledged before. What is kept is bounded in bytes and in time.

Only queries whose root fields are all `repeatable`, and only answers without errors that did not depend on the time of day.
"""

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import orjson
import strawberry
from bson import Timestamp
from graphql import FieldNode, FragmentSpreadNode, SelectionSetNode
from graphql.execution.collect_fields import FragmentDetails
from strawberry.schema.schema_converter import GraphQLCoreConverter

from taskgraph.server.documents import is_query
from taskgraph.server.executor import Answer, Executor, Operation
from taskgraph.server.fields import REPEATABLE
from taskgraph.server.gate import Caller, OperationContext
from taskgraph.server.plans import Compiled
from taskgraph.storage.change_tail import Change, Subscription
from taskgraph.storage.versions import PROFILES, Versions

CAPACITY_BYTES = 64 * 1024 * 1024
# What an entry takes besides its texts: the key, the marks, the places in the tables.
ENTRY_BYTES = 1000
GENERATIONS = 100_000
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: Answer
    expires_at: float
    size_bytes: int


class ResponseCache:
    """In front of the executor, for operations over HTTP; the answer used least recently goes first. 0 seconds: keeps nothing."""

    def __init__(self, schema: strawberry.Schema, executor: Executor, versions: Versions, *, seconds: int) -> None:
        self._query = schema._schema.query_type  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        self._executor = executor
        self._versions = versions
        self._seconds = seconds
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._size_bytes = 0
        self._running: dict[Key, asyncio.Future[Answer | None]] = {}
        self._is_repeatable: WeakKeyDictionary[Compiled, bool] = WeakKeyDictionary()
        self._generations: dict[Hashable, int] = {}
        self._next_generation = itertools.count(1)
        self.hits = self.misses = 0

    async def run(self, operation: Operation, caller: Caller, new_context: Callable[[], OperationContext]) -> Answer:
        """The operation's answer, kept or made now."""
        chosen = operation.chosen
        if not self._seconds or not caller.versions or not self._can_repeat(chosen):
            return await self._executor.run(operation, new_context())
        marks = await self._versions.current(caller.versions)
        variables = _canonical(operation.variables or {})
        if variables is None:
            return await self._executor.run(operation, new_context())
        key = (chosen.identity, variables, caller.versions, marks, *map(self._generations.get, caller.versions))
        if (kept := self._kept(key)) is not None:
            self.hits += 1
            return kept
        if (running := self._running.get(key)) is None:
            self.misses += 1
            return await self._make(key, operation, new_context())
        # Shielded: who leaves must not take the answer from the others.
        shared = await asyncio.shield(running)
        if shared is None:
            # It failed, or cannot be kept: waiting for one another again and again would make a queue of what can run side by side.
            self.misses += 1
            return await self._executor.run(operation, new_context())
        self.hits += 1
        return shared

    @property
    def subscriptions(self) -> list[Subscription]:
        """What the change stream should report, lest a writer die between its commit and the new mark."""

        def event(change: Change) -> None:
            self._outdate(change.detail["fullDocument"]["ownerId"])

        def profile(_change: Change) -> None:
            self._outdate(PROFILES)

        def restart(_time: Timestamp) -> None:
            self._clear()

        changed = {"operationType": {"$in": ["update", "replace", "delete"]}}
        return [
            Subscription("events", {"operationType": "insert"}, event, restart),
            Subscription("users", changed, profile, restart),
        ]

    def _outdate(self, name: Hashable) -> None:
        self._generations[name] = next(self._next_generation)
        if len(self._generations) > GENERATIONS:
            self._clear()

    def _clear(self) -> None:
        # New answers must not meet old ones under the same key: what is being made now is not kept.
        self._generations.clear()
        self._entries.clear()
        self._running.clear()
        self._size_bytes = 0

    async def _make(self, key: Key, operation: Operation, context: OperationContext) -> Answer:
        running = self._running[key] = asyncio.get_running_loop().create_future()
        shared: Answer | None = None
        try:
            answer = await self._executor.run(operation, context)
            if answer.errors:
                return answer
            if not context.is_repeatable:
                return answer
            shared = Answer(None, (), encoded=answer.encode())
            if self._running.get(key) is running:
                self._keep(key, shared)
            return shared
        finally:
            if self._running.get(key) is running:
                del self._running[key]
            running.set_result(shared)

    def _kept(self, key: Key) -> Answer | None:
        entry = self._entries.get(key)
        if entry is None or entry.expires_at <= time.monotonic():
            return None
        self._entries.move_to_end(key)
        return entry.answer

    def _keep(self, key: Key, answer: Answer) -> None:
        size_bytes = ENTRY_BYTES + len(answer.encode()) + len(key[1])
        if (before := self._entries.pop(key, None)) is not None:
            self._size_bytes -= before.size_bytes
        self._entries[key] = _Entry(answer, time.monotonic() + self._seconds, size_bytes)
        self._size_bytes += size_bytes
        while self._size_bytes > CAPACITY_BYTES:
            _, oldest = self._entries.popitem(last=False)
            self._size_bytes -= oldest.size_bytes

    def _can_repeat(self, chosen: Compiled) -> bool:
        known = self._is_repeatable.get(chosen)
        if known is None:
            names = set(_root_names(chosen.operation.selection_set, chosen.fragments, set()))
            known = is_query(chosen.operation) and all(map(self._is_repeatable_field, names))
            self._is_repeatable[chosen] = known
        return known

    def _is_repeatable_field(self, name: str) -> bool:
        if self._query is None or name not in self._query.fields:
            return name == "__typename"
        declared = self._query.fields[name].extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
        return bool(REPEATABLE.items() <= declared.metadata.items())


def _root_names(selected: SelectionSetNode, fragments: Mapping[str, FragmentDetails], seen: set[str]) -> Iterator[str]:
    """Each fragment once, however often it is spread: fragments that spread each other twice would double the work with each."""
    for node in selected.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
        elif isinstance(node, FragmentSpreadNode):
            if node.name.value not in seen:
                seen.add(node.name.value)
                yield from _root_names(fragments[node.name.value].definition.selection_set, fragments, seen)
        else:
            yield from _root_names(node.selection_set, fragments, seen)  # type: ignore[attr-defined]  # an inline fragment is what is left


def _canonical(variables: Mapping[str, Any]) -> bytes | None:
    """The same bytes for the same variables; None for what is nested too deep to be written."""
    try:
        return orjson.dumps(variables, option=orjson.OPT_SORT_KEYS) if variables else b""
    except TypeError:
        return None
