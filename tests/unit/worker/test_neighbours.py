"""Whether the processes of other workers on this machine are gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scrapy_dist.worker import neighbours
from scrapy_dist.worker.neighbours import Neighbours, find_self, is_gone
from tests.support.frontiers import KEYS, TTL, Worker, pass_time

pytestmark = pytest.mark.skipif(find_self() is None, reason="needs /proc")


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait(10)
    process.stdin.close()


def start_of(pid: int) -> int:
    return neighbours._read_stat(pid)[1]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(fact) -> None:
    for _ in range(2000):
        if fact():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came")


def test_this_process_is_found_and_is_not_gone():
    _, process = find_self()
    pid, start = map(int, process.split())
    assert pid == os.getpid()
    assert is_gone(pid, start) is False
    assert is_gone(pid, start + 1) is True  # the pid is of another one now


def test_state_of_a_process(child):
    start = start_of(child.pid)
    child.send_signal(signal.SIGSTOP)
    assert is_gone(child.pid, start) is False
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(child.pid, start) is True  # a zombie
    child.wait(10)
    assert is_gone(child.pid, start) is True


@pytest.mark.parametrize("way", ["pidfd", "no pidfd", "no add_reader"])
async def test_end_of_a_neighbour_is_noticed(child, monkeypatch, way):
    if way == "no pidfd":
        monkeypatch.setattr(neighbours, "_open", lambda pid: -1)
    elif way == "no add_reader":

        def refuse(*_):
            raise NotImplementedError

        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
    called = []
    near = Neighbours(lambda: called.append(True))
    key = ("7", f"{child.pid} {start_of(child.pid)}")
    near.see(1, [key])
    near.look()
    await asyncio.sleep(0)
    assert not near.gone
    child.kill()
    await until(lambda: near.look() or near.gone)
    assert list(near.gone) == [key]
    assert called == [True]
    near.told([key])
    assert not near.gone
    near.close()


async def test_one_that_is_gone_already_is_noticed_at_once(child):
    key = ("7", f"{child.pid} {start_of(child.pid)}")
    child.kill()
    child.wait(10)
    near = Neighbours(lambda: None)
    near.see(1, [key])
    assert list(near.gone) == [key]


async def test_process_that_comes_back_is_left_to_the_ttl():
    """It is on another machine, a copy of this one."""
    near, key = Neighbours(lambda: None), ("7", "4194304 1")
    for _ in range(2):
        near.see(1, [key])
        assert list(near.gone) == [key]
        near.told([key])
    near.see(1, [key])
    assert not near.gone


@pytest.mark.parametrize(
    "process",
    [
        "",
        "x",
        "0 1",
        "-1 1",
        "1",
        "1 2 3",
        "9999999999 1",
        "99999999999 1",
        "1 999999999999999999999",
        "\ufffd 1",
        "1 1\n",
        "1" * 1000,
    ],
)
async def test_nonsense_in_redis_does_no_harm(process):
    near = Neighbours(lambda: None)
    near.see(1, [("7", process), ("x" * 1000, process)])
    near.look()
    near.close()


async def test_hidden_process_is_left_to_the_ttl(child, monkeypatch):
    key = ("7", f"{child.pid} {start_of(child.pid)}")
    near = Neighbours(lambda: None)

    def hide(pid):
        raise FileNotFoundError

    monkeypatch.setattr(neighbours, "_read_stat", hide)
    near.see(1, [key])
    near.look()
    assert not near.gone
    before = open_files()
    for met in range(9):
        near.see(met, [key])
    assert open_files() == before


async def test_descriptors_are_closed(child):
    near = Neighbours(lambda: None)
    before = open_files()
    key = ("7", f"{child.pid} {start_of(child.pid)}")
    near.see(1, [key])
    near.see(2, [key])
    assert open_files() <= before + 1
    near.see(3, [])
    assert open_files() == before
    near.see(4, [key])
    near.close()
    assert open_files() == before


def test_it_is_asked_again_when_workers_have_come(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    near = Neighbours(lambda: None)
    near.see(5, [])
    near.heard(5, 3)
    assert near.ask_in() is None
    near.heard(6, 3)
    assert near.ask_in() == 1.0
    now += 1.0
    assert near.ask_in() == 0.0
    near.see(6, [])
    assert near.ask_in() is None
    near.heard(7, 1000)
    now += 1.0
    near.see(7, [])
    near.heard(8, 1000)
    assert near.ask_in() == 10.0


# What Redis keeps of it


async def meet(worker: Worker, process: str, machine: str = "boot 1/2"):
    return await worker.call(worker.frontier.meet(machine, process))


async def joined(client, *processes: str, machine: str = "boot 1/2") -> list[Worker]:
    workers = []
    for process in processes:
        workers.append(await Worker(client).join())
        await meet(workers[-1], process, machine)
    return workers


async def test_workers_of_one_machine_meet(client):
    first, second = await joined(client, "1 10", "2 20")
    [other] = await joined(client, "3 30", machine="boot 1/22")
    assert await meet(first, "1 10") == (3, [(second.number, "2 20")])
    assert await meet(other, "3 30", "boot 1/22") == (3, [])
    assert (await first.heartbeat()).met == 3
    looker = Worker(client)
    met, found = await meet(looker, "4 40")
    assert (met, sorted(found)) == (
        3,
        sorted([(first.number, "1 10"), (second.number, "2 20")]),
    )
    assert not await client.hexists(KEYS.state, f"process:{looker.number}")


async def test_worker_whose_process_is_gone_is_reaped_at_once(client):
    dead, other = await joined(client, "1 10", "2 20")
    await dead.push("a", "b")
    assert await dead.lease(1)
    gone = [(dead.number, "1 10")]
    assert await other.call(other.frontier.gone("boot 1/2", gone)) == 1
    assert await other.call(other.frontier.gone("boot 1/2", gone)) == 0
    assert (await other.heartbeat()).silent == 1
    assert await other.reap() == [1, 0, 1]
    assert not await client.hexists(KEYS.state, f"process:{dead.number}")
    assert (await other.heartbeat()).silent == 0


async def test_grace_holds_for_others_only(client):
    dead, silent, other = await joined(client, "1 10", "2 20", "3 30")
    await pass_time(client, 2 * TTL)
    await other.heartbeat()  # Redis was away: there is grace now
    assert (await other.heartbeat()).silent == 0
    assert await other.reap() == [0, 0, 0]
    gone = [(dead.number, "1 10")]
    await other.call(other.frontier.gone("boot 1/2", gone))
    assert (await other.heartbeat()).silent == 1
    assert await other.reap() == [0, 0, 1]
    assert await other.reap() == [0, 0, 0]
    assert await client.zscore(KEYS.workers, silent.number) is not None


async def test_one_that_has_left_or_is_another_by_now_is_not_declared_dead(client):
    left, changed, other = await joined(client, "1 10", "2 20", "3 30")
    await left.leave()
    await meet(changed, "2 21")
    gone = [(left.number, "1 10"), (changed.number, "2 20"), ("77", "1 1")]
    assert await other.call(other.frontier.gone("boot 1/2", gone)) == 0
    assert await client.zscore(KEYS.workers, left.number) is None
    assert not await client.hexists(KEYS.state, f"process:{left.number}")
