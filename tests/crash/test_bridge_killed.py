"""RabbitMQ, Redis, the bridge and a worker are killed in mid-crawl: nothing is lost."""

from __future__ import annotations

import json
from collections import Counter

from tests.support.rabbitmq import BridgeProcess
from tests.support.wait import wait_until

TASKS = 40
SPIDER = """
    from scrapy_dist.spiders import RedisSpider

    class Shop(RedisSpider):
        name = "shop"
        custom_settings = {"ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400}}

        def parse(self, response):
            yield {"url": response.url}
            yield response.follow(response.url + "x", self.parse_more)

        def parse_more(self, response):
            yield {"url": response.url}
"""


def test_everything_is_killed_once(make_project, make_redis, site, rabbitmq):
    redis = make_redis(appendonly="yes")
    project = make_project(redis.url)
    project.spider(SPIDER)
    rabbitmq.declare("k.items", "k.reply", "k.status")
    rabbitmq.declare("k.tasks", **{"x-queue-type": "quorum"})
    with rabbitmq.channel() as channel:
        for n in range(TASKS):
            about = {"reply_to": "k.reply", "correlation_id": str(n)}
            # As in the tutorials every second one has no id.
            named = {"message_id": f"t{n}"} if n % 2 else {}
            page = f"{site.url}/page/{n}"
            rabbitmq.publish("k.tasks", page, channel, **about, **named)
    args = ["--tasks", "k.tasks", "--items", "k.items", "--status", "k.status"]

    def bridge():
        return BridgeProcess(project, "shop", "--amqp", rabbitmq.url, *args)

    site.answer(15)
    first = bridge()
    workers = project.crawl_many(2, "shop", frontier="addon")
    wait_until(lambda: len(site.log()) >= 15, "pages")
    # Some tasks have ended, others are under way, and others wait.
    first.kill()
    second = bridge()
    wait_until(lambda: "Ctrl-C ends" in second.log(), "the second bridge")
    site.answer(15)
    wait_until(lambda: len(site.log()) >= 30, "pages with the second bridge")
    redis.kill()
    redis.start()
    site.answer(15)
    wait_until(lambda: len(site.log()) >= 45, "pages with Redis again")
    rabbitmq.kill()
    workers[0].kill()
    site.resume()
    rabbitmq.start()

    answers = {}

    def all_answered():
        for about, body in rabbitmq.drain("k.reply"):
            answers.setdefault(about.correlation_id, []).append(
                (about, json.loads(body))
            )
        return len(answers) == TASKS

    wait_until(all_answered, "all replies")
    wait_until(lambda: rabbitmq.count("k.items") >= 2 * TASKS, "all items")
    assert second.end() == 0, second.log()
    workers[1].interrupt()
    assert rabbitmq.count("k.tasks") == 0
    for number, found in answers.items():
        for about, body in found:
            assert about.message_id == found[0][0].message_id
            assert body["state"] == "done"
            assert body["id"].startswith("amqp-") or body["id"] == f"t{number}"
            assert (body["done"], body["items"], len(body["results"])) == (2, 2, 2)
    # Only what the dead worker held was fetched again, once.
    agents: dict[str, list[str]] = {}
    for hit in site.log():
        agents.setdefault(hit.path, []).append(hit.agent)
    assert len(agents) == 2 * TASKS
    for path, by in agents.items():
        assert len(by) == 1 or by == [workers[0].agent, workers[1].agent], path
    items = {}
    for about, body in rabbitmq.drain("k.items"):
        assert items.setdefault(about.message_id, body) == body
    pages = Counter(json.loads(body)["url"] for body in items.values())
    assert pages == dict.fromkeys((f"{site.url}{path}" for path in agents), 1)
    states = {}
    for about, body in rabbitmq.drain("k.status"):
        states.setdefault(json.loads(body)["id"], set()).add(about.message_id)
    assert {len(ids) for ids in states.values()} == {3}
