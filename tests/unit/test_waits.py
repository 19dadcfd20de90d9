"""Waits that end by our own clock."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest
import redis

from scrapy_dist.waits import in_thread, within


async def test_a_wait_ends_and_what_was_waited_for_is_cancelled():
    waiting = asyncio.get_running_loop().create_future()
    with pytest.raises(redis.TimeoutError, match=r"no answer for 0\.01 s"):
        await within(0.01, waiting)
    assert waiting.cancelled()


@pytest.mark.parametrize("limit", [60.0, None])
async def test_time_out_of_the_kernel_is_an_error_of_redis(limit):
    async def read() -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    with pytest.raises(redis.TimeoutError, match="Connection timed out"):
        await within(limit, read())


async def test_result_and_other_errors_pass():
    async def divide(by: int) -> float:
        return 1 / by

    assert await within(60.0, divide(2)) == 0.5
    with pytest.raises(ZeroDivisionError):
        await within(60.0, divide(0))


async def test_thread_goes_on_when_nobody_waits_for_it_any_more():
    may_end = threading.Event()
    future = in_thread(lambda: may_end.wait(60))
    with pytest.raises(redis.TimeoutError):
        await within(0.01, asyncio.wrap_future(future))
    may_end.set()
    assert future.result(60) is True


async def test_error_in_a_thread_reaches_who_waits():
    with pytest.raises(ValueError, match="invalid literal"):
        await asyncio.wrap_future(in_thread(lambda: int("x")))
