"""``scrapy frontier hosts``, and what ``explain`` says of a request that waits."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
import redis.asyncio
from scrapy import Request, Spider

from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.core.politeness import Manners, Rules, Yield
from scrapy_dist.core.slots import host_of, slot_number
from scrapy_dist.redis_client.client import close_client
from tests.support import fuzz
from tests.support.commands import run_here
from tests.support.frontiers import KEYS, Worker

CODEC = PayloadCodec(Spider("s"))
HOSTILE = "\x1b[2Jevil\n\u202e.example"


def url(host, n=0):
    return f"http://{host}/{n}"


def new(host, n=0, **meta):
    request = Request(url(host, n), meta=meta)
    number = slot_number(host_of(request))
    return NewRequest(CODEC.encode(request), float(n), slot=number)


@pytest.fixture
def prepare(redis_server):
    """Runs a coroutine function with a client and a worker of the frontier ``s``."""

    def prepare(steps):
        async def main():
            client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
            try:
                await steps(client, await Worker(client).join("web\x1b:1"))
            finally:
                await close_client(client)

        asyncio.run(main())

    return prepare


@pytest.fixture
def run(redis_server):
    def run(*args):
        code, out, err = run_here(*args, "--redis", redis_server.url)
        assert (code, err) == (0, "")
        for line in out.splitlines():
            fuzz.check_shown(line)
        return out

    return run


async def lease_politely(worker, want):
    call = worker.frontier.lease_politely(want, Manners(Rules(2.0, 8)), suspects=8)
    reply, granted = await worker.call(call)
    return reply.leases, granted.grants


def waits(out):
    """What ``explain`` says in the rows of a request that waits."""
    return [
        line[15:]
        for line in out.splitlines()
        if line.split()[0] in ("host", "waits", "when")
    ]


def test_hosts_are_a_table(run, prepare):
    async def steps(client, worker):
        many = [new("many.example", n) for n in range(12)]
        await worker.commit([*many, new("few.example"), new("x", 1)])
        await worker.commit([new("y", 1, download_slot=HOSTILE)])

    prepare(steps)
    head, *rows, last = run("hosts", "s").splitlines()
    assert head.split("  ")[0] == "HOST"
    names = [row.split()[0] for row in rows]
    assert names[0] == "many.example"
    assert rows[0].split() == ["many.example", "12", "0", "-", "now", "0"]
    assert sorted(names[1:]) == sorted(
        ["few.example", "x", r"\x1b[2Jevil\n\u202e.example"]
    )
    assert last == "4 of 4 hosts, 15 pending requests."
    told = json.loads(run("hosts", "s", "--json", "-n", "1"))
    assert [host["host"] for host in told["hosts"]] == ["many.example"]
    assert (told["spider"], told["slots"], told["pending"]) == ("s", 4, 15)
    assert run("hosts", "s", "-n", "0").splitlines() == [
        "0 of 4 hosts, 15 pending requests."
    ]
    names = [h["host"] for h in json.loads(run("hosts", "s", "--json"))["hosts"]]
    assert HOSTILE in names


@pytest.mark.parametrize("words", [["--sort", "size"], ["-n", "-1"], ["-n", "5000"]])
def test_wrong_options_are_refused_by_name(redis_server, words):
    code, _, err = run_here("hosts", "s", *words, "--redis", redis_server.url)
    assert code == 2
    assert words[0] in err


def test_owners_rest_and_place_are_told(run, prepare):
    async def steps(client, worker):
        await worker.commit([new("a.example", n) for n in range(3)])
        leases, grants = await lease_politely(worker, 1)
        assert len(leases) == len(grants) == 1
        await client.hset(KEYS.politeness, slot_number("a.example"), "4000 8")

    prepare(steps)
    [row] = run("hosts", "s").splitlines()[1:2]
    assert re.split(" {2,}", row) == [
        *("a.example", "2", "1", r"web\x1b:1", "4 s", "-", "0")
    ]
    assert (
        run("hosts", "s").splitlines()[-1].endswith("1 owned, 0 wait for their delay.")
    )
    out = run("explain", "s", url("a.example", 2))
    assert waits(out) == [
        "a.example, one request each 4 s",
        r"web\x1b:1 has its host now, and fetches what is before it",
        "it is number 2 of the 2 of its host",
        "in about 4 s, if all goes on like this",
    ]
    told = json.loads(run("explain", "s", url("a.example", 2), "--json"))["waiting"]
    assert told["host"]["owners"] == ["web\x1b:1"]
    assert told["host"]["next_start"] is None
    assert told["seconds"] == 4.0


def test_a_host_whose_places_several_workers_share_is_one(run, prepare):
    async def steps(client, worker):
        await worker.commit([new("a.example", n) for n in range(9)])
        for other in (worker, await Worker(client).join("web:2")):
            call = other.frontier.lease_politely(1, Manners(Rules(0.0, 8)), suspects=8)
            _, granted = await other.call(call)
            assert len(granted.grants) == 1
        await client.hset(KEYS.politeness, slot_number("a.example"), "0 8")

    prepare(steps)
    row, said = run("hosts", "s").splitlines()[1:]
    assert "web:2" in row
    assert said.endswith("; 1 owned, 0 wait for their delay.")
    assert waits(run("explain", "s", url("a.example", 8)))[0] == "a.example"


def test_a_host_that_rests_is_told_until_when(run, prepare):
    async def steps(client, worker):
        await worker.commit([new("a.example", n) for n in range(3)])
        _, [grant] = await lease_politely(worker, 1)
        await worker.call(worker.frontier.give_seats_back([Yield(grant.name, 500.0)]))

    prepare(steps)
    out = run("explain", "s", url("a.example", 1))
    [host, rests, place] = waits(out)
    assert host == "a.example"
    assert re.fullmatch(r"its host rests for 8 min \d+ s", rests)
    assert place == "it is number 1 of the 2 of its host"
    assert re.search(r"  8 min \d+ s  ", run("hosts", "s").splitlines()[1])
    assert (
        run("hosts", "s").splitlines()[-1].endswith("0 owned, 1 wait for their delay.")
    )


def test_shared_hosts_have_their_turns(run, prepare, redis_server):
    async def steps(client, worker):
        await worker.commit([new("a.example", n) for n in range(3)])
        await worker.commit([new("b.example", n) for n in range(3)])
        await client.zadd(KEYS.slots, {str(slot_number("b.example")): 2**51})

    prepare(steps)
    assert waits(run("explain", "s", url("b.example", 1))) == [
        "b.example",
        "it is number 2 of the 3 of its host",
        "1 host has its turn before its own",
    ]
    assert "rests" not in run("explain", "s", url("a.example", 1))


def test_of_many_polite_hosts_those_that_are_due_before_count(run, prepare):
    names = [f"{n}.example" for n in range(60)]

    async def steps(client, worker):
        await worker.commit(list(map(new, names)))
        _, grants = await lease_politely(worker, 2)
        assert len(grants) == 2
        last = slot_number(names[-1])
        free = await client.zrangebyscore(KEYS.slots, "-inf", 2**51, withscores=True)
        due = {name: score - 1 for name, score in free} | {
            str(last).encode(): free[-1][1]
        }
        await client.zadd(KEYS.slots, due)  # all may be asked now, it as the last one
        await client.hset(KEYS.politeness, str(last), "1000 8")
        told = json.dumps({"pages_per_second": 2.0})
        await client.hset(KEYS.state, f"beat:{worker.number}", told)

    prepare(steps)
    out = run("explain", "s", url(names[-1]))
    assert "57 hosts have their turn before its own" in waits(out)
    assert "in about 28 s, if all goes on like this" in waits(out)


def test_a_paused_crawl_and_one_without_workers_say_so(run, prepare):
    async def steps(client, worker):
        await worker.commit([new("a.example", n) for n in range(3)])
        await worker.lease(1)
        await client.zadd(KEYS.workers, {worker.number: 1})

    prepare(steps)
    run("pause", "s")
    out = run("explain", "s", url("a.example", 1))
    assert waits(out)[1:3] == [
        "the crawl is paused (scrapy frontier resume)",
        "nobody works on the crawl: start a worker",
    ]
    assert "when " not in out
    # What is in the hands of a worker waits for nothing.
    assert waits(run("explain", "s", url("a.example", 0))) == []


def test_a_flat_crawl_has_no_hosts_to_wait_for(run, prepare):
    async def steps(client, worker):
        requests = [new("a.example", n) for n in range(3)]
        await worker.commit([NewRequest(r.payload, r.score) for r in requests])

    prepare(steps)
    assert waits(run("explain", "s", url("a.example", 1))) == []
    [row] = run("hosts", "s").splitlines()[1:-1]
    assert row.split()[:2] == ["#0", "3"]


def test_without_requests_it_says_so(run, prepare):
    async def steps(client, worker):
        pass

    prepare(steps)
    assert run("hosts", "s") == "No host of s has a request.\n"
