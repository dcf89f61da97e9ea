"""Waiting for work that is quick, slow, or deaf."""

from __future__ import annotations

import asyncio

import pytest
from tests.harness.waiting import DEADLINE

from assessmentstore.store.patience import within


async def test_the_result_and_the_error_of_the_work_come_through() -> None:
    async def work(number: int) -> float:
        return 1 / number

    assert await within(5, work(2)) == 0.5
    with pytest.raises(ZeroDivisionError):
        await within(5, work(0))


async def test_work_that_does_not_hear_its_cancellation_is_left_behind() -> None:
    heard, released = asyncio.Event(), asyncio.Event()

    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.set()
            await released.wait()

    with pytest.raises(TimeoutError, match="no answer within"):
        await within(0.01, deaf())

    try:
        await asyncio.wait_for(heard.wait(), DEADLINE)
    finally:
        released.set()


async def test_a_caller_that_is_cancelled_takes_the_work_along() -> None:
    started, heard = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            heard.set()

    caller = asyncio.create_task(within(60, work()))
    await started.wait()
    caller.cancel()

    await asyncio.wait_for(heard.wait(), DEADLINE)
    assert caller.cancelled()
