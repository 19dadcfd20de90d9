"""A Redis, or a sentinel, that is there and does not answer."""

from __future__ import annotations

import subprocess

import pytest
import redis

from scrapy_dist.client import Client
from scrapy_dist.exceptions import RedisUnavailable
from tests.support.project import assert_finished
from tests.support.redis_server import find_binary, free_port
from tests.support.redis_state import count_pending
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW
from tests.support.topologies import MASTER
from tests.support.wait import wait_until

SHORT = {"REDIS_PARAMS": {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}}


def test_client_and_reader_of_items_say_that_a_frozen_redis_does_not_answer(own_redis):
    with own_redis.client() as server:
        server.rpush("s:items", '{"n": 1}', '{"n": 2}')
    with Client(own_redis.url, "s", settings=SHORT) as client:
        items = client.items()
        assert next(items) == {"n": 1}
        own_redis.freeze()
        for work in (
            client.status,
            client.failed,
            client.history,
            lambda: client.seed("http://site.example/"),
            lambda: client.wait_drained(60),
            lambda: list(client.items()),
            items.ack,
        ):
            with pytest.raises(RedisUnavailable):
                work()
        own_redis.thaw()
        wait_until(lambda: answers(client), "Redis")
        assert client.seed("http://site.example/") == 1
        with client.items() as others:
            # The first is here again unless Redis has taken its acknowledgement since.
            assert [item["n"] for item in others] in ([1, 2], [2])


def test_client_that_is_closed_while_redis_is_frozen_ends(own_redis):
    with Client(own_redis.url, "s", settings=SHORT):
        own_redis.freeze()


def test_frozen_sentinel_is_passed_over_and_named_if_it_is_the_only_one(
    own_redis, make_redis, tmp_path
):
    frozen = make_redis()
    frozen.freeze()
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {own_redis.port} 1\n"
    )
    command = [find_binary(), str(config), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sentinel:
        try:
            wait_until(lambda: knows_master(port), "the sentinel")
            url = (
                f"redis+sentinel://127.0.0.1:{frozen.port},127.0.0.1:{port}/{MASTER}/0"
            )
            with Client(url, "s", settings=SHORT) as client:
                assert client.seed("http://site.example/") == 1
        finally:
            sentinel.kill()
    with pytest.raises(RedisUnavailable, match=str(frozen.port)):
        Client(
            f"redis+sentinel://127.0.0.1:{frozen.port}/{MASTER}/0", "s", settings=SHORT
        )


def answers(client: Client) -> bool:
    try:
        return bool(client.status())
    except RedisUnavailable:
        return False


def knows_master(port: int) -> bool:
    with redis.Redis(port=port) as client:
        try:
            return bool(client.sentinel_master(MASTER))
        except redis.RedisError:
            return False


def test_stall_is_no_round_trip(make_project, own_redis, site):
    """A worker that could not ask for seconds does not lease for seconds afterwards."""
    pages, concurrency, reserve = 800, 8, 100
    project = make_project(own_redis.url, CONCURRENT_REQUESTS=concurrency)
    project.spider(FOLLOW)
    site.delay(10)
    site.answer(100)
    worker = project.crawl("follow", args={"url": f"{site.url}/tree/{pages}/9/0"})
    with own_redis.client() as server:
        wait_until(
            lambda: count_pending(server, "follow") > 200, "many pending requests"
        )
        server.execute_command("CLIENT", "PAUSE", 3000, "ALL")
        before = site.hits().total()
        site.resume()
        most = 0
        while worker.running():
            most = max(most, server.hlen("follow:leased"))
        assert site.hits().total() > before
    assert_finished([worker])
    assert set(project.recorded("path")) == set(tree_pages(pages, 9))
    assert concurrency <= most <= concurrency + reserve + 2 * concurrency
