"""Messages of subscriptions, made once for all who are sent the same.

Each subscriber has a source stream of its own: its own start, its own queue, its own pace. What a message is shown as depends on
no more than the operation, the variables used below its root field and the viewer. Subscribers alike in these are on one channel.
"""

import asyncio
import json
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakValueDictionary

import orjson

from taskgraph.server.executor import Executor, Operation
from taskgraph.server.gate import OperationContext


class Streams:
    """The channels of this process; each lives as long as somebody is on it. `subscribers` counts those on all."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.subscribers = 0
        self._channels: WeakValueDictionary[Hashable, Channel] = WeakValueDictionary()

    def channel(self, operation: Operation, viewer: object) -> "Channel":
        """The one for this operation, which has begun, so its variables are known to fit."""
        chosen, variables = operation.chosen, operation.variables or {}
        given = {name: variables[name] for name in chosen.inner_variables if name in variables}
        # Not orjson, which refuses to write some of the depths that it reads.
        key = chosen, json.dumps(given, sort_keys=True), viewer
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = Channel(self._executor, operation)
        return channel


class Channel:
    """One operation with its variables, as one viewer sees it."""

    __slots__ = ("__weakref__", "_executor", "_operation")

    def __init__(self, executor: Executor, operation: Operation) -> None:
        self._executor = executor
        self._operation = operation

    def rendered(self, message: Any) -> str | None:
        """What `payload` would give, where that has been made: the way of all but the first who are handed a message."""
        renderings: dict[Channel, Rendering] | None = getattr(message, "renderings", None)
        rendering = None if renderings is None else renderings.get(self)
        return None if rendering is None else rendering.payload

    async def payload(self, message: Any, new_context: Callable[[], OperationContext]) -> str:
        """The response to a message as JSON, made after it arrived, in a context of its own.

        A message that has `renderings` is shown once for everybody on the channel who was handed the same one.
        """
        renderings: dict[Channel, Rendering] | None = getattr(message, "renderings", None)
        if renderings is None:
            return await self._render(message, new_context)
        rendering = renderings.get(self)
        if rendering is None:
            rendering = renderings[self] = Rendering()
        if rendering.payload is None:
            # Whoever comes first may leave, cancelled, before it is done; then the next one makes it.
            async with rendering.lock:
                if rendering.payload is None:
                    rendering.payload = await self._render(message, new_context)
        return rendering.payload

    async def _render(self, message: Any, new_context: Callable[[], OperationContext]) -> str:
        answer = await self._executor.run(self._operation, new_context(), source=message)
        return orjson.dumps(answer.body).decode()


class Rendering:
    """What a channel makes of a message, once it has."""

    __slots__ = ("lock", "payload")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.payload: str | None = None
