"""A spider's own ``next_requests()`` in a thread."""

from __future__ import annotations

import asyncio
import threading

from scrapy import Request

from scrapy_dist.worker import seed_thread
from scrapy_dist.worker.seed_thread import SeedThread


def request(n):
    return Request(f"http://a.example/{n}")


class Reader:
    """A `SeedThread` that reads *batches*, one a run, and what came of it."""

    def __init__(self, make, batch=2):
        self.got, self.ended, self.threads = [], [], set()
        self.thread = SeedThread(
            make, self.take, self.ended.append, batch=batch, spider=None
        )

    def take(self, request):
        assert threading.current_thread() is threading.main_thread()
        self.got.append(request)

    async def run(self):
        self.thread.read()
        await self.thread._over.wait()


async def test_what_it_yields_comes_in_order_in_the_event_loop():
    def make():
        assert threading.current_thread() is not threading.main_thread()
        yield request(0)
        yield [request(1), request(2)]
        yield None

    reader = Reader(make)
    await reader.run()
    assert [r.url[-1] for r in reader.got] == ["0", "1", "2"]
    assert reader.ended == [3]
    await reader.run()
    assert reader.ended == [3, 3]


async def test_never_two_runs_at_once():
    go = threading.Event()
    begun = []

    def make():
        begun.append(1)
        go.wait(20)
        return [request(0)]

    reader = Reader(make)
    reader.thread.read()
    reader.thread.read()
    assert reader.thread.busy
    go.set()
    await reader.thread._over.wait()
    assert (len(begun), reader.ended) == (1, [1])


async def test_a_long_run_goes_on_where_it_was_and_closing_takes_one_batch_more():
    def make():
        n = 0
        while True:
            yield request(n)
            n += 1

    reader = Reader(make, batch=3)
    await reader.run()
    assert len(reader.got) == 100
    await reader.run()
    assert len(reader.got) == 200
    await reader.thread.finish()
    assert [r.url for r in reader.got] == [request(n).url for n in range(203)]
    reader.thread.read()
    assert not reader.thread.busy


async def test_errors_are_told_once_and_end_the_run(caplog):
    fails = True

    def make():
        yield request(0)
        if fails:
            raise ValueError("no")
        yield "strange"

    reader = Reader(make)
    for _ in range(2):
        await reader.run()
    assert caplog.text.count("next_requests() failed") == 1
    fails = False
    for _ in range(2):
        await reader.run()
    assert len(reader.got) == 4
    assert caplog.text.count("no Request") == 1


async def test_one_that_hangs_does_not_hold_the_end(monkeypatch, caplog):
    monkeypatch.setattr(seed_thread, "_PATIENCE", 0.05)
    go = threading.Event()

    def make():
        go.wait(20)
        yield request(0)

    reader = Reader(make)
    reader.thread.read()
    await reader.thread.finish()
    assert "has not ended" in caplog.text
    go.set()
    await reader.thread._over.wait()
    assert reader.got == []
    assert "is lost" in caplog.text


async def test_a_run_may_call_into_the_event_loop():
    def make():
        yield request(0)
        assert reader.thread.call(where) is threading.main_thread()
        assert reader.got  # what was yielded before has come
        yield request(1)

    def where():
        return threading.current_thread()

    reader = Reader(make)
    assert reader.thread.call(where) is threading.main_thread()
    await reader.run()
    assert len(reader.got) == 2
    await asyncio.sleep(0)
