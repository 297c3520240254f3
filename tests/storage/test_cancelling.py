"""Tasks that are to end."""

import asyncio
import sys
from contextlib import suppress

import pytest

from taskgraph.storage import cancelling

pytestmark = pytest.mark.anyio


async def test_a_task_ends_although_a_cancellation_got_lost() -> None:
    answers: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def ask_again_and_again() -> None:
        while True:
            answer = asyncio.get_running_loop().create_future()
            answers.put_nowait(answer)
            await asyncio.wait_for(answer, timeout=60)

    task = asyncio.create_task(ask_again_and_again())
    answer = await answers.get()
    answer.set_result(None)
    await cancelling.cancelled(task)
    assert task.cancelled()


async def test_a_loop_heeds_a_cancellation_that_got_lost() -> None:
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def ask_twice(*, heeding: bool) -> str:
        for _ in range(2):
            answers.put_nowait(answer := loop.create_future())
            await asyncio.wait_for(answer, timeout=60)
            if heeding:
                cancelling.heed()
        return "it was not heard of"

    async def cancelled_while_answered(*, heeding: bool) -> asyncio.Task[str]:
        task = asyncio.create_task(ask_twice(heeding=heeding))
        (await answers.get()).set_result(None)
        task.cancel()
        if not heeding:
            (await answers.get()).set_result(None)
        await asyncio.wait({task})
        return task

    assert (await cancelled_while_answered(heeding=True)).cancelled()
    # And in Python 3.12 and later nothing gets lost.
    assert sys.version_info >= (3, 12) or (await cancelled_while_answered(heeding=False)).result() == "it was not heard of"


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
