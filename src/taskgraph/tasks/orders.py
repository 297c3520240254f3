"""The orders in which tasks can be read. A tag names its order inside cursors: add new ones, never renumber."""

from enum import StrEnum

from taskgraph.storage.paging import ASCENDING, DESCENDING, KeyType, Order


class TaskOrderField(StrEnum):
    """What to order by; ties are broken by id."""

    CREATED_AT = "CREATED_AT"
    UPDATED_AT = "UPDATED_AT"
    DUE_DATE = "DUE_DATE"
    PRIORITY = "PRIORITY"
    TITLE = "TITLE"


class OrderDirection(StrEnum):
    """Smallest or earliest first, or the reverse."""

    ASC = "ASC"
    DESC = "DESC"


_KEYS = {
    TaskOrderField.CREATED_AT: (0, "createdAt", KeyType.DATE),
    TaskOrderField.UPDATED_AT: (1, "updatedAt", KeyType.DATE),
    TaskOrderField.DUE_DATE: (2, "dueOrder", KeyType.DATE),
    TaskOrderField.PRIORITY: (3, "priority", KeyType.NUMBER),
    TaskOrderField.TITLE: (4, "titleKey", KeyType.TEXT),
}
BEST_MATCH = Order(tag=100, key="score", key_type=KeyType.SCORE, direction=DESCENDING)
# Of the tasks on the other side of a task's dependencies. Ids grow with time, and come as text where a cursor is made of them.
LINKED_FIRST = Order(tag=101, key="edgeId", key_type=KeyType.TEXT, direction=ASCENDING)
_ORDERS = {
    (field, direction): Order(2 * number + is_descending, key, key_type, DESCENDING if is_descending else ASCENDING)
    for field, (number, key, key_type) in _KEYS.items()
    for direction, is_descending in ((OrderDirection.ASC, False), (OrderDirection.DESC, True))
}
NEWEST_FIRST = _ORDERS[TaskOrderField.CREATED_AT, OrderDirection.DESC]


def by(field: TaskOrderField, direction: OrderDirection) -> Order:
    """The order by a field."""
    return _ORDERS[field, direction]
