"""Windows, pages and cursors by themselves; what they do to real lists of tasks is in tests/tasks."""

import string
import struct
import zlib
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from taskgraph.errors import BadUserInput
from taskgraph.storage import paging
from taskgraph.storage.paging import ASCENDING, DESCENDING, KeyType, Order, Position, Window

ALPHABET = string.ascii_letters + string.digits + "-_"
BY_DATE = Order(tag=1, key="at", key_type=KeyType.DATE, direction=ASCENDING)
BY_TEXT = Order(tag=2, key="title", key_type=KeyType.TEXT, direction=DESCENDING)
BY_NUMBER = Order(tag=3, key="priority", key_type=KeyType.NUMBER, direction=ASCENDING)
BY_SCORE = Order(tag=100, key="score", key_type=KeyType.SCORE, direction=DESCENDING)
NOON = datetime(2026, 11, 22, 12)  # noqa: DTZ001 - as stored
ID = ObjectId("0123456789abcdef01234567")

milliseconds = st.integers(0, 315_537_811_199_999).map(lambda number: datetime.min + timedelta(milliseconds=number))  # noqa: DTZ901
positions = st.one_of(
    st.tuples(st.just(BY_DATE), milliseconds),
    st.tuples(st.just(BY_TEXT), st.text(max_size=300)),
    st.tuples(st.just(BY_NUMBER), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(BY_SCORE), st.floats(allow_nan=False)),
)


@hypothesis(max_examples=100, derandomize=True, deadline=None, database=None)
@given(chosen=positions, raw_id=st.binary(min_size=12, max_size=12))
def test_a_cursor_gives_back_the_position_it_was_made_for(chosen: tuple[Order, Any], raw_id: bytes) -> None:
    order, key = chosen
    cursor = paging.encode_cursor(order, {"_id": ObjectId(raw_id), order.key: key})
    assert set(cursor) <= set(string.hexdigits.lower())
    assert paging.decode_cursor(cursor, order, argument="after") == Position(key, ObjectId(raw_id))


@pytest.mark.parametrize(("order", "key"), [(BY_DATE, NOON), (BY_TEXT, ""), (BY_TEXT, "häß"), (BY_NUMBER, 4), (BY_SCORE, 12.5)])
def test_a_cursor_with_any_other_character_at_any_place_is_refused(order: Order, key: Any) -> None:
    cursor = paging.encode_cursor(order, {"_id": ID, order.key: key})
    for place, letter in enumerate(cursor):
        for other in ALPHABET.replace(letter, ""):
            with pytest.raises(BadUserInput, match=r"^after is not a cursor of this API; pass one exactly as it was received\.$"):
                paging.decode_cursor(cursor[:place] + other + cursor[place + 1 :], order, argument="after")


@hypothesis(max_examples=200, derandomize=True, deadline=None, database=None)
@given(raw=st.binary(min_size=17, max_size=60))
def test_bytes_that_nobody_signed_are_no_cursor(raw: bytes) -> None:
    with pytest.raises(BadUserInput, match=r"^before is not a cursor of this API"):
        paging.decode_cursor(raw.hex(), BY_DATE, argument="before")


@hypothesis(max_examples=200, derandomize=True, deadline=None, database=None)
@given(text=st.text(max_size=60))
def test_any_text_is_no_cursor(text: str) -> None:
    with pytest.raises(BadUserInput, match=r"^after is not a cursor of this API"):
        paging.decode_cursor(text, BY_TEXT, argument="after")


@pytest.mark.parametrize("packed", [(2**31 - 1, 0, 0), (-(2**31), 0, 0), (2_932_896, 86_400, 0)])
def test_a_date_that_does_not_exist_is_no_cursor_though_it_is_well_formed(packed: tuple[int, int, int]) -> None:
    body = struct.pack(">B12siIH", BY_DATE.tag, ID.binary, *packed)
    with pytest.raises(BadUserInput, match=r"^after is not a cursor of this API"):
        paging.decode_cursor((zlib.crc32(body).to_bytes(4, "big") + body).hex(), BY_DATE, argument="after")


def test_a_cursor_of_another_order_is_refused_by_name() -> None:
    cursor = paging.encode_cursor(BY_DATE, {"_id": ID, "at": NOON})
    with pytest.raises(
        BadUserInput, match=r"^before is a cursor of another ordering; start again from the first page of this one\.$"
    ):
        paging.decode_cursor(cursor, BY_TEXT, argument="before")


@pytest.mark.parametrize(
    ("given_sizes", "size", "is_backward"),
    [({}, 20, False), ({"first": 1}, 1, False), ({"first": 100}, 100, False), ({"last": 1}, 1, True), ({"last": 100}, 100, True)],
)
def test_a_window_has_the_size_that_was_asked_for(given_sizes: dict[str, Any], size: int, *, is_backward: bool) -> None:
    assert paging.window(BY_DATE, **given_sizes) == Window(BY_DATE, size, is_backward=is_backward)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"first": 0}, "first must be between 1 and 100."),
        ({"first": 101}, "first must be between 1 and 100."),
        ({"last": -5}, "last must be between 1 and 100."),
        ({"first": 5, "last": 5}, "Give first or last, not both."),
    ],
)
def test_a_window_of_an_impossible_size_is_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadUserInput) as refused:
        paging.window(BY_DATE, **sizes)
    assert str(refused.value) == message


def test_before_alone_reads_backward_and_together_with_after_forward() -> None:
    cursor = paging.encode_cursor(BY_DATE, {"_id": ID, "at": NOON})
    assert paging.window(BY_DATE, before=cursor).is_backward is True
    assert paging.window(BY_DATE, after=cursor, before=cursor).is_backward is False
    assert paging.window(BY_DATE, first=2, before=cursor).is_backward is False


def test_a_page_keeps_one_document_fewer_than_were_read() -> None:
    documents = [{"_id": number} for number in range(3)]
    forward = paging.page_of(Window(BY_DATE, 2), documents)
    assert (forward.documents, forward.has_next, forward.has_previous) == (documents[:2], True, False)
    backward = paging.page_of(Window(BY_DATE, 2, is_backward=True), documents)
    assert (backward.documents, backward.has_next, backward.has_previous) == (documents[1::-1], False, True)
    whole = paging.page_of(Window(BY_DATE, 3, after=Position(NOON, ID)), documents)
    assert (whole.documents, whole.has_next, whole.has_previous) == (documents, False, True)
