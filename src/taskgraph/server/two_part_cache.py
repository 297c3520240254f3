"""A cache that a flood of values asked for once cannot empty: bounded by weight, in two parts (a segmented LRU).

What is new is on probation. What is asked for again while it is there becomes protected, and goes back on probation when the
protected part has no room for it. So values that nobody asks for again only push out each other.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# Of the capacity. A value that is asked for again must find itself still on probation, so that may not be too small.
PROBATION_SHARE = 0.2


class TwoPartCache(Generic[Key, Value]):
    """Least recently used first out, in each part. Weights are the caller's; a value heavier than probation is not kept."""

    def __init__(self, capacity: int) -> None:
        self._probation_capacity = int(capacity * PROBATION_SHARE)
        self._protected_capacity = capacity - self._probation_capacity
        self._probation = _Part[Key, Value]()
        self._protected = _Part[Key, Value]()

    def __len__(self) -> int:
        return len(self._probation.entries) + len(self._protected.entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._protected.entries or key in self._probation.entries

    @property
    def weight(self) -> int:
        """Of all that is kept; never more than the capacity."""
        return self._probation.weight + self._protected.weight

    def get(self, key: Key) -> Value | None:
        """The value, which is protected from now on; None when it is not kept."""
        if (entry := self._protected.entries.get(key)) is not None:
            self._protected.entries.move_to_end(key)
            return entry[0]
        if key not in self._probation.entries:
            return None
        value, weight = self._probation.remove(key)
        self._protected.add(key, value, weight)
        self._settle()
        return value

    def keep(self, key: Key, value: Value, weight: int) -> None:
        """Takes in a value whose key is not there yet."""
        if weight <= self._probation_capacity:
            self._probation.add(key, value, weight)
            self._settle()

    def reweigh(self, key: Key, value: Value, weight: int) -> None:
        """Tells that the value of this key weighs something else now; nothing if that is no longer kept, or another is."""
        for part in (self._protected, self._probation):
            if key in part.entries and part.entries[key][0] is value:
                part.remove(key)
                if weight <= self._probation_capacity:
                    part.add(key, value, weight)
        self._settle()

    def _settle(self) -> None:
        while self._protected.weight > self._protected_capacity:
            self._probation.add(*self._protected.pop_oldest())
        while self._probation.weight > self._probation_capacity:
            self._probation.pop_oldest()


class _Part(Generic[Key, Value]):
    """Values with their weights, the one used least recently first."""

    def __init__(self) -> None:
        self.entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.weight = 0

    def add(self, key: Key, value: Value, weight: int) -> None:
        self.entries[key] = value, weight
        self.weight += weight

    def remove(self, key: Key) -> tuple[Value, int]:
        value, weight = self.entries.pop(key)
        self.weight -= weight
        return value, weight

    def pop_oldest(self) -> tuple[Key, Value, int]:
        key, (value, weight) = self.entries.popitem(last=False)
        self.weight -= weight
        return key, value, weight
