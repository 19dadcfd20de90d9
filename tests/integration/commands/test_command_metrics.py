"""``scrapy frontier metrics``: what Prometheus reads, also while Redis is away."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scrapy.settings import Settings

from scrapy_dist.admin import metrics
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.version import FORMAT
from scrapy_dist.codec import compact
from scrapy_dist.commands.metrics import SUBCOMMAND
from scrapy_dist.core.slots import slot_number
from scrapy_dist.exceptions import ConfigurationError
from tests.support.frontiers import member, suspect
from tests.support.project import SETTINGS
from tests.support.redis_server import free_port
from tests.support.spiders import SEEDED
from tests.support.wait import wait_until

BOOKS = Keys.from_settings(Settings(), "books")
#: All metrics; dashboards and alerts rely on them.
NAMES = {
    "scrapy_frontier_redis_up": "gauge",
    "scrapy_frontier_readable": "gauge",
    "scrapy_frontier_pending_requests": "gauge",
    "scrapy_frontier_leased_requests": "gauge",
    "scrapy_frontier_suspect_requests": "gauge",
    "scrapy_frontier_failed_requests": "gauge",
    "scrapy_frontier_seen_requests": "gauge",
    "scrapy_frontier_seeds": "gauge",
    "scrapy_frontier_items": "gauge",
    "scrapy_frontier_tasks": "gauge",
    "scrapy_frontier_tasks_open": "gauge",
    "scrapy_frontier_tasks_by_state": "gauge",
    "scrapy_frontier_pages": "counter",
    "scrapy_frontier_pages_per_second": "gauge",
    "scrapy_frontier_paused": "gauge",
    "scrapy_frontier_workers": "gauge",
    "scrapy_frontier_hosts": "gauge",
    "scrapy_frontier_hosts_waiting": "gauge",
    "scrapy_frontier_hosts_owned": "gauge",
    "scrapy_frontier_host_pending_requests": "gauge",
}


def parse(text):
    """Value of each sample: {(name, spider, job, state): value}."""
    labels = ("spider", "frontier_job", "state")
    return {
        (
            sample.name.removeprefix("scrapy_frontier_"),
            *map(sample.labels.get, labels),
        ): (sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(values, spider, job=""):
    """The samples of one crawl, by their names."""
    return {
        f"{name}_{state}" if state else name: value
        for (name, of_spider, of_job, state), value in values.items()
        if (of_spider, of_job) == (spider, job)
    }


def is_up(values):
    return values["redis_up", None, None, None] == 1


@pytest.fixture
def server(redis_server):
    with redis_server.client() as client:
        yield client


@pytest.fixture
def command(redis_server, capsys, tmp_path, monkeypatch):
    """Run the command in this process, outside a project: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*args, url=redis_server.url):
        parser = argparse.ArgumentParser()
        SUBCOMMAND.add_options(parser)
        opts = parser.parse_args(["--redis", url, *args])
        code = asyncio.run(SUBCOMMAND.run(Settings(), opts))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def fill(server, name="books"):
    """A frontier with a living worker and a dead one."""
    seconds, _ = server.time()
    server.zadd(f"{name}:workers", {"1": seconds * 1000, "2": 1})
    info = {"pages": 40, "failed": 1, "pages_per_second": 2.5, "memory": 1000}
    state = {"active": 1, "pages": 42, "format": FORMAT}
    state |= {"worker:1": "host:1", "worker:2": "host:2"}
    server.hset(f"{name}:state", mapping={**state, "beat:1": json.dumps(info)})
    server.zadd(f"{name}:requests", {member(b"x", n): 0 for n in range(5)})
    server.zadd(f"{name}:leases", {f"{n:016x}": 1 for n in range(10, 13)})
    server.zadd(f"{name}:suspects", {suspect(b"x", 32): 0})
    server.sadd(f"{name}:dupefilter", *range(9))
    server.rpush(f"{name}:start_urls", "a", "b")
    server.rpush(f"{name}:items", *"abcdef")
    server.xadd(f"{name}:failed", {"reason": "x"})


