"""Waits that end by our own clock."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
import redis

from scrapy_dist.base import waits
from scrapy_dist.base.waits import Threads, cancel, in_thread, sleep_until, wait_for
from scrapy_dist.redis_client.waits import within


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


async def test_who_is_cancelled_when_the_result_comes_is_cancelled():
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(wait_for(answer, 60))
    await asyncio.sleep(0)
    answer.set_result("late")
    # What waits for it is told in the next turn: it has the result, and is cancelled.
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_what_is_waited_for_has_ended_when_the_wait_is_cancelled():
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    waiting = asyncio.ensure_future(wait_for(work(), 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await cancel([waiting])
    assert waiting.cancelled()
    assert ended == [True]


async def test_result_of_what_does_not_let_itself_be_cancelled():
    async def stubborn() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "result"

    assert await wait_for(stubborn(), 0.01) == "result"


async def test_a_wait_without_limit():
    assert await wait_for(asyncio.sleep(0, "result"), None) == "result"


async def test_sleep_ends_with_the_event():
    event = asyncio.Event()
    assert not await sleep_until(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await sleep_until(event, 60)


async def test_a_cancellation_that_got_lost_is_repeated(monkeypatch):
    monkeypatch.setattr(waits, "_AGAIN", 0.01)
    lost = []

    async def deaf() -> None:
        while len(lost) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append(True)
        raise ValueError("a defect at the end")

    task = asyncio.ensure_future(deaf())
    await asyncio.sleep(0)
    await cancel([task])
    assert isinstance(task.exception(), ValueError)


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


async def test_threads_do_their_work_in_order_and_no_more_at_once_than_they_are():
    before = set(threading.enumerate())
    threads = Threads(2)
    gate, begun = threading.Event(), []

    def work(number: int) -> int:
        begun.append(number)
        assert gate.wait(60)
        return number

    results = [threads.run(partial(work, number)) for number in range(5)]
    await until(lambda: len(begun) == 2)
    results[3].cancel()
    await until(results[3].done)
    await asyncio.sleep(0)  # its thread is told by the event loop
    gate.set()
    done = await asyncio.gather(*results, return_exceptions=True)
    assert done[:3] + done[4:] == [0, 1, 2, 4]
    assert sorted(begun) == [0, 1, 2, 4]
    assert all(thread.daemon for thread in new_threads(before))
    threads.close()
    await until(lambda: not new_threads(before))


async def test_threads_are_used_again_and_errors_reach_who_waits():
    before = set(threading.enumerate())
    threads = Threads(5)
    for _ in range(20):
        with pytest.raises(ValueError, match="invalid literal"):
            await threads.run(lambda: int("x"))
    assert 1 <= len(new_threads(before)) <= 5
    threads.close()
    await until(lambda: not new_threads(before))


def new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t not in before]


async def until(fact: Callable[[], bool]) -> None:
    while not fact():
        await asyncio.sleep(0.001)
