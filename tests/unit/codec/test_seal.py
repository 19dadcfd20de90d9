"""Signed payloads: what somebody else has written to Redis is not decoded."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import pickle
from types import SimpleNamespace

import pytest
from scrapy import Request, Spider
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.layout import RANK
from scrapy_dist.brokers.redis.tools import dead_letters
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.brokers.redis.tools.clear import recrawl
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.brokers.redis.tools.takeover import take_over
from scrapy_dist.brokers.redis.views.browse import next_requests
from scrapy_dist.brokers.redis.views.dead_letters import list_failed
from scrapy_dist.codec import compact, messagepack
from scrapy_dist.codec import request as request_codec
from scrapy_dist.codec.dump_lines import dump
from scrapy_dist.codec.policy import POLICY
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seal import NO_SEAL, Seal
from scrapy_dist.core.crawl import Exported, Imported, TakenOver
from scrapy_dist.core.frontier import JoinOutcome, NewRequest
from scrapy_dist.core.slots import Slots
from scrapy_dist.exceptions import BadPayload, ConfigurationError
from scrapy_dist.queue import PriorityQueue
from tests.support.frontiers import KEYS, Worker, contents, member

SECRET = b"a secret of many characters"
SEAL, OTHER = Seal(SECRET, KEYS.requests), Seal(SECRET, "other:requests")
URL = "https://example.org/a"
PLAIN = b"\x01" + compact.dumps({"url": URL})


def test_it_is_an_hmac_and_says_nothing_of_the_secret():
    key = hmac.digest(SECRET, b"scrapy-dist " + KEYS.requests.encode(), "sha256")
    signed = SEAL.sign(PLAIN)

    assert signed == b"\x03" + hmac.digest(key, PLAIN, hashlib.sha256)[:16] + PLAIN
    assert SEAL.open(signed) == PLAIN
    assert SECRET.hex() not in SEAL.check
    assert len(SEAL.check) == 32
    assert len({s.check for s in (SEAL, OTHER, Seal(b"another", KEYS.requests))}) == 3


@pytest.mark.parametrize(
    "forged",
    [
        PLAIN,
        b"\x03" + bytes(16) + PLAIN,
        OTHER.sign(PLAIN),
        Seal(b"another", KEYS.requests).sign(PLAIN),
        SEAL.sign(PLAIN)[:-1],
        SEAL.sign(PLAIN) + b"x",
        SEAL.sign(PLAIN)[:17],
        SEAL.sign(SEAL.sign(PLAIN))[17:-1],
        b"\x03",
        b"",
        json.dumps({"url": URL}).encode(),
        pickle.dumps({"url": URL}),
    ],
    ids=range(12),
)
def test_nothing_of_anybody_else_reaches_a_decoder(forged, monkeypatch):
    module = SimpleNamespace(dumps=pickle.dumps, loads=pytest.fail)
    codecs = [
        PayloadCodec(Spider("s"), serializer=which, seal=SEAL)
        for which in (None, json, module)
    ]
    monkeypatch.setattr(messagepack.Coder, "loads", pytest.fail)
    monkeypatch.setattr(json, "loads", pytest.fail)
    for codec in codecs:
        with pytest.raises(BadPayload, match="FRONTIER_SECRET") as error:
            codec.decode(forged)
        assert error.value.cause == POLICY
    with pytest.raises(BadPayload):
        request_codec.fields_of(SEAL.shown(forged))


@pytest.mark.parametrize("which", [None, json, pickle])
def test_its_own_come_back(which, caplog):
    codec = PayloadCodec(Spider("s"), serializer=which, seal=SEAL)
    data = codec.encode(Request(URL, meta={"a": 1}))

    assert codec.decode(data).meta == {"a": 1}
    with pytest.raises(BadPayload, match="FRONTIER_SECRET is not set"):
        PayloadCodec(Spider("s"), serializer=which).decode(data)
    # Nobody but its own workers can write such a pickle.
    warned = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warned) == (which is pickle)


def test_seeds_are_plain_text():
    assert SEAL.open(b"\x00http://a/") == b"\x00http://a/"


@pytest.mark.parametrize("value", ["short", 5, b"short", ["x"] * 20])
def test_a_secret_that_is_none_is_refused_and_not_shown(value):
    with pytest.raises(ConfigurationError, match="FRONTIER_SECRET is no") as error:
        Seal.from_settings(Settings({"FRONTIER_SECRET": value}), "s:requests")
    assert "short" not in str(error.value).replace("FRONTIER_SECRET", "")


def test_the_setting():
    for value in (SECRET, SECRET.decode()):
        settings = Settings({"FRONTIER_SECRET": value})
        assert Seal.from_settings(settings, KEYS.requests).check == SEAL.check
    assert Seal.from_settings(Settings(), KEYS.requests) is NO_SEAL
    assert Seal.from_settings(Settings({"FRONTIER_SECRET": ""}), "k") is NO_SEAL


# Who joins which frontier


@pytest.mark.parametrize("first", [NO_SEAL, SEAL, Seal(b"another", KEYS.requests)])
@pytest.mark.parametrize("second", [NO_SEAL, SEAL])
@pytest.mark.parametrize("alive", [True, False])
async def test_only_workers_with_one_secret_share_requests(
    client, first, second, alive
):
    worker = await Worker(client, seal=first).join()
    await worker.push("a")
    if not alive:
        await worker.leave()
    before = await contents(client)

    joined = await Worker(client, seal=second).register()

    if first.check == second.check:
        assert joined.outcome is JoinOutcome.JOINED
        return
    assert joined.outcome is JoinOutcome.REFUSED
    assert "FRONTIER_SECRET" in joined.refusal
    assert KEYS.state in joined.refusal
    assert "scrapy frontier clear" in joined.refusal
    assert await contents(client) == before


async def test_a_crawl_that_is_over_or_flushed_is_no_obstacle(client):
    old = await Worker(client).join()
    await old.push("a")
    await old.leave()
    flushing = Worker(client, seal=SEAL)
    assert (await flushing.register(flush=True)).outcome is JoinOutcome.FLUSHED
    assert await client.hget(KEYS.state, "signed") == SEAL.check.encode()
    await flushing.leave(finished=True, persist=True)

    assert (await Worker(client).register(persist=True)).outcome is JoinOutcome.JOINED
    assert not await client.hexists(KEYS.state, "signed")


async def test_what_was_planted_before_the_crawl_does_not_keep_workers_away(client):
    await client.zadd(KEYS.requests, {member(PLAIN, 0): 0})
    assert (await Worker(client, seal=SEAL).register()).outcome is JoinOutcome.JOINED


async def test_workers_whose_state_was_deleted_by_hand_join_again(client):
    workers = [await Worker(client, seal=SEAL).join() for _ in range(2)]
    await workers[0].push(SEAL.sign(PLAIN))
    await client.delete(KEYS.state)
    await workers[0].call(workers[0].frontier.heartbeat("busy"))  # writes to it
    for worker in workers:
        assert (await worker.register()).outcome is JoinOutcome.JOINED
    assert (await Worker(client).register()).outcome is JoinOutcome.REFUSED


# Those who look from outside, and change things


async def fill(client, seal):
    worker = await Worker(client, seal=seal).join()
    await worker.push(seal.sign(PLAIN))
    await client.zadd(KEYS.requests, {member(PLAIN, 2**52, score=5): 0})
    return worker.frontier


async def test_commands_show_what_is_signed_and_nothing_else(client):
    frontier = await fill(client, SEAL)
    seen = [shown.fields async for some in next_requests(frontier, 9) for shown in some]
    assert seen[0] == {"url": URL}
    assert seen[1]["url"].startswith("(not signed with")


@pytest.mark.parametrize("target", [NO_SEAL, SEAL, OTHER])
async def test_an_export_is_signed_anew_where_it_is_imported(client, target):
    frontier = await fill(client, SEAL)
    lines = export_lines(frontier, Exported(), spider="s")
    text = [f"{dump(line)}\n".encode() async for some in lines for line in some]
    await client.flushdb()
    where = Worker(client, seal=target).frontier

    async for _ in import_lines(where, text, Imported()):
        pass

    found = sorted(m[RANK:] for m in await client.zrange(KEYS.requests, 0, -1))
    assert sorted(found) == sorted([PLAIN, target.sign(PLAIN)])
    # What it could not verify there, it does not vouch for here.
    codec = PayloadCodec(Spider("s"), seal=target)
    readable = [data for data in found if target.shown(data)[:1] == b"\x01"]
    assert len(readable) == (1 if target.is_on else 2)
    assert {codec.decode(data).url for data in readable} == {URL}
    assert (await Worker(client, seal=target).register()).outcome is JoinOutcome.JOINED


async def test_letters_are_signed_again_when_their_retries_are_taken_off(client):
    worker = await Worker(client, seal=SEAL).join()
    codec = PayloadCodec(Spider("s"), seal=SEAL)
    failed = codec.encode(Request(URL, meta={"retry_times": 2}, priority=-2))
    for data in (failed, failed[17:]):
        await client.xadd(KEYS.failed, {"payload": data, "kind": "request"})

    found = [letter async for letter in list_failed(worker.frontier)]
    assert [letter.url for letter in found] == ["", URL]
    done = await dead_letters.retry(worker.frontier, decode=codec.decode)

    assert (done.requests, done.unreadable) == (1, 1)
    (pending,) = await client.zrange(KEYS.requests, 0, -1)
    again = codec.decode(pending[RANK:])
    assert (again.meta, again.priority) == ({}, 0)


async def test_commands_with_another_secret_change_nothing(client):
    await fill(client, SEAL)
    before = await contents(client)
    for seal in (NO_SEAL, OTHER):
        frontier = Worker(client, seal=seal).frontier
        new = NewRequest(seal.sign(PLAIN), 0, "f")
        for work in (
            recrawl(frontier, [new]),
            dead_letters.retry(frontier),
            check(frontier, repair=True),
        ):
            with pytest.raises(ConfigurationError, match="FRONTIER_SECRET"):
                await work
    assert await contents(client) == before


async def test_repair_sets_aside_what_is_not_signed(client):
    frontier = await fill(client, SEAL)
    codec = PayloadCodec(Spider("s"), seal=SEAL)

    report = await check(frontier, repair=True, decode=codec.decode)

    assert report.findings["unreadable_payload"].count == 1
    (pending,) = await client.zrange(KEYS.requests, 0, -1)
    assert pending[RANK:] == SEAL.sign(PLAIN)


async def bring_in(frontier):
    head = {"type": "frontier", "version": 1, "fingerprints": "hex", "id": "x"}
    line = {"type": "pending", "score": 1, "request": {"url": URL}}
    text = [dump(line).encode() for line in (head, line)]
    async for _ in import_lines(frontier, text, Imported()):
        pass


async def put_back(frontier):
    letter = {"payload": frontier.seal.sign(PLAIN), "kind": "request"}
    await frontier.client.xadd(KEYS.failed, letter)
    await dead_letters.retry(frontier)


async def crawl_again(frontier):
    await recrawl(frontier, [NewRequest(frontier.seal.sign(PLAIN), 0, "f")])


async def move_over(frontier):
    spider = Spider("s")
    fields = Request(URL).to_dict(spider=spider)
    await frontier.client.zadd("old:requests", {pickle.dumps(fields, protocol=-1): 0})
    codec = PayloadCodec(spider, seal=frontier.seal)
    async for _ in take_over(
        frontier,
        "old",
        TakenOver(),
        spider=spider,
        codec=codec,
        fingerprint=None,
        discipline=PriorityQueue,
        slots=Slots(None),
    ):
        pass


@pytest.mark.parametrize("work", [bring_in, put_back, crawl_again, move_over])
async def test_what_comes_before_all_workers_makes_the_secret_that_of_the_crawl(
    client, work
):
    """Else workers without it would set all of it aside as unreadable."""
    await work(Worker(client, seal=SEAL).frontier)
    assert await client.zcard(KEYS.requests) == 1
    before = await contents(client)
    for seal in (NO_SEAL, OTHER):
        assert (await Worker(client, seal=seal).register()).outcome != 0
        with pytest.raises(ConfigurationError, match="FRONTIER_SECRET"):
            await crawl_again(Worker(client, seal=seal).frontier)
    assert await contents(client) == before
    assert (await Worker(client, seal=SEAL).register()).outcome is JoinOutcome.JOINED


@pytest.mark.parametrize("work", [bring_in, move_over])
async def test_nothing_comes_into_a_crawl_with_another_secret(client, work):
    await fill(client, SEAL)
    before = await client.zcard(KEYS.requests)
    for seal in (NO_SEAL, OTHER):
        with pytest.raises(ConfigurationError):
            await work(Worker(client, seal=seal).frontier)
    assert await client.zcard(KEYS.requests) == before
