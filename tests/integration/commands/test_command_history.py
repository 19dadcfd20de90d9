"""``scrapy frontier history``."""

from __future__ import annotations

import json

import pytest

from tests.support.commands import run_here


@pytest.fixture
def history(redis_server):
    return lambda *args: run_here("history", *args, "--redis", redis_server.url)


def plant(client, key, **fields):
    told = {"crawl": "1-1", "start": 1_700_000_000_000, "end": 1_700_000_185_000}
    told |= {"reason": "finished", "pages": 7, "items": 5, "failed": 2, "workers": 3}
    client.xadd(key, {**told, **fields})


def test_the_newest_is_first(history, client):
    plant(client, "shop:history", reason="older")
    plant(client, "shop:history")
    code, out, _ = history("shop")
    assert code == 0
    header, first, second = out.splitlines()
    assert header.split()[:5] == ["SPIDER", "JOB", "STARTED", "ENDED", "TOOK"]
    started, ended = ["2023-11-14", "22:13:20"], ["2023-11-14", "22:16:25"]
    figures = [*("3", "min", "5", "s"), "7", "5", "2", "3", "finished"]
    assert first.split() == ["shop", "-", *started, *ended, *figures]
    assert second.split()[-1] == "older"


def test_all_crawls_and_jobs_are_listed_for_scripts(history, client):
    plant(client, "shop:history")
    plant(client, "shop:nightly:history", reason="shutdown")
    code, out, _ = history("--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(each["spider"], each["job"], each["reason"]) for each in found] == [
        ("shop", None, "finished"),
        ("shop", "nightly", "shutdown"),
    ]
    assert (found[0]["start"], found[0]["pages"]) == ("2023-11-14T22:13:20.000Z", 7)
    code, out, _ = history("shop", "--job", "nightly", "--json")
    assert [json.loads(line)["reason"] for line in out.splitlines()] == ["shutdown"]


def test_none_is_said_and_a_wrong_name_is_refused(history, client):
    code, out, _ = history()
    assert (code, out.split(" at ")[0]) == (0, "No crawl")
    client.hset("shop:state", "active", 1)
    code, out, _ = history("shop")
    assert (code, out.split(" at ")[0]) == (0, "No crawl of shop")
    code, out, err = history("shp")
    assert (code, out) == (2, "")
    assert "Did you mean 'shop'?" in err
