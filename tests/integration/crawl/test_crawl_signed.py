"""With FRONTIER_SECRET workers decode only what workers with this secret have stored."""

from __future__ import annotations

from collections import Counter

import msgpack

from tests.support.commands import run_frontier
from tests.support.frontiers import member
from tests.support.project import assert_finished, wait_all
from tests.support.redis_state import failed, wait_for_workers
from tests.support.site import tree_pages

SPIDER = """
class Shop(Spider):
    name = "shop"

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        yield from response.follow_all(css="a::attr(href)")
"""
SECRET = "a secret of many characters"


def test_workers_with_one_secret_share_a_crawl_and_nobody_else_joins(
    project, site, redis_server, tmp_path
):
    project.spider(SPIDER)
    args = {"url": f"{site.url}/tree/40/3/0"}
    planted = b"\x01" + msgpack.packb({"url": f"{site.url}/page/planted"})
    with redis_server.client() as client:
        client.zadd("shop:requests", {member(planted, 0x70, -9): 0})
        site.pause()
        workers = project.crawl_many(
            2, "shop", args=args, settings={"FRONTIER_SECRET": SECRET}
        )
        wait_for_workers(client, "shop", 2)
        refused = [
            project.crawl("shop", args=args),
            project.crawl(
                "shop", args=args, settings={"FRONTIER_SECRET": SECRET + "!"}
            ),
        ]
        assert wait_all(refused) == [1, 1]
        # So does who queues requests from outside.
        again = [
            "recrawl",
            "shop",
            f"{site.url}/page/again",
            "--redis",
            redis_server.url,
        ]
        ended = run_frontier(tmp_path, *again)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "FRONTIER_SECRET is not set" in ended.stderr
        ended = run_frontier(tmp_path, *again, environ={"FRONTIER_SECRET": SECRET})
        assert ended.returncode == 0, ended.stderr
        site.resume()
        assert_finished(workers)
        (letter,) = failed(client, "shop")

    assert site.hits() == tree_pages(40, 3) + Counter({"/page/again": 1})
    assert letter["payload"] == planted
    assert b"not signed with this frontier's FRONTIER_SECRET" in letter["reason"]
    for worker, reason in zip(
        refused,
        ("FRONTIER_SECRET is not set", "signed with another FRONTIER_SECRET"),
        strict=True,
    ):
        errors = [line for line in worker.log().splitlines() if " ERROR: " in line]
        assert len(errors) == 1, errors
        assert reason in errors[0]
        assert "Traceback" not in worker.log()
        assert SECRET not in worker.log()
    assert not any(SECRET in worker.log() for worker in workers)
