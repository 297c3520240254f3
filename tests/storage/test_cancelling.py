"""Tasks that are to end."""

import asyncio
from contextlib import suppress

import pytest

from taskgraph.storage import cancelling

pytestmark = pytest.mark.anyio


async def test_a_cancellation_does_not_get_lost_in_the_turn_in_which_the_answer_comes() -> None:
    answer = asyncio.get_running_loop().create_future()

    async def ask() -> None:
        await asyncio.wait_for(answer, timeout=60)
        await asyncio.Event().wait()

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    answer.set_result(None)
    await cancelling.cancelled(task)
    assert task.cancelled()


async def test_what_is_waited_for_too_long_is_cancelled() -> None:
    answer = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answer, timeout=0.01)
    assert answer.cancelled()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(60), timeout=0)


async def test_what_comes_in_time_is_given_and_what_fails_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("no such thing")

    assert await asyncio.wait_for(asyncio.sleep(0, "done"), timeout=60) == "done"
    assert await asyncio.wait_for(asyncio.sleep(0, "done"), timeout=None) == "done"
    with pytest.raises(ValueError, match="no such thing"):
        await asyncio.wait_for(fail(), timeout=60)


async def test_a_task_that_takes_its_time_to_end_is_waited_for() -> None:
    steps = []

    async def end_slowly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            steps.append("put away")

    task = asyncio.create_task(end_slowly())
    await asyncio.sleep(0)
    await cancelling.cancelled(task)
    assert steps == ["put away"]


async def test_a_task_that_failed_is_over() -> None:
    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    with suppress(ValueError):
        await task
    await cancelling.cancelled(task)
    assert isinstance(task.exception(), ValueError)
