"""``scrapy frontier status``, ``workers``, ``pause`` and ``resume``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time

import pytest
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.version import FORMAT
from scrapy_dist.commands import pause, status, workers
from scrapy_dist.exceptions import ConfigurationError, FrontierError
from tests.support.commands import run_frontier
from tests.support.frontiers import member
from tests.support.project import assert_finished, wait_all
from tests.support.redis_server import free_port
from tests.support.redis_state import count_workers
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import start_together
from tests.support.wait import wait_until


@pytest.fixture
def frontier(redis_server, capsys):
    """``frontier(subcommand, *args)`` in this process, outside a project.

    The exit code and what was printed; errors are raised.
    """

    def run(subcommand, *args):
        parser = argparse.ArgumentParser()
        subcommand.add_options(parser)
        opts = parser.parse_args(["--redis", redis_server.url, *args])
        capsys.readouterr()
        code = asyncio.run(subcommand.run(Settings(), opts))
        return code, capsys.readouterr().out

    return run


def plant(client, name, *, alive=(), silent=(), pending=0, **told):
    """A frontier as workers would have left it."""
    now = int(time.time() * 1000)
    told = {"pages": 10, "failed": 0, "pages_per_second": 2.0, "memory": 5e7} | told
    state = {"active": now, "order": 1, "pages": 30, "format": FORMAT}
    client.hset(f"{name}:state", mapping=state)
    for number, worker in enumerate([*alive, *silent], 1):
        client.zadd(f"{name}:workers", {number: now if worker in alive else 1})
        client.hset(
            f"{name}:state",
            mapping={
                f"worker:{number}": worker,
                f"since:{number}": now - 125_000,
                f"beat:{number}": json.dumps(told),
            },
        )
    if pending:
        requests = {member(b"x", i): 0 for i in range(pending)}
        client.zadd(f"{name}:requests", requests)


# status


def test_one_crawl_is_told_line_by_line(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop", alive=["a:1", "a:2"], silent=["a:3"], pending=40)
        client.xadd("shop:failed", {"reason": "x"})
    code, out = frontier(status.SUBCOMMAND, "shop")
    assert code == 0
    told = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert told["state"] == "running"
    assert told["workers"] == "2 alive, 1 silent"
    assert told["pending"] == "40"
    assert told["pages/s"] == "4.0"
    assert told["left"] == "10 s"
    assert told["failed"] == "1  (scrapy frontier failed shop)"


def test_all_crawls_are_listed_in_aligned_columns(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop", alive=["a:1"], pending=10)
        plant(client, "shop:nightly", pending=1)
        plant(client, "blog")
        plant(client, "news")
        client.hset("news:control", "paused", 1)
        client.set("other:state", "a string: not of a frontier")
        client.hset("other:items", "x", 1)
    code, out = frontier(status.SUBCOMMAND)
    assert code == 0
    header, *rows = [re.split(" {2,}", line) for line in out.splitlines()]
    cells = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(c["SPIDER"], c["JOB"], c["STATE"], c["LEFT"]) for c in cells] == [
        ("blog", "-", "done", "0 s"),
        ("news", "-", "paused", "0 s"),
        ("shop", "-", "running", "5 s"),
        ("shop", "nightly", "stopped", "-"),
    ]
    column = out.splitlines()[0].index("PENDING") + len("PENDING")
    pending = [line[:column].split()[-1] for line in out.splitlines()[1:]]
    assert pending == ["0", "0", "10", "1"]


def test_only_the_crawls_of_a_job_are_listed_if_it_is_named(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop")
        plant(client, "shop:nightly", pending=3)
    _, out = frontier(status.SUBCOMMAND, "--job", "nightly", "--json")
    [told] = json.loads(out)
    assert (told["spider"], told["job"], told["pending"]) == ("shop", "nightly", 3)
    _, out = frontier(status.SUBCOMMAND, "shop", "--job", "nightly", "--json")
    assert json.loads(out)["pending"] == 3


def test_json_is_an_object_for_one_and_a_list_for_all(frontier, redis_server):
    assert json.loads(frontier(status.SUBCOMMAND, "--json")[1]) == []
    with redis_server.client() as client:
        plant(client, "shop", alive=["a:1"])
    told = json.loads(frontier(status.SUBCOMMAND, "shop", "--json")[1])
    [listed] = json.loads(frontier(status.SUBCOMMAND, "--json")[1])
    assert told.keys() == listed.keys()
    assert told["workers"][0]["worker"] == "a:1"
    assert told["redis"] == redis_server.url


def test_redis_without_a_frontier_is_said_so(frontier, redis_server):
    code, out = frontier(status.SUBCOMMAND)
    assert code == 0
    assert out == f"There is no frontier at {redis_server.url}.\n"


def test_broken_frontier_does_not_hide_the_others(frontier, redis_server, capsys):
    with redis_server.client() as client:
        plant(client, "shop")
        plant(client, "torn")
        client.set("torn:requests", "x")
    code, out = frontier(status.SUBCOMMAND)
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["SPIDER", "shop"]


@pytest.mark.parametrize("name", ["shp", "shop:nigtly"])
def test_nearest_name_in_redis_is_suggested(frontier, redis_server, name):
    with redis_server.client() as client:
        plant(client, "shop")
        plant(client, "shop:nightly")
    spider, _, job = name.partition(":")
    args = [spider, *(["--job", job] if job else [])]
    for command in (status, workers, pause):
        subcommand = getattr(command, "SUBCOMMAND", pause.PAUSE)
        with pytest.raises(ConfigurationError, match="Did you mean 'shop") as caught:
            frontier(subcommand, *args)
        assert name in str(caught.value)
    with redis_server.client() as client:
        assert not client.exists(f"{name}:control")


def test_names_cannot_move_the_cursor(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "a\x1b[2Jb\nc", alive=["evil\x1b]0;x\x07:1\u202e"])
    for subcommand in (status.SUBCOMMAND, workers.SUBCOMMAND):
        args = [] if subcommand is status.SUBCOMMAND else ["a\x1b[2Jb\nc"]
        _, out = frontier(subcommand, *args)
        assert len(out.splitlines()) == 2
        assert all(char.isprintable() or char == "\n" for char in out)


def test_jobs_of_which_only_items_are_left_are_listed(frontier, redis_server):
    with redis_server.client() as client:
        client.rpush("shop:nightly:items", "{}", "{}")
    [told] = json.loads(frontier(status.SUBCOMMAND, "--json")[1])
    assert (told["spider"], told["job"]) == ("shop", "nightly")
    assert (told["items"], told["state"]) == (2, "none")


def test_commands_work_on_what_redis_has_and_the_project_has_no_more(
    project, redis_server
):
    project.spider(FOLLOW)
    here = {"REDIS_URL": project.redis_url}

    def run(*args):
        done = run_frontier(project.folder, *args, settings=here)
        return done.returncode, done.stdout + done.stderr

    with redis_server.client() as client:
        plant(client, "renamed", pending=3)
    assert "pending  3" in run("status", "renamed")[1]
    assert run("peek", "renamed", "-n", "0")[0] == 0
    assert run("seed", "renamed", "http://a.example/")[0] == 0
    code, said = run("seed", "renmed", "http://a.example/")
    assert code == 2
    assert "There is no spider 'renmed' in this project" in said
    assert "Did you mean 'renamed'?" in said
    assert "--new" in said
    for command in ("status", "failed", "clear", "pause"):
        code, said = run(command, "folow")
        assert code == 2, said
        assert "Did you mean 'follow'?" in said
    with redis_server.client() as client:
        assert not client.keys("renmed*")
        assert not client.keys("folow*")


# workers


def test_workers_are_shown_with_what_they_do(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop", alive=["web:1", "web:12"], silent=["db:7"])
        client.zadd("shop:leases", {f"{n:016x}": 2 for n in range(1, 6)})
        for n in range(1, 6):
            url = json.dumps({"url": f"http://site.example/{n}"}).encode()
            client.hset("shop:leased", f"{n:016x}", b"0 0 - " + member(url, n))
        client.hset("shop:control", "stop:1", 1)
    code, out = frontier(workers.SUBCOMMAND, "shop", "--urls", "2")
    assert code == 0
    lines = [re.split(" {2,}", line) for line in out.splitlines()]
    assert [line[:3] for line in lines] == [
        ["WORKER", "ALIVE", "SINCE"],
        ["db:7", "no", "2 min 5 s"],
        ["web:1", "stopping", "2 min 5 s"],
        ["web:12", "yes", "2 min 5 s"],
    ]
    urls = ["http://site.example/1", "http://site.example/2"]
    assert lines[3][4:] == ["10", "2.0", "0", "5", "50 MB", " ".join(urls)]
    _, out = frontier(workers.SUBCOMMAND, "shop", "--json")
    told = json.loads(out)
    assert told["workers"][2]["holds"] == urls[:1]
    assert told["workers"][2]["leased"] == 5


def test_nobody_at_work_is_said_so(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop")
    for args in ([], ["--stop", "all"]):
        code, out = frontier(workers.SUBCOMMAND, "shop", *args)
        assert (code, out) == (0, "Nobody works on shop.\n")


def test_workers_are_asked_to_stop_by_name_number_or_all(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop", alive=["web:1", "web:2", "web:3"], silent=["web:4"])
        _, out = frontier(workers.SUBCOMMAND, "shop", "--stop", "web:2", "--stop", "3")
        assert out == "Asked 2 workers of shop to close.\n"
        assert set(client.hkeys("shop:control")) == {b"stop:2", b"stop:3"}
        _, out = frontier(workers.SUBCOMMAND, "shop", "--stop", "all")
        assert out.startswith("Asked 4 workers of shop to close.\n1 of them was silent")
        assert len(client.hkeys("shop:control")) == 4
    _, out = frontier(workers.SUBCOMMAND, "shop", "--stop", "web:2", "--json")
    assert json.loads(out)["workers"] == ["web:2"]
    assert json.loads(out)["asked"] == 1


def test_unknown_worker_stops_nobody_and_the_nearest_is_suggested(
    frontier, redis_server
):
    with redis_server.client() as client:
        plant(client, "shop", alive=["web:11", "web:2"])
        with pytest.raises(ConfigurationError, match="Did you mean 'web:11'"):
            frontier(workers.SUBCOMMAND, "shop", "--stop", "web:2", "--stop", "wbe:11")
        assert not client.exists("shop:control")


def test_hundreds_of_workers_are_stopped(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop", alive=[f"web:{n}" for n in range(250)])
        _, out = frontier(workers.SUBCOMMAND, "shop", "--stop", "all")
        assert out == "Asked 250 workers of shop to close.\n"
        assert client.hlen("shop:control") == 250


# pause and resume


def test_pause_and_resume_say_who_obeys_and_may_be_repeated(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop", alive=["web:1", "web:2"])
        said = [
            frontier(subcommand, "shop")
            for subcommand in (pause.PAUSE, pause.PAUSE, pause.RESUME, pause.RESUME)
        ]
        assert not client.exists("shop:control")
    obey = "2 workers finish what they hold and take no more"
    assert said == [
        (0, f"shop is paused: {obey}.\n"),
        (0, f"shop was paused already: {obey}.\n"),
        (0, "shop goes on: 2 workers.\n"),
        (0, "shop was not paused: 2 workers.\n"),
    ]
    with redis_server.client() as client:
        plant(client, "blog")
    _, out = frontier(pause.PAUSE, "blog")
    assert out == (
        "blog is paused: nobody works on it now; workers that start will wait.\n"
    )
    assert frontier(pause.RESUME, "blog")[1] == "blog goes on: nobody works on it.\n"
    _, out = frontier(pause.PAUSE, "shop", "--json")
    assert json.loads(out) == {
        "spider": "shop",
        "job": None,
        "redis": redis_server.url,
        "paused": True,
        "paused_before": False,
        "workers_alive": 2,
    }


# With real workers, as processes


def test_paused_crawl_fetches_nothing_and_goes_on_when_resumed(project, site, frontier):
    project.spider(FOLLOW)
    site.delay(40)
    crawling = start_together(
        project, site, 2, "follow", 150, args={"url": f"{site.url}/tree/300/3/0"}
    )
    wait_until(lambda: site.hits().total() >= 40, "40 pages")
    _, out = frontier(pause.PAUSE, "follow")
    assert out.startswith("follow is paused: 2 workers")
    for worker in crawling:
        worker.wait_for_log("Paused")
    site.resume()

    def nothing_is_held():
        told = json.loads(frontier(status.SUBCOMMAND, "follow", "--json")[1])
        return told["leased"] == 0 and told

    told = wait_until(nothing_is_held, "all leases are done")
    assert told["paused"]
    assert told["pending"] > 0
    before = site.hits().total()
    assert before == told["pages"] < 300
    time.sleep(1.0)  # there is nothing to wait for: nothing is to happen
    assert site.hits().total() == before
    assert all(worker.running() for worker in crawling)

    frontier(pause.RESUME, "follow")
    wait_until(lambda: site.hits().total() > before, "the crawl goes on")
    assert_finished(crawling)
    assert site.hits() == tree_pages(300, 3)


def test_seeds_wait_while_the_crawl_is_paused(project, site, frontier, redis_server):
    project.spider(SEEDED)
    # Only what wakes it can make it look again soon.
    worker = project.crawl("seeded", settings={"FRONTIER_WORKER_TTL": 600.0})
    worker.wait_open()
    with redis_server.client() as client:
        wait_until(lambda: count_workers(client, "seeded"), "the worker")
        frontier(pause.PAUSE, "seeded")
        worker.wait_for_log("Paused")
        client.rpush("seeded:start_urls", f"{site.url}/tree/1/1/0")
        time.sleep(0.5)  # nothing is to happen
        assert site.hits().total() == 0
        told = json.loads(frontier(status.SUBCOMMAND, "seeded", "--json")[1])
        assert (told["seeds"], told["paused"]) == (1, True)
        frontier(pause.RESUME, "seeded")
        wait_until(lambda: site.hits().total() == 1, "the seed")
    assert frontier(workers.SUBCOMMAND, "seeded", "--stop", "all")[0] == 0
    assert wait_all([worker]) == [0]
    assert worker.reason() == "stopped"


def test_stopped_worker_closes_in_order_and_the_others_finish(project, site, frontier):
    project.spider(FOLLOW)
    site.delay(40)
    crawling = start_together(
        project, site, 2, "follow", 100, args={"url": f"{site.url}/tree/300/3/0"}
    )
    wait_until(lambda: site.hits().total() >= 40, "40 pages")
    told = json.loads(frontier(workers.SUBCOMMAND, "follow", "--json")[1])
    leaving = crawling[0]
    [name] = [
        worker["worker"]
        for worker in told["workers"]
        if worker["worker"].endswith(f":{leaving.pid}")
    ]
    result = run_frontier(
        project.folder,
        *("workers", "follow", "--stop", name),
        settings={"REDIS_URL": project.redis_url},
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "Asked 1 worker of follow to close.\n"
    leaving.wait_for_log("Asked to stop")
    site.resume()
    assert leaving.wait() == 0
    assert leaving.reason() == "stopped"
    assert crawling[1].running()
    assert_finished(crawling[1:])
    assert site.hits() == tree_pages(300, 3)


def test_project_is_shown_while_its_workers_are_at_work(project, site):
    project.spider(FOLLOW)
    project.spider(FOLLOW.replace('"follow"', '"never_run"'))
    args = {"url": f"{site.url}/tree/300/9/0"}
    start_together(project, site, 1, "follow", 0, args=args)
    wait_until(site.waiting, "a page under way")
    here = {"REDIS_URL": project.redis_url}
    found = run_frontier(project.folder, "workers", "follow", settings=here)
    assert found.returncode == 0, found
    assert f"{site.url}/tree/300/9/" in found.stdout.splitlines()[1]
    found = run_frontier(project.folder, "status", settings=here)
    assert [line.split()[0] for line in found.stdout.splitlines()] == [
        "SPIDER",
        "follow",
    ]
    here["FRONTIER_JOB"] = "nightly"  # in the project's settings, not typed
    found = run_frontier(project.folder, "status", "never_run", settings=here)
    assert found.returncode == 0, found
    assert "none: not begun, or finished and cleared" in found.stdout


def test_closed_pipe_is_no_error(tmp_path, redis_server):
    with redis_server.client() as client:
        plant(client, "shop", alive=["a:1"])
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run_frontier(
            tmp_path, "status", "--redis", redis_server.url, stdout=writer
        )
    finally:
        os.close(writer)
    assert result.stderr == ""
    assert result.returncode == 0


def test_redis_that_is_away_is_named_without_its_password(tmp_path):
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    result = run_frontier(tmp_path, "status", "--redis", url)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("scrapy frontier status: ")
    assert "127.0.0.1" in line
    assert "secret" not in line


# Where frontiers cannot be listed


@pytest.mark.parametrize("command", ["status", "metrics"])
def test_all_crawls_of_a_cluster_cannot_be_listed(tmp_path, command):
    # Nobody is asked: there is no such server.
    url = f"redis+cluster://:secret@127.0.0.1:{free_port()}"
    result = run_frontier(tmp_path, command, "--redis", url)
    assert result.returncode == 2
    assert result.stderr == (
        f"scrapy frontier {command}: In a Redis Cluster each crawl is on one of several"
        " servers, so they cannot all be listed. Name the spider, for example: scrapy"
        " frontier status myspider.\n"
    )


def test_user_without_rights_is_told_so(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop")
        client.acl_setuser(
            "looker",
            enabled=True,
            nopass=True,
            keys="*",
            commands=["+@all", "-scan", "-hexists"],
        )
    url = redis_server.url.replace("redis://", "redis://looker:x@")
    try:
        with pytest.raises(FrontierError, match="Name the spider"):
            frontier(status.SUBCOMMAND, "--redis", url)
        assert frontier(status.SUBCOMMAND, "shop", "--redis", url)[0] == 0
        with pytest.raises(FrontierError, match="Redis refuses: "):
            frontier(pause.PAUSE, "shop", "--redis", url)
    finally:
        with redis_server.client() as client:
            client.acl_deluser("looker")


def test_large_frontier_is_shown_at_once(frontier, redis_server):
    with redis_server.client() as client:
        plant(client, "shop", alive=["a:1"])
        for start in range(0, 200_000, 20_000):
            some = range(start, start + 20_000)
            client.zadd("shop:requests", {member(b"x", i): 0 for i in some})
            client.sadd("shop:dupefilter", *(f"{i:040x}" for i in some))
        client.config_set("slowlog-log-slower-than", 10_000)

        def slow() -> list[object]:
            client.slowlog_reset()
            _, out = frontier(status.SUBCOMMAND, "shop", "--json")
            assert json.loads(out)["pending"] == json.loads(out)["seen"] == 200_000
            frontier(workers.SUBCOMMAND, "shop")
            frontier(status.SUBCOMMAND)
            return client.slowlog_get()

        # What is slow because of its size is so each time; a busy machine is not.
        assert not all(slow() for _ in range(5))


def test_frozen_redis_is_not_waited_for(own_redis, tmp_path):
    with own_redis.client() as client:
        plant(client, "shop", alive=["a:1"], pending=3)
    own_redis.freeze()
    done = run_frontier(
        tmp_path, "status", "shop", "--redis", own_redis.url, "--timeout", "1"
    )
    own_redis.thaw()
    assert done.returncode == 2
    assert "Redis has not answered for 1 s" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wrong", ["0", "x", "-1", "inf", "nan"])
def test_timeout_that_is_no_time_is_refused(frontier, wrong, capsys):
    with pytest.raises(SystemExit):
        frontier(status.SUBCOMMAND, f"--timeout={wrong}")
    assert f"'{wrong}' is no time" in capsys.readouterr().err