def test_everything_is_measured_with_the_types_of_prometheus(command, server):
    fill(server)
    server.hset("books:control", "paused", "1")
    ended = BOOKS.tasks_ended
    server.zadd(ended, {"0" * 16: 1, "1" * 16: 2, "2" * 16: math.inf})
    server.hset(BOOKS.tasks, "b:", "0 1 2 0 0")
    code, out, err = command("--once")
    assert (code, err) == (0, "")
    families = list(text_string_to_metric_families(out))
    assert {family.name: family.type for family in families} == NAMES
    assert all(family.documentation.endswith(".") for family in families)
    values = parse(out)
    assert is_up(values)
    assert of(values, "books") == {
        "readable": 1,
        "pending_requests": 5,
        "leased_requests": 3,
        "suspect_requests": 1,
        "failed_requests": 1,
        "seen_requests": 9,
        "seeds": 2,
        "items": 6,
        "tasks": 3,
        "tasks_open": 1,
        "tasks_by_state_queued": 0,
        "tasks_by_state_running": 1,
        "tasks_by_state_done": 2,
        "tasks_by_state_failed": 0,
        "tasks_by_state_cancelled": 0,
        "pages_total": 42,
        "pages_per_second": 2.5,
        "paused": 1,
        "workers_alive": 1,
        "workers_dead": 1,
        "hosts": 0,
        "hosts_waiting": 0,
        "hosts_owned": 0,
        "host_pending_requests": 5,
    }


def fill_hosts(server, hosts):
    """Pending requests of each of *hosts*."""
    fill(server)
    for name, count in hosts.items():
        slot = slot_number(name)
        meta = {"download_slot": name}
        payload = b"\x01" + compact.dumps({"url": "http://site/", "meta": meta})
        server.zadd(BOOKS.slots, {str(slot): 1})
        members = {member(payload, 100 + n): slot for n in range(count)}
        server.zadd(BOOKS.requests, members)


def pending_of_hosts(text):
    return {
        sample.labels["host"]: sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "scrapy_frontier_host_pending_requests"
        for sample in family.samples
    }


def test_the_largest_hosts_are_measured_and_the_rest_as_one(command, server):
    fill_hosts(server, {f"h{n}.example": n for n in range(1, 31)})
    _, out, _ = command("--once")
    assert of(parse(out), "books")["hosts"] == 30
    found = pending_of_hosts(out)
    assert found.pop("other") == 5 + sum(range(1, 11))
    assert found == {f"h{n}.example": n for n in range(11, 31)}
    assert pending_of_hosts(command("--once", "--hosts", "2")[1]) == {
        "h30.example": 30,
        "h29.example": 29,
        "other": 5 + sum(range(1, 29)),
    }
    none = pending_of_hosts(command("--once", "--hosts", "0")[1])
    assert none == {"other": 5 + sum(range(1, 31))}


def test_of_very_many_hosts_only_large_ones_have_a_series_of_their_own(command, server):
    # Which of the small ones are looked at is chance: each would get a series one day.
    small = {f"s{n}.example": 1 for n in range(700)}
    fill_hosts(server, small | {"large.example": 300, "mid.example": 20})
    _, out, _ = command("--once")
    found = pending_of_hosts(out)
    assert found.pop("large.example") == 300
    assert found.pop("mid.example", 20) == 20
    assert found.keys() == {"other"}
    assert found["other"] in (705, 725)


def test_hosts_that_wait_and_that_are_owned_are_counted(command, server):
    fill_hosts(server, {"rests": 1, "owned": 1, "free": 1})
    seconds, _ = server.time()
    now = seconds * 1000
    server.hset(BOOKS.state, "slots:seen", now)
    times = {"rests": now + 500_000, "owned": 2**52 + 1, "free": 1}
    server.zadd(BOOKS.slots, {str(slot_number(n)): t for n, t in times.items()})
    values = of(parse(command("--once")[1]), "books")
    assert [values[f"hosts{kind}"] for kind in ("", "_waiting", "_owned")] == [3, 1, 1]


def test_names_of_hosts_are_escaped_short_and_different(command, server):
    names = ["other", 'a"b\\\n\x1b', "\u202e", "\\u202e", "x" * 500, "x" * 501, ""]
    fill_hosts(server, dict.fromkeys(names, 3))
    _, out, _ = command("--once")
    found = pending_of_hosts(out)
    assert found.pop("other") == 5
    assert [*found.values()] == [3] * len(names)
    assert all(len(label) <= 200 for label in found)
    assert all(label.isprintable() for label in found)


