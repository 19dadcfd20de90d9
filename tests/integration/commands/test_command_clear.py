"""``scrapy frontier clear``."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import pty
import subprocess
import sys

import pytest
import redis.asyncio
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.layout import encode_score
from scrapy_dist.brokers.redis.version import FORMAT
from scrapy_dist.commands import clear
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import KEYS, Worker

FRONTIER = {
    f"s:{name}"
    for name in (
        *("requests", "suspects", "leases", "leased", "dupefilter", "started"),
        *("workers", "state", "stats", "control", "slots"),
    )
}
KEPT = {"s:failed", "s:items", "s:start_urls"}


@pytest.fixture
def run(redis_server, capsys):
    """``run(*args)`` in this process, outside a project: code, output."""

    def run(*args):
        parser = argparse.ArgumentParser()
        clear.SUBCOMMAND.add_options(parser)
        opts = parser.parse_args([*args, "--redis", redis_server.url])
        capsys.readouterr()
        code = asyncio.run(clear.SUBCOMMAND.run(Settings(), opts))
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def keys(redis_server):
    """Every key of the frontier ``s``, whose workers are dead; a function that lists."""

    async def fill():
        client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
        try:
            worker = await Worker(client).join()
            await worker.commit([NewRequest(b"x", 0, f"f{n}", 1) for n in range(5)])
            other = await Worker(client).join()
            await other.lease(1)
            await other.dies(worker)
            await worker.lease(1, suspect=False)
            await client.hset("s:stats", "pages", 1)
            await client.hset("s:control", "paused", 1)
            await client.xadd("s:failed", {"reason": "x"})
            await client.rpush("s:items", "i")
            await client.rpush("s:start_urls", "http://a/")
            await client.zadd("s:workers", {worker.number: 1})
        finally:
            await close_client(client)

    def found():
        with redis_server.client() as client:
            return {key.decode() for key in client.scan_iter()}

    asyncio.run(fill())
    assert found() == FRONTIER | KEPT
    return found


@pytest.fixture
def alive(redis_server):
    with redis_server.client() as client:
        seconds, _ = client.time()
        return client.zadd("s:workers", {"7": seconds * 1000 + 60_000})


def test_without_options_the_frontier_goes_and_the_results_stay(run, keys):
    code, out = run("s", "--yes")
    assert code == 0
    assert keys() == KEPT
    assert out == (
        "Deleted of s: 3 pending, 1 leased, 1 suspect, 5 seen, 1 stat, 1 worker.\n"
    )
    code, out = run("s", "--yes", "--json")
    assert code == 0
    assert not any(json.loads(out)["deleted"].values())
    assert "nothing of s to delete" in run("s")[1]


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (["--dupefilter"], {"s:dupefilter", "s:started"}),
        (
            ["--requests"],
            {KEYS.slots, "s:requests", "s:suspects", "s:leases", "s:leased"},
        ),
        (["--failed"], {"s:failed"}),
        (["--items"], {"s:items"}),
        (["--stats"], {"s:stats"}),
        (["--seeds"], {"s:start_urls"}),
        (["--items", "--failed"], {"s:failed", "s:items"}),
    ],
)
def test_with_options_only_what_they_name_goes(run, keys, options, gone):
    code, _ = run("s", "--yes", *options)
    assert code == 0
    assert keys() == (FRONTIER | KEPT) - gone


def test_compact_fingerprints_go_with_their_buckets(run, keys, redis_server):
    with redis_server.client() as client:
        client.delete("s:dupefilter")
        client.hset("s:dupefilter", mapping={"epoch": 5, "buckets": 3, "count": 9})
        for n in range(3):
            client.sadd(f"s:dupefilter:5:{n}", 1, 2, 3)
    code, out = run("s", "--yes")
    assert code == 0
    assert "9 seen" in out
    assert keys() == KEPT


def test_workers_that_live_forbid_it(run, keys, alive):
    with pytest.raises(
        ConfigurationError, match=r"^1 worker is alive.*--stop all\), or say --force"
    ):
        run("s", "--yes")
    assert keys() == FRONTIER | KEPT
    code, _ = run("s", "--yes", "--force")
    assert code == 0
    assert keys() == KEPT


def test_without_a_terminal_it_does_not_guess(run, keys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ConfigurationError, match=r"3 pending.*say --yes"):
        run("s")
    assert keys() == FRONTIER | KEPT


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("y", 0)])
def test_on_a_terminal_it_asks(tmp_path, keys, redis_server, answer, code):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "scrapy", "frontier", "clear", "s"]
    os.write(ours, f"{answer}\n".encode())
    ran = subprocess.run(
        [*command, "--redis", redis_server.url],
        cwd=tmp_path,
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert ran.returncode == code
    assert "3 pending, 1 leased, 1 suspect, 5 seen" in ran.stderr
    assert ("Nothing was deleted." in ran.stderr) == (code == 1)
    assert keys() == (KEPT if code == 0 else FRONTIER | KEPT)


def test_a_large_frontier_goes_without_a_long_command(run, redis_server):
    fill = """
    for i = tonumber(ARGV[1]), ARGV[1] + 999 do
      redis.call('ZADD', KEYS[1], 0, ARGV[2] .. string.format('%016x', i + 1) .. ('x'):rep(200))
      redis.call('SADD', KEYS[2], redis.sha1hex(i))
    end"""
    with redis_server.client() as client:
        for at in range(0, 200_000, 1000):
            client.eval(fill, 2, "s:requests", "s:dupefilter", at, encode_score(0))
        client.hset("s:state", mapping={"order": 200_001, "format": FORMAT})
        client.config_resetstat()
        code, out = run("s", "--yes")
        assert code == 0
        assert "200,000 pending" in out
        # UNLINK frees memory behind Redis' back, DEL while everybody waits.
        commands = client.info("commandstats")
        assert "cmdstat_unlink" in commands
        assert "cmdstat_del" not in commands
        assert client.dbsize() == 0
