"""The enums of tasks, as the schema describes them."""

from taskgraph.server.enums import described
from taskgraph.tasks.bulk import BulkMode
from taskgraph.tasks.model import TaskPriority, TaskStatus
from taskgraph.tasks.orders import OrderDirection, TaskOrderField

__all__ = ["BulkMode", "OrderDirection", "TaskOrderField", "TaskPriority", "TaskStatus"]

described(
    TaskStatus,
    "Where the work stands.",
    TODO="Not begun.",
    IN_PROGRESS="Begun.",
    DONE="Finished; sets completedAt.",
    CANCELED="Will not be done.",
)
described(
    TaskPriority,
    "How much it matters; orders LOW < MEDIUM < HIGH < URGENT.",
    LOW="Some day.",
    MEDIUM="The ordinary case.",
    HIGH="Before the others.",
    URGENT="Now.",
)
described(
    TaskOrderField,
    "What to order tasks by; ties are broken by id.",
    CREATED_AT="When the task was created.",
    UPDATED_AT="When it was changed last.",
    DUE_DATE="When it is due; tasks without a due date come after all others when ascending, and first when descending.",
    PRIORITY="LOW < MEDIUM < HIGH < URGENT.",
    TITLE="By title, ignoring case.",
)
described(
    OrderDirection,
    "Which end comes first.",
    ASC="Smallest, earliest or first in the alphabet.",
    DESC="The reverse.",
)
described(
    BulkMode,
    "What happens to the other items of a call when one cannot be done.",
    ALL_OR_NOTHING="None of them is done.",
    BEST_EFFORT="Every other one is done.",
)
