"""``scrapy frontier items``: what is written is gone, what is not comes again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest
import redis.asyncio

from scrapy_dist.redis_client.client import close_client
from tests.support.commands import run_here
from tests.support.frontiers import session
from tests.support.project import package_parent
from tests.support.redis_state import count_items, stored_items
from tests.support.task_worker import ITEMS, SEEDS, TaskWorker
from tests.support.wait import wait_until

#: More than a pipe holds.
MANY = 15_000


@pytest.fixture
def server(redis_server):
    with redis_server.client() as server:
        yield server


@pytest.fixture
def run(redis_server):
    return lambda *args: run_here("items", "s", *args, "--redis", redis_server.url)


@pytest.fixture
def start(redis_server, tmp_path):
    """Starts it in a process of its own, which is ended at the end."""
    processes = []

    def start(*args, **options):
        command = [sys.executable, "-m", "scrapy", "frontier", "items", "s", *args]
        env = {**os.environ, "PYTHONPATH": package_parent()}
        env["REDIS_URL"] = redis_server.url
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=env, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        with process:
            pass  # its pipes are closed


def put(server, numbers):
    server.rpush(ITEMS, *(b'{"n": %d}' % n for n in numbers))


def numbers(text):
    return [json.loads(line)["n"] for line in text.splitlines()]


def test_items_are_written_and_gone(server, run):
    put(server, range(250))
    server.rpush(ITEMS, b"\xff", b'{"a":\n"\xc3\xa9"}')
    code, out, err = run()
    assert (code, err) == (0, "")
    *lines, second, last = out.splitlines()
    assert numbers("\n".join(lines)) == list(range(250))
    assert (second, last) == ('{"frontier_base64": "/w=="}', '{"a": "\\u00e9"}')
    assert server.keys("*") == []


def test_they_go_to_the_end_of_a_file(server, run, tmp_path):
    path = tmp_path / "items.jsonl"
    put(server, range(3))
    assert run("-o", str(path)) == (0, "3 items of s written.\n", "")
    assert path.stat().st_mode & 0o777 == 0o600
    # The next line of an earlier run is not whole: it was killed.
    path.write_text(path.read_text() + '{"n": 3')
    put(server, range(3, 5))
    code, out, _ = run("-o", str(path), "--json")
    assert code == 0
    assert json.loads(out) == {"spider": "s", "job": None, "items": 2}
    lines = path.read_text().splitlines()
    assert lines[3] == '{"n": 3'
    assert numbers("\n".join(lines[:3] + lines[4:])) == list(range(5))
    assert server.keys("*") == []


def test_what_is_beyond_the_limit_stays_in_front(server, run):
    put(server, range(300))
    assert numbers(run("--limit", "103")[1]) == list(range(103))
    assert numbers(b"\n".join(stored_items(server, "s"))) == list(range(103, 300))
    assert run("-n", "0") == (0, "", "")
    assert numbers(run("--consumer", "other")[1]) == list(range(103, 300))


@pytest.mark.keeps(ITEMS, reason="they could not be written")
def test_what_cannot_be_written_stays(server, run, tmp_path):
    put(server, range(300))
    for file, part in [
        ("/dev/full", "No space left"),
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "none" / "f"), "No such file"),
        ("items.jsonl.gz", "gzip"),
    ]:
        code, out, err = run("-o", file)
        assert (code, out) == (2, "")
        assert part in err
        assert err.count("\n") == 1
    assert numbers(b"\n".join(stored_items(server, "s"))) == list(range(300))
    assert "Use letters" in run("--consumer", "a b")[2]


def test_spider_that_nobody_knows_is_refused(run):
    code, _, err = run()
    assert code == 2
    assert "no frontier of a spider 's'" in err


@pytest.mark.keeps(ITEMS, reason="nobody takes the rest")
def test_rest_is_given_back_when_the_pipe_is_closed(server, start):
    put(server, range(MANY))
    process = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    read = [process.stdout.readline() for _ in range(3)]
    process.stdout.close()
    assert process.wait(100) == 0
    assert process.stderr.read() == b""
    assert numbers(b"".join(read)) == [0, 1, 2]
    left = numbers(b"\n".join(stored_items(server, "s")))
    assert left == list(range(MANY - len(left), MANY))
    assert len(left) > 100
    assert server.keys("*") == [ITEMS.encode()]


def follow(redis_server, steps):
    """Runs *steps* with a worker, and lets it leave."""

    async def main():
        server = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
        try:
            worker = await TaskWorker(session(server, seed_keys=[SEEDS])).join()
            await asyncio.to_thread(steps)
            await worker.session.leave(finished=True, persist=False, reason="finished")
        finally:
            await close_client(server)

    asyncio.run(main())


def test_they_are_followed_to_the_end_of_the_crawl(
    redis_server, server, start, tmp_path
):
    path = tmp_path / "items.jsonl"
    processes = []

    def calls():
        return server.info("commandstats")["cmdstat_evalsha"]["calls"]

    def steps():
        processes.append(start("--follow", "-o", str(path), stdout=subprocess.PIPE))
        for n in range(3):
            put(server, [n])
            wait_until(
                lambda n=n: (
                    path.exists() and len(path.read_text().split("\n")) == n + 2
                ),
                f"item {n}",
            )
        # Nothing is left, but the worker is there: it looks again and again.
        begun = calls()
        wait_until(lambda: calls() > begun + 9, "it has looked more than once")
        assert processes[0].poll() is None

    follow(redis_server, steps)
    out, _ = processes[0].communicate(timeout=100)
    assert (processes[0].returncode, out) == (0, b"3 items of s written.\n")
    assert numbers(path.read_text()) == [0, 1, 2]
    assert count_items(server, "s") == 0


@pytest.mark.keeps(ITEMS, reason="nobody takes the rest")
def test_ctrl_c_gives_back_what_was_not_written(server, start):
    put(server, range(MANY))
    # Nobody reads on: the command waits in the middle of a write.
    process = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert numbers(process.stdout.readline()) == [0]
    wait_until(lambda: count_items(server, "s") < MANY - 3000, "the pipe is full")
    process.send_signal(signal.SIGINT)
    assert process.wait(100) == 130
    assert process.stderr.read() == b""
    # What was in the pipe may come again.
    *whole, _ = process.stdout.read().split(b"\n")
    left = numbers(b"\n".join(stored_items(server, "s")))
    assert {*numbers(b"\n".join(whole)), *left} == set(range(1, MANY))
    assert left[-1] == MANY - 1
    assert len(whole) + len(left) < MANY + 100
    assert server.keys("*") == [ITEMS.encode()]
