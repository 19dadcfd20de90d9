"""Tasks from a real RabbitMQ to real workers; items, results and status back."""

from __future__ import annotations

import json
from collections import Counter

from tests.support.rabbitmq import BridgeProcess
from tests.support.wait import wait_until

SPIDER = """
    from scrapy_dist.spiders import RedisSpider

    class Shop(RedisSpider):
        name = "shop"
        custom_settings = {"ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400}}

        def parse(self, response):
            yield {"n": response.url.rpartition("=")[2]}
"""


def bodies(messages):
    return [json.loads(body) for _, body in messages]


def test_tasks_go_in_and_all_that_comes_of_them_goes_out(project, site, rabbitmq):
    project.spider(SPIDER)
    rabbitmq.declare("a.items", "a.status", "a.failed", "a.results", "a.reply")
    rabbitmq.declare("a.tasks", **{"x-max-priority": 9})
    with rabbitmq.channel() as channel:
        channel.exchange_declare("a.out", "topic")
        channel.queue_bind("a.results", "a.out", "shop.#")
    page = f"{site.url}/page?n="
    # given tasks with all properties, two that are one, one without any, and bad ones
    for n in range(10):
        about = {"correlation_id": f"c{n}", "priority": n, "reply_to": "a.reply"}
        rabbitmq.publish("a.tasks", f"{page}{n}", message_id=f"t{n}", **about)
    for _ in range(2):
        seed = json.dumps({"url": f"{page}own", "id": "own", "batch": "b"})
        rabbitmq.publish("a.tasks", seed, message_id="other", reply_to="a.reply")
    for _ in range(2):
        rabbitmq.publish("a.tasks", f"{page}bare")
    rabbitmq.publish("a.tasks", "ftp://a/", message_id="bad", reply_to="a.reply")
    rabbitmq.publish("a.tasks", b"\xff{", reply_to="a.reply", correlation_id="c")

    args = ["--tasks", "a.tasks", "--items", "a.items", "--status", "a.status"]
    args += ["--failed", "a.failed", "--results", "a.out"]
    bridge = BridgeProcess(project, "shop", "--amqp", rabbitmq.url, *args)
    workers = project.crawl_many(2, "shop", frontier="addon")
    wanted = {"a.reply": 14, "a.items": 13, "a.failed": 2, "a.results": 15}
    wanted["a.status"] = 3 * 13 + 2
    for queue, count in wanted.items():
        wait_until(lambda q=queue, c=count: rabbitmq.count(q) == c, queue)
    assert bridge.end() == 0, bridge.log()
    for worker in workers:
        worker.interrupt()

    # then each page was fetched once for each task, and nothing is left
    hits = Counter(hit.query for hit in site.log())
    assert hits == {**{f"n={n}": 1 for n in [*range(10), "own"]}, "n=bare": 2}
    assert rabbitmq.count("a.tasks") == 0
    items = rabbitmq.drain("a.items")
    assert len({about.message_id for about, _ in items}) == 13
    assert Counter(f"n={item['n']}" for item in bodies(items)) == hits
    answers = rabbitmq.drain("a.reply")
    told = Counter(
        (about.correlation_id, b["id"], b["state"])
        for (about, _), b in zip(answers, bodies(answers), strict=True)
    )
    assert told.pop((None, "own", "done")) == 2
    assert told.pop((None, "bad", "failed")) == 1
    [(key, _)] = [each for each in told.items() if each[0][0] == "c"]
    assert key[2] == "failed"
    del told[key]
    assert told == Counter((f"c{n}", f"t{n}", "done") for n in range(10))
    assert {b["results"][0]["n"] for b in bodies(answers) if b["state"] == "done"} == {
        *map(str, range(10)),
        "own",
    }
    results = rabbitmq.drain("a.results")
    assert len({about.message_id for about, _ in results}) == 15
    statuses = rabbitmq.drain("a.status")
    assert len({about.message_id for about, _ in statuses}) == len(statuses)
    states = [b["state"] for b in bodies(statuses) if b["id"] == "t3"]
    assert states == ["queued", "running", "done"]
    letters = rabbitmq.drain("a.failed")
    assert {body for _, body in letters} == {b"ftp://a/", b"\xff{"}
    assert any("'ftp' is not allowed" in a.headers["reason"] for a, _ in letters)
    assert "guest" not in bridge.log()
