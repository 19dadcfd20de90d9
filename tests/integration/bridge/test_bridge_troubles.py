"""What may happen to a bridge: it says so once, loses nothing, and goes on."""

from __future__ import annotations

import json
import signal

import pytest

from scrapy_dist import Client
from tests.support.commands import run_here
from tests.support.rabbitmq import BridgeProcess
from tests.support.redis_state import keys_of
from tests.support.wait import wait_until

SPIDER = """
    from scrapy_dist.spiders import RedisSpider

    class Shop(RedisSpider):
        name = "shop"
"""


@pytest.mark.keeps("shop:*", reason="no worker ever takes them")
def test_queues_alarms_and_connections_come_and_go(
    project, redis_server, client, rabbitmq
):
    project.spider(SPIDER)
    rabbitmq.declare("t.tasks", "t.items", "t.reply", "t.failed")
    crawl = Client(redis_server.url, "shop")
    args = ["--tasks", "t.tasks", "--items", "t.items", "--failed", "t.failed"]
    bridge = BridgeProcess(project, "shop", "--amqp", rabbitmq.url, *args)
    received = []

    def put(*numbers):
        client.rpush(keys_of("shop").items, *(json.dumps({"n": n}) for n in numbers))

    def has_sent(number):
        received.extend(rabbitmq.drain("t.items"))
        return json.loads(received[-1][1])["n"] == number if received else False

    def seen(text, count=1):
        wait_until(lambda: bridge.log().count(text) >= count, text)

    # Its queue of items is deleted.
    put(0)
    wait_until(lambda: has_sent(0), "an item")
    with rabbitmq.channel() as channel:
        channel.queue_delete("t.items")
    put(*range(1, 5))
    seen("The queue 't.items' is not there")
    rabbitmq.declare("t.items")
    wait_until(lambda: has_sent(4), "items for the queue that is there again")

    # RabbitMQ is short of memory: what was done is still acknowledged.
    for n in range(3):
        about = {"reply_to": "t.reply"} if n == 2 else {}
        page = f"http://127.0.0.1:1/{n}"
        rabbitmq.publish("t.tasks", page, message_id=f"a{n}", **about)
    wait_until(lambda: len(crawl.tasks()) == 3, "tasks")
    rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1000")
    put(5)
    seen("takes no messages now")
    crawl.cancel("a0", "a1")
    wait_until(lambda: "t.tasks\t1\n" in messages(rabbitmq), "two were acknowledged")
    assert not has_sent(5)
    rabbitmq.control("set_vm_memory_high_watermark", "0.4")
    wait_until(lambda: has_sent(5), "the item that waited")

    # The queue of tasks is deleted: who asked is still answered.
    with rabbitmq.channel() as channel:
        channel.queue_delete("t.tasks")
    seen("--tasks t.tasks: RabbitMQ at")
    crawl.cancel("a2")
    wait_until(lambda: rabbitmq.count("t.reply") == 1, "the answer")
    [(_, body)] = rabbitmq.drain("t.reply")
    assert json.loads(body)["state"] == "cancelled"
    rabbitmq.declare("t.tasks")
    seen("Tasks come from the queue 't.tasks'")

    # Its connections are closed.
    rabbitmq.control("close_all_connections", "a test")
    put(6)
    wait_until(lambda: has_sent(6), "an item over a new connection")

    # It holds what one worker can take, and gives that back.
    with rabbitmq.channel() as channel:
        for n in range(40):
            rabbitmq.publish("t.tasks", f"http://127.0.0.1:1/b{n}", channel)
    wait_until(lambda: rabbitmq.count("t.tasks") == 8, "messages that wait")
    rabbitmq.publish("t.tasks", "ftp://a/", priority=3)
    assert bridge.end(signal.SIGTERM) == 0
    assert rabbitmq.count("t.tasks") == 41
    log = bridge.log()
    assert log.count("The queue 't.items' is not there") == 1
    assert log.count("takes no messages now") == 1
    assert "Traceback" not in log
    assert "guest" not in log

    assert [json.loads(body)["n"] for _, body in received] == [0, 1, 2, 3, 4, 5, 6]
    assert len({about.message_id for about, _ in received}) == 7
    crawl.close()


def test_a_user_without_rights_is_told_at_the_start(redis_server, rabbitmq):
    rabbitmq.declare("e")
    with rabbitmq.channel() as channel:
        channel.exchange_declare("e.out", "fanout")
        channel.queue_bind("e", "e.out")
    users = {"nothing": ("", ""), "reads": ("", "e"), "writes": ("amq.default", ".*")}
    # Once, as each call takes a second.
    calls = [
        f'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"p">>, <<"t">>),'
        f'rabbit_auth_backend_internal:set_permissions(<<"{name}">>, <<"/">>, <<"">>,'
        f' <<"{write}">>, <<"{read}">>, <<"t">>)'
        for name, (write, read) in users.items()
    ]
    rabbitmq.control("eval", f"{', '.join(calls)}.")
    for user, said in (
        ("nothing", "--tasks e: ACCESS_REFUSED - access to queue 'e'"),
        ("reads", "access to exchange 'amq.default' in vhost '/' refused"),
        ("writes", "access to exchange 'e.out' in vhost '/' refused"),
    ):
        amqp = f"amqp://{user}:p@127.0.0.1:{rabbitmq.port}/"
        args = ["--redis", redis_server.url, "--tasks", "e", "--results", "e.out"]
        args = args if user == "writes" else args[:4]
        code, out, err = run_here("bridge", "shop", "--amqp", amqp, *args)
        assert (code, out) == (2, "")
        assert said in err
    # To ask for a right sends nothing.
    assert rabbitmq.count("e") == 0


def messages(rabbitmq):
    return rabbitmq.control("list_queues", "name", "messages")


@pytest.mark.parametrize(
    ("url", "args", "said"),
    [
        ("{0}", ["--tasks", "no.such"], "--tasks no.such: RabbitMQ at {1} has no such"),
        ("{0}", ["--items", "no.such"], "--items no.such: "),
        ("{0}", ["--tasks", "e", "--results", "no.such"], "has no such exchange"),
        ("{0}", ["--tasks", "st"], "--tasks st: at RabbitMQ {1} this is a stream"),
        ("{0}no", ["--tasks", "e"], "there is no such vhost"),
        ("amqp://guest:Secret7@{1}/", ["--tasks", "e"], "refuses the login"),
        ("amqps://guest:Secret7@{1}/", ["--tasks", "e"], "cannot be reached"),
        ("amqp://guest:Secret7@127.0.0.1:1/", ["--tasks", "e"], "cannot be reached"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_error(
    redis_server, rabbitmq, url, args, said
):
    rabbitmq.declare("e")
    rabbitmq.declare("st", **{"x-queue-type": "stream"})
    where = f"127.0.0.1:{rabbitmq.port}"
    amqp = url.format(rabbitmq.url, where)
    code, out, err = run_here(
        "bridge", "shop", "--redis", redis_server.url, "--amqp", amqp, *args
    )
    assert code == 2
    assert out == ""
    [line] = err.splitlines()
    assert said.format("", where) in line
    assert "Secret7" not in line
    assert "guest:" not in line