def test_slots_of_a_wrong_type_make_the_crawl_unreadable(command, server):
    fill(server)
    server.set(BOOKS.slots, "x")
    values = of(parse(command("--once")[1]), "books")
    assert values == {"readable": 0}


def test_all_crawls_of_a_redis_are_found_and_jobs_told_apart(command, server):
    for name in ("books", "books:nightly", "films"):
        fill(server, name)
    values = parse(command("--once")[1])
    for crawl in (("books", ""), ("books", "nightly"), ("films", "")):
        assert of(values, *crawl)["pending_requests"] == 5
    named = parse(command("--once", "films", "plays")[1])
    assert of(named, "films")["pending_requests"] == 5
    assert of(named, "plays")["pending_requests"] == 0
    assert of(named, "books") == {}
    job = parse(command("--once", "books", "--job", "nightly")[1])
    assert of(job, "books", "nightly")["pages_total"] == 42
    assert of(job, "books") == {}


def test_seeds_that_nobody_works_on_are_measured(command, server):
    """So that the alert for them can fire."""
    server.rpush("books:start_urls", "http://site.example/")
    server.xadd("films:failed", {"payload": "x"})
    _, out, _ = command("--once")
    values = parse(out)
    assert of(values, "books")["seeds"] == 1
    assert of(values, "books")["workers_alive"] == 0
    assert of(values, "films")["failed_requests"] == 1


def test_names_of_strangers_do_no_harm(command, server):
    name = 'a"b\\\nscrapy_frontier_redis_up 0\n\x1b'
    fill(server, name)
    values = parse(command("--once")[1])
    assert is_up(values)
    label = metrics._label(name)
    assert label.isprintable()
    assert of(values, label)["pending_requests"] == 5


def test_keys_of_other_programs_are_no_crawls(command, server):
    server.set("text:state", "x")
    server.hset("hash:state", "x", "y")
    values = parse(command("--once")[1])
    assert values == {("redis_up", None, None, None): 1}


def test_crawl_with_a_key_of_another_type_is_reported_and_spoils_no_other(
    command, server
):
    fill(server)
    fill(server, "broken")
    server.set("broken:requests", "x")
    code, out, err = command("--once")
    values = parse(out)
    assert code == 0
    assert "scrapy frontier check broken" in err
    assert of(values, "broken") == {"readable": 0}
    assert of(values, "books")["readable"] == 1


def test_redis_that_is_away_is_0_and_exit_code_1(command):
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    code, out, err = command("--once", url=url)
    assert code == 1
    assert parse(out) == {("redis_up", None, None, None): 0}
    assert "127.0.0.1" in err
    assert "secret" not in err


def test_wrong_settings_are_said_at_once(command):
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        command("--once", url="http://localhost")


def test_missing_package_is_named(command, monkeypatch):
    for name in ("prometheus_client", "prometheus_client.core"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "scrapy_dist.admin.metrics")
    monkeypatch.delattr("scrapy_dist.admin.metrics")
    with pytest.raises(
        ConfigurationError, match=r'pip install "scrapy-dist\[metrics\]"'
    ):
        command("--once")


@pytest.mark.parametrize("port", ["x", "-1", "65536"])
def test_port_must_be_one(command, port):
    with pytest.raises(SystemExit):
        command("--port", port)


def test_port_that_is_taken_is_named(command):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: .* --port"):
            command("--port", str(port))


async def test_redis_is_asked_once_a_second_and_searched_twice_a_minute(monkeypatch):
    now = [100.0]
    asked = []

    async def find():
        asked.append(now[0])
        return []

    watch = metrics.Watch(find, print)
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(metrics, "time", clock)
    first = await watch.read()
    now[0] += 0.9
    assert await watch.read() is first
    now[0] += 0.2
    assert await watch.read() is not first
    assert len(asked) == 1
    now[0] += 30
    await watch.read()
    assert len(asked) == 2


