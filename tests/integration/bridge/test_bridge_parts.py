"""A bridge in this process, with a real RabbitMQ and a real Redis."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
import redis.asyncio
from scrapy.settings import Settings

pytest.importorskip("pika")

from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.bridge import weight
from scrapy_dist.bridge.address import Address
from scrapy_dist.bridge.bridge import Bridge, Plan
from scrapy_dist.bridge.link import Link, LinkLost
from scrapy_dist.bridge.notices import Notices
from scrapy_dist.redis_client.client import close_client
from tests.support.acl import acl
from tests.support.frontiers import KEYS, Worker
from tests.support.tls import TlsProxy

pytestmark = pytest.mark.keeps(
    "s:*", reason="nobody takes the seeds, or looks at dead letters"
)


@pytest.fixture
async def crawl(redis_server):
    settings = Settings({"REDIS_URL": redis_server.url, "CONCURRENT_REQUESTS": 2})
    async with Crawl(settings, "s") as crawl:
        yield crawl


@asynccontextmanager
async def running(crawl, rabbitmq, **plan):
    """A bridge while it runs; yields what it tells."""
    told: list[str] = []
    notices = Notices(told.append, told.append)
    bridge = Bridge(crawl, Address.parse(rabbitmq.url), Plan(**plan), notices)
    stopping = asyncio.Event()
    run = asyncio.ensure_future(bridge.run(stopping))
    try:
        yield told
    finally:
        stopping.set()
        await run


async def until(done, seconds=60.0):
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := await asyncio.to_thread(done)):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    return found


async def seeds(crawl, count):
    while (await crawl.status()).seeds != count:
        await asyncio.sleep(0.02)


async def test_messages_are_acknowledged_when_redis_has_them(crawl, rabbitmq):
    rabbitmq.declare("p.tasks")
    with rabbitmq.channel() as channel:
        # RabbitMQ's own queue of replies: of this connection alone.
        answers = []
        channel.basic_consume(
            "amq.rabbitmq.reply-to",
            lambda *found: answers.append(json.loads(found[3])),
            auto_ack=True,
        )
        about = {"message_id": "a", "reply_to": "amq.rabbitmq.reply-to"}
        rabbitmq.publish("p.tasks", "http://a/", channel, **about)
        for n in range(20):
            rabbitmq.publish("p.tasks", f"http://a/{n}", channel)
        async with running(crawl, rabbitmq, tasks="p.tasks", is_stored_enough=True):
            await seeds(crawl, 21)
            await until(lambda: rabbitmq.count("p.tasks") == 0)
            await Tasks(crawl).cancel(["a"])

            def answered():
                channel.connection.process_data_events(0.05)
                return answers

            await until(answered)
        answered()
    assert rabbitmq.count("p.tasks") == 0
    assert [(body["id"], body["state"]) for body in answers] == [("a", "cancelled")]


async def test_what_comes_again_is_answered_though_its_task_has_ended(
    crawl, rabbitmq, monkeypatch
):
    rabbitmq.declare("p.tasks", "p.reply")
    rabbitmq.publish("p.tasks", "http://a/", message_id="a", reply_to="p.reply")
    # Without an id it is known by its body: here are two with one body.
    for _ in range(2):
        rabbitmq.publish("p.tasks", "http://b/", reply_to="p.reply")
    tasks = Tasks(crawl)
    async with running(crawl, rabbitmq, tasks="p.tasks"):
        await seeds(crawl, 3)
    assert rabbitmq.count("p.tasks") == 3
    first = {task.token for task in await tasks.tasks()}
    assert len(first) == 3
    await tasks.cancel([task.id for task in await tasks.tasks()])
    async with running(crawl, rabbitmq, tasks="p.tasks"):
        await until(lambda: rabbitmq.count("p.reply") == 3)
    assert rabbitmq.count("p.tasks") == 0
    assert {task.token for task in await tasks.tasks()} == first

    # But not for long: the same page may be wanted again.
    rabbitmq.publish("p.tasks", "http://b/")
    async with running(crawl, rabbitmq, tasks="p.tasks"):
        await until(lambda: rabbitmq.count("p.tasks") == 0)
        await seeds(crawl, 4)
    await tasks.cancel([task.id for task in await tasks.tasks()])
    monkeypatch.setattr("scrapy_dist.bridge.desk._RECENT", 0)
    async with running(crawl, rabbitmq, tasks="p.tasks"):
        await seeds(crawl, 5)


class Late(datetime):
    """A time that fits into a message, and into no datetime."""

    def utctimetuple(self):
        return 1970, 1, 1, 0, 0, 10**18


async def test_whatever_a_message_holds_it_is_acknowledged(crawl, rabbitmq):
    rabbitmq.declare("p.tasks", "p.reply")
    bodies = [
        b"",
        b"\x00",
        b"{",
        b"[1]",
        b"x" * 300_000,
        '{"url": "http://a/", "task": "1"}',
    ]
    bodies += [
        '{"url": "http://a/", "id": []}',
        "http://a/" + "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"),
    ]
    hostile = [
        {"message_id": "a\nb"},
        {"message_id": b"\xff"},
        {"reply_to": "amq.rabbitmq.reply-to.garbage", "message_id": "\u202e"},
        {"correlation_id": b"\xff"},
        {"reply_to": b"\xff\x00"},
        {"headers": {"x": {"y": [1, None, b"\xff", True]}}, "content_type": "?" * 255},
        {"headers": {"x": Late(1970, 1, 1)}},
    ]
    with rabbitmq.channel() as channel:
        for n, body in enumerate(bodies):
            about = {"reply_to": "p.reply", "correlation_id": b"\xff%d" % n}
            rabbitmq.publish("p.tasks", body, channel, **about)
        for about in hostile:
            rabbitmq.publish("p.tasks", "ftp://a/", channel, **about)
    async with running(crawl, rabbitmq, tasks="p.tasks") as told:
        await until(lambda: rabbitmq.count("p.reply") == len(bodies) - 1)
        [waiting] = await Tasks(crawl).tasks()
        await Tasks(crawl).cancel([waiting])
        await until(lambda: rabbitmq.count("p.reply") == len(bodies))
    assert rabbitmq.count("p.tasks") == 0
    drained = rabbitmq.drain("p.reply")
    own = {about.correlation_id for about, _ in drained}
    assert own == {b"\xff%d" % n for n in range(len(bodies))}
    answers = [json.loads(body) for _, body in drained]
    assert sorted(a["state"] for a in answers) == ["cancelled"] + ["failed"] * (
        len(bodies) - 1
    )
    [large] = [a["reason"] for a in answers if "FRONTIER_SEED_MAX_SIZE" in a["reason"]]
    assert "more than the 262,144 bytes" in large
    assert told == []
    assert await crawl.port.count_failed() == len(bodies) - 1 + len(hostile)


async def test_a_bridge_that_dies_behind_a_letter_writes_it_once(crawl, rabbitmq):
    rabbitmq.declare("p.tasks")
    for about in ({}, {}, {"message_id": "a"}):
        rabbitmq.publish("p.tasks", "ftp://a/", **about)
    plan = Plan(tasks="p.tasks", status="p.status")
    with rabbitmq.channel() as channel:
        # What is told of them waits for this queue, and so does the acknowledgement.
        channel.queue_delete("p.status")
    for _ in range(2):
        notices = Notices(print, print)
        bridge = Bridge(crawl, Address.parse(rabbitmq.url), plan, notices)
        run = asyncio.ensure_future(bridge.run(asyncio.Event()))
        while await crawl.port.count_failed() < 3:
            await asyncio.sleep(0.02)
        await until(lambda: rabbitmq.count("p.tasks") == 0)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await until(lambda: rabbitmq.count("p.tasks") == 3)
    rabbitmq.declare("p.status")
    async with running(crawl, rabbitmq, tasks="p.tasks", status="p.status") as told:
        await until(lambda: rabbitmq.count("p.status") == 3)
    assert told == []
    assert rabbitmq.count("p.tasks") == 0
    assert await crawl.port.count_failed() == 3


async def test_a_program_that_died_holds_up_nobody(crawl, rabbitmq, monkeypatch):
    monkeypatch.setattr("scrapy_dist.bridge.replies.PATIENCE", 0.5)
    rabbitmq.declare("p.tasks", "p.reply")
    with rabbitmq.channel() as channel:
        for n in range(20):
            about = {
                "reply_to": "p.reply" if n == 19 else "died",
                "message_id": f"t{n}",
            }
            rabbitmq.publish("p.tasks", "ftp://a/", channel, **about)
    async with running(crawl, rabbitmq, tasks="p.tasks", prefetch=2) as told:
        await until(lambda: rabbitmq.count("p.reply") == 1)
    assert rabbitmq.count("p.tasks") == 0
    assert [text.split("(")[-1].split()[0] for text in told] == [
        "1",
        "2",
        "4",
        "8",
        "16",
    ]
    assert all("'died'" in text for text in told)


async def test_a_bridge_holds_what_the_workers_can_take(crawl, rabbitmq, redis_server):
    rabbitmq.declare("p.tasks")
    with rabbitmq.channel() as channel:
        for n in range(20):
            rabbitmq.publish("p.tasks", f"http://a/{n}", channel)
    async with running(crawl, rabbitmq, tasks="p.tasks", prefetch=6):
        await until(lambda: rabbitmq.count("p.tasks") == 16)
        async with running(crawl, rabbitmq, tasks="p.tasks"):
            await until(lambda: rabbitmq.count("p.tasks") == 12)
        await until(lambda: rabbitmq.count("p.tasks") == 16)
        client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
        workers = [await Worker(client).join() for _ in range(3)]
        assert len({worker.frontier.worker for worker in workers}) == 3
        await until(lambda: rabbitmq.count("p.tasks") == 14)
        await close_client(client)
    assert rabbitmq.count("p.tasks") == 20


async def test_a_bridge_holds_no_more_bytes_than_it_has_room_for(
    redis_server, rabbitmq, monkeypatch
):
    monkeypatch.setattr(weight, "BUDGET", 1_000_000)
    most, weights, add = [], set(), weight.Weight.add

    def watched(self, body):
        found = add(self, body)
        most.append(self.held)
        weights.add(self)
        return found

    monkeypatch.setattr(weight.Weight, "add", watched)
    rabbitmq.declare("p.tasks")
    settings = Settings({"REDIS_URL": redis_server.url, "CONCURRENT_REQUESTS": 100})

    def publish(name, count, text):
        with rabbitmq.channel() as channel:
            for n in range(count):
                body = json.dumps({"url": f"http://a/{n}", "meta": {"x": text}})
                rabbitmq.publish("p.tasks", body, channel, message_id=f"{name}{n}")

    async with (
        Crawl(settings, "s") as crawl,
        running(crawl, rabbitmq, tasks="p.tasks") as told,
    ):
        # Small ones: as many as there may be; large ones: as many as there is room for.
        publish("small", 120, "")
        await until(lambda: rabbitmq.count("p.tasks") == 0)
        publish("large", 30, "x" * 90_000)
        await until(lambda: 18 <= rabbitmq.count("p.tasks") <= 25)
        # None of those that went back is lost, and none is a task twice.
        tasks = Tasks(crawl)
        while len(found := await tasks.tasks()) < 150 or any(
            not task.state.is_end for task in found
        ):
            await tasks.cancel([task.id for task in found if not task.state.is_end])
            await asyncio.sleep(0.02)
        assert len(found) == 150
        [held] = weights
        await until(lambda: held.held == 0)
    assert told == []
    assert rabbitmq.count("p.tasks") == 0
    assert 500_000 < max(most) <= 1_000_000


async def test_tasks_and_items_that_are_too_much_for_rabbitmq_hold_up_no_others(
    crawl, rabbitmq, client
):
    def set_limits(size, timeout, tick):
        rabbitmq.control(
            "eval",
            f"application:set_env(rabbit, max_message_size, {size}),"
            f"application:set_env(rabbit, consumer_timeout, {timeout}),"
            f"application:set_env(rabbit, channel_tick_interval, {tick}).",
        )

    client.rpush(KEYS.items, json.dumps("x" * 5000), "{}")
    rabbitmq.declare("p.reply", "p.items")
    rabbitmq.declare("p.tasks", **{"x-queue-type": "quorum"})
    for n in range(2):
        about = {"message_id": "a"} if n else {}
        rabbitmq.publish("p.tasks", "http://a/", reply_to="p.reply", **about)
    answers: set[str] = set()
    set_limits(4000, 500, 200)
    try:
        async with running(crawl, rabbitmq, tasks="p.tasks", items="p.items") as told:
            await seeds(crawl, 2)
            await until(lambda: any("consumer_timeout" in text for text in told))
            tasks = await Tasks(crawl).tasks()
            await Tasks(crawl).cancel([task.id for task in tasks])
            # An answer may come twice: its connection may end before it is acknowledged.
            while len(answers) < 2:
                found = await asyncio.to_thread(rabbitmq.drain, "p.reply")
                answers |= {json.loads(body)["id"] for _, body in found}
    finally:
        set_limits(1 << 27, 1_800_000, 60_000)
    assert len(await Tasks(crawl).tasks()) == 2
    assert answers == {task.id for task in tasks}
    [late] = {text for text in told if "consumer_timeout" in text}
    assert "longer than its consumer_timeout of 0.5 s" in late
    assert "lower --prefetch, or say --ack stored. It is tried again" in late
    [large] = [text for text in told if "items for the queue 'p.items'" in text]
    assert "is larger than configured max size 4000" in large
    # The item is there still, and goes as soon as it may.
    assert rabbitmq.count("p.items") == 0
    async with running(crawl, rabbitmq, items="p.items"):
        await until(lambda: rabbitmq.count("p.items") == 2)


async def test_rights_that_a_bridge_needs_in_redis(make_redis, rabbitmq):
    rabbitmq.declare("p.tasks", "p.items", "p.failed", "p.status", "p.reply")
    server = make_redis()
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "bridge", "on", *acl("bridge", "s"))
        admin.rpush(KEYS.items, "{}")
    rabbitmq.publish("p.tasks", "http://a/", message_id="a", reply_to="p.reply")
    rabbitmq.publish("p.tasks", "ftp://a/")
    own = server.url.replace("redis://", "redis://bridge:password@")
    queues = {name: f"p.{name}" for name in ("tasks", "items", "failed", "status")}
    async with (
        Crawl(Settings({"REDIS_URL": own}), "s") as crawl,
        Crawl(Settings({"REDIS_URL": server.url}), "s") as admin,
    ):
        async with running(crawl, rabbitmq, **queues) as told:
            await seeds(admin, 1)
            await Tasks(admin).cancel(["a"])
            for queue in ("p.items", "p.failed", "p.reply"):
                await until(lambda q=queue: rabbitmq.count(q) == 1)
        assert told == []
        # What it may have sent is kept, and what it has not sent goes back.
        reader = crawl.port.items("x")
        with server.client() as client:
            client.rpush(KEYS.items, "1", "2", "3")
        await reader.take()
        await reader.leave(keep=1)


async def test_tls_is_checked(rabbitmq, tmp_path, monkeypatch):
    proxy = TlsProxy(tmp_path, rabbitmq.port)
    address = f"amqps://guest:guest@127.0.0.1:{proxy.port}/"
    with pytest.raises(LinkLost, match="certificate"):
        await Link.open(Address.parse(address))
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.authority))
    link = await Link.open(Address.parse(address))
    await link.close()
    proxy.close()
