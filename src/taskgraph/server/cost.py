"""What fields say about their price: `@cost` and `@listSize` in the SDL, written beside the fields; server/prices.py adds them up.

A field costs its weight, 1 if it gives objects and 0 if it gives values, times its size, 1 unless it has `@listSize`. What stands
below a list is multiplied by the list's size. A field with a size that gives no list, a connection for instance, hands the size
down to the lists in it: `nodes` and `edges` are free, because the page that they show is what has been paid for. An argument with a
weight adds that for each value in it, however short the page: what is looked through to find one task is paid for as well.
"""

import strawberry
from strawberry import UNSET
from strawberry.schema_directive import Location

PAGE_DEFAULT = 20


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION, Location.ARGUMENT_DEFINITION],
    name="cost",
    description="What a field costs for each of its items: 1 if it gives objects, 0 if it gives values, unless this says otherwise. "
    "Of an argument: what each value in it adds, once; a list of values is one.",
)
class Cost:
    """Beside a field or an argument."""

    weight: int


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="listSize",
    description="How many items a list field is priced at: the first present slicing argument, else assumedSize.",
)
class ListSize:
    """Beside a field. A slicing argument may be a path into an input, `input.tasks`; a list counts its length."""

    assumed_size: int | None = UNSET
    slicing_arguments: list[str] | None = UNSET


FREE = Cost(weight=0)
FORWARD_PAGE = ListSize(assumed_size=PAGE_DEFAULT, slicing_arguments=["first"])
PAGE = ListSize(assumed_size=PAGE_DEFAULT, slicing_arguments=["first", "last"])
# Few tasks wait for more.
LINKED_PAGE = ListSize(assumed_size=5, slicing_arguments=["first"])
# One transaction with its event.
WRITE = Cost(weight=10)
# What meets a condition may be the last of all tasks, or none.
CONDITION = Cost(weight=10)
# Every word is looked up, and what has it is scored.
SEARCH = Cost(weight=20)
# A password is hashed, which keeps a core busy for tens of milliseconds.
SIGN_IN = Cost(weight=50)
# A document that is new has to be parsed and validated.
PREPARATION = Cost(weight=20)
# The metadata of root fields that count as attempts to sign in.
SIGNS_IN = {"signs in": True}