async def test_redis_that_does_not_answer_in_time_is_away(monkeypatch):
    monkeypatch.setattr(metrics, "_TIMEOUT", 0.01)
    told = []
    watch = metrics.Watch(lambda: asyncio.sleep(10, []), told.append)
    assert not (await watch.read()).up
    assert not (await watch.read()).up
    assert told == [
        "Redis does not answer within 0.01 s. Serving redis_up 0 until it answers."
    ]


# As a process


@pytest.fixture
def serve(tmp_path):
    """Start ``scrapy frontier metrics`` at any free port: the process, its address."""
    processes = []

    def start(folder, *args, settings=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
        env["CRAWL_SETTINGS"] = repr({**SETTINGS, **(settings or {})})
        command = [sys.executable, "-m", "scrapy", "frontier", "metrics", "--port", "0"]
        process = subprocess.Popen(
            [*command, *args],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        line = process.stdout.readline()
        found = re.search(r"at (http://\S+/metrics); Ctrl-C ends", line)
        assert found, (line, process.stderr.read())
        return process, found[1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def scrape(url):
    with urllib.request.urlopen(url, timeout=100) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        return parse(response.read().decode())


def up(url):
    return is_up(scrape(url))


def test_redis_may_go_and_come_while_metrics_are_served(own_redis, serve, tmp_path):
    with own_redis.client() as server:
        fill(server)
    process, url = serve(tmp_path, "--redis", own_redis.url)
    values = scrape(url)
    assert of(values, "books")["pending_requests"] == 5
    own_redis.kill()
    wait_until(lambda: not up(url), "redis_up 0", interval=0.3)
    assert of(scrape(url), "books") == {}
    own_redis.start()
    wait_until(lambda: up(url), "redis_up 1", interval=0.3)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (0, "")
    away, back = err.splitlines()
    assert away.endswith("Serving redis_up 0 until it answers.")
    assert back == "scrapy frontier metrics: Redis answers again."


def test_metrics_are_served_before_redis_is_there(serve, tmp_path, make_redis):
    port = free_port()
    process, url = serve(tmp_path, "--redis", f"redis://127.0.0.1:{port}/0", "books")
    assert not up(url)
    make_redis(port=port)
    wait_until(lambda: up(url), "redis_up 1", interval=0.3)
    assert of(scrape(url), "books")["workers_alive"] == 0
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0
    away, back = err.splitlines()
    assert away.startswith("scrapy frontier metrics: Redis cannot be used")
    assert "again" in back


def test_real_workers_are_measured(project, site, redis_server, serve):
    project.spider(SEEDED)
    settings = {"REDIS_URL": redis_server.url, "FRONTIER_WORKER_TTL": 1.0}
    _, url = serve(project.folder, "seeded", settings=settings)
    worker = project.crawl("seeded", settings=settings)
    wait_until(lambda: of(scrape(url), "seeded")["workers_alive"] == 1, "a worker")
    with redis_server.client() as server:
        server.rpush("seeded:start_urls", f"{site.url}/page/1", f"{site.url}/page/2")
    wait_until(lambda: of(scrape(url), "seeded")["pages_total"] >= 2, "two pages")
    worker.kill()
    wait_until(lambda: of(scrape(url), "seeded")["workers_dead"] == 1, "its death")


def test_crawls_are_bounded(command, server, monkeypatch):
    monkeypatch.setattr(metrics, "MOST_CRAWLS", 3)
    for number in range(9):
        fill(server, f"made-up-{number}")
    code, out, err = command("--once")
    assert code == 0
    spiders = {spider for _, spider, _, _ in parse(out)} - {None}
    assert spiders == {"made-up-0", "made-up-1", "made-up-2"}
    assert err.count("\n") == 1
    assert "9 crawls: the first 3" in err
    assert len({s for _, s, _, _ in parse(command("--once", "made-up-8")[1])}) == 2


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_who_can_reach_it_is_said(command, monkeypatch, host, warns):
    async def ended(self) -> bool:
        return True

    monkeypatch.setattr(asyncio.Event, "wait", ended)
    code, out, err = command("--host", host, "--port", "0")
    assert code == 0
    assert f"at http://{host}:" in out
    assert ("no password" in err) is warns
