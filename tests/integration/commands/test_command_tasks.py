"""``scrapy frontier tasks``, ``task`` and ``cancel``, on a real Redis."""

from __future__ import annotations

import asyncio
import json

import pytest
import redis.asyncio

from scrapy_dist import Client
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.client import close_client
from tests.support import fuzz
from tests.support.commands import run_here
from tests.support.frontiers import KEYS, session
from tests.support.task_worker import SEEDS, TaskWorker

URL = "http://site.example/"
HOSTILE = "\x1b[2J\u202eb"

pytestmark = pytest.mark.keeps("s:*", reason="a crawl that goes on")


@pytest.fixture
def client(redis_server):
    with Client(redis_server.url, "s") as client:
        yield client


@pytest.fixture
def work(redis_server):
    """Runs a coroutine function with a worker of the crawl ``s``."""

    def work(steps):
        async def main():
            server = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
            try:
                await steps(await TaskWorker(session(server, seed_keys=[SEEDS])).join())
            finally:
                await close_client(server)

        asyncio.run(main())

    return work


@pytest.fixture
def run(redis_server):
    def run(*args, code=0):
        found, out, err = run_here(*args, "--redis", redis_server.url)
        assert found == code, err
        for line in (*out.splitlines(), *err.splitlines()):
            fuzz.check_shown(line)
        return err if code else out

    return run


@pytest.fixture
def tasks(client, work):
    """One task in each state but cancelled; ``done`` has two items."""
    ids = ["done", "failed", "running"]
    client.submit_many([{"url": URL, "id": each} for each in ids], batch="b")
    client.submit(URL, id=HOSTILE.replace("\x1b", ""), batch="other")

    async def steps(worker):
        await worker.do(b'{"title": "\xc3\xa9\xe2\x80\xae"}', b"\xff")
        await worker.do(reason=f"HTTP 500 {HOSTILE}")
        await worker.begin()

    work(steps)


def test_tasks_are_listed_the_newest_first(tasks, run):
    lines = run("tasks", "s").splitlines()
    header = ["ID", "STATE", "OPEN", "DONE", "FAILED", "ITEMS", "SUBMITTED", "TOOK"]
    assert lines[0].split() == [*header, "BATCH", "WORKER", "REASON"]
    assert lines[1].startswith("[2J\\u202eb  queued ")
    states = {line.split()[0]: line.split()[1] for line in lines[2:]}
    assert states == {each: each for each in ("done", "failed", "running")}
    assert "HTTP 500  [2J\\u202eb" in run("tasks", "s", "--state", "failed")
    assert len(run("tasks", "s", "--limit", "2").splitlines()) == 4
    assert "… and more" in run("tasks", "s", "-n", "0")


def test_batch_is_listed_below_its_progress(tasks, run):
    lines = run("tasks", "s", "--batch", "b").splitlines()
    assert lines[0] == "Batch b: 3 tasks, 66 % ended: 1 running, 1 done, 1 failed"
    assert len(lines) == 2 + 4
    lines = run("tasks", "s", "--batch", "b", "--state", "done").splitlines()
    assert len(lines) == 2 + 2
    lines = run("tasks", "s", "--batch", "nobody").splitlines()
    assert lines == ["Batch nobody: 0 tasks", "", "There is no such task of s."]


def test_scripts_get_a_line_for_each_task(tasks, run):
    told = [json.loads(line) for line in run("tasks", "s", "--json").splitlines()]
    found = {each["id"]: each for each in told}
    assert len(found) == 4
    done = found["done"]
    assert (done["state"], done["done"], done["items"], done["open"]) == (
        "done",
        1,
        2,
        0,
    )
    assert done["submitted"] <= done["started"] <= done["ended"]
    assert (done["worker"], done["reason"], done["batch"]) == ("host:1", None, "b")
    assert found["running"]["ended"] is None
    lines = run("tasks", "s", "--json", "--limit", "1").splitlines()
    assert json.loads(lines[0])["state"] == "queued"


def test_task_is_shown_and_its_results_are_lines_of_json(tasks, run):
    lines = dict(
        line.split(maxsplit=1) for line in run("task", "s", "failed").splitlines()
    )
    assert (lines["state"], lines["failed"], lines["batch"]) == ("failed", "1", "b")
    assert lines["reason"] == "HTTP 500  [2J\\u202eb"
    assert json.loads(run("task", "s", "done", "--json"))["items"] == 2
    first, second = run("task", "s", "done", "--results").splitlines()
    assert first == '{"title": "\\u00e9\\u202e"}'
    assert json.loads(second) == {"frontier_base64": "/w=="}
    assert run("task", "s", "failed", "--results") == ""
    assert "Task 'nobody' of s" in run("task", "s", "nobody", code=2)


def test_results_are_those_of_the_run_that_was_submitted(client, work):
    first = client.submit(URL, id="x")
    work(lambda worker: worker.do(*(b'{"n": %d}' % n for n in range(250))))
    second = client.submit(URL, id="x")
    work(lambda worker: worker.do(b'{"n": "second"}'))
    assert [item["n"] for item in client.results(first)] == list(range(250))
    assert client.results(first, 240, 3) == [{"n": 240}, {"n": 241}, {"n": 242}]
    assert client.results(second) == client.results("x") == [{"n": "second"}]


def test_names_have_any_character_whatever_the_encoding_of_seeds(redis_server, work):
    settings = {"REDIS_ENCODING": "latin-1"}
    names = ["\xfc \xf6", "\u65e5\u672c", "%(spider)s", " * ", "i:x"]
    with Client(redis_server.url, "s", settings=settings) as client:
        for name in names:
            client.submit(f"{URL}\xe9", id=name, batch=names[1])
        work(lambda worker: worker.do_all(b"{}"))
        assert {task.state for task in client.wait_many(names, 60)} == {"done"}
        assert {task.id for task in client.tasks(names[1])} == {*names}
        assert client.batch(names[1]).wait().done == len(names)


def test_tasks_are_cancelled_by_id_or_batch(tasks, run, client):
    run("cancel", "s", "done", "running", "nobody", "running", code=1)
    assert client.task("running").state == "cancelled"
    out = run("cancel", "s", "done", "running")
    assert out.splitlines() == [
        "0 tasks cancelled",
        "done was done already",
        "running was cancelled already",
    ]
    told = json.loads(run("cancel", "s", "--batch", "other", "--json"))
    assert (told["cancelled"], told["ended"], told["unknown"]) == (1, 0, 0)
    assert run("cancel", "s", "--batch", "b") == "0 tasks cancelled\n"
    assert "Give either IDs" in run("cancel", "s", code=2)
    assert "Give either IDs" in run("cancel", "s", "x", "--batch", "b", code=2)


def test_status_tells_how_many_tasks_there_are(tasks, run):
    [line] = [x for x in run("status", "s").splitlines() if x.startswith("tasks")]
    assert line == "tasks    4, of which 2 have not ended  (scrapy frontier tasks s)"
    told = json.loads(run("status", "s", "--json"))
    assert (told["tasks"], told["tasks_open"]) == (4, 2)


def test_seeds_of_a_batch_are_tasks(client, run, tmp_path):
    path = tmp_path / "seeds.txt"
    own = json.dumps({"url": URL, "id": "x", "priority": 3})
    path.write_text(
        f"{URL}1\n{own}\n{own}\nftp://x/\n" + '{"url": "http://a/", "id": []}\n'
    )
    pushed = ("seed", "s", "--batch", "b", "--file", str(path), "--new")
    code, out, err = run_here(*pushed, "--redis", client.redis)
    assert code == 1
    assert "3 seeds pushed to" in out
    assert "1 of them were there already; 2 not pushed" in out
    assert "seeds.txt:4: the scheme 'ftp'" in err
    assert "seeds.txt:5: id is a JSON list" in err
    assert client.batch("b").queued == 2
    assert client.task("x").batch == "b"
    told = json.loads(run("seed", "s", "--batch", "c", "--json", "--meta", "a=1", URL))
    assert (told["pushed"], told["new"]) == (1, 1)
    assert "batch is empty" in run("seed", "s", "--batch", "", URL, code=2)


def test_key_of_another_type_is_named(client, redis_server):
    with redis_server.client() as server:
        server.set(SEEDS, "x")
        with pytest.raises(ConfigurationError, match=f"{SEEDS} is a string"):
            client.submit(URL)
        server.delete(SEEDS)
        server.set(KEYS.tasks, "x")
        for call in (lambda: client.submit(URL), client.tasks, client.batches):
            with pytest.raises(ConfigurationError, match="scrapy frontier check"):
                call()
        assert not server.exists(SEEDS)


def test_wrong_use_is_one_sentence(client, run):
    assert "no frontier of a spider 's'" in run("tasks", "s", code=2)
    client.seed(URL)
    assert run("tasks", "s") == "There is no such task of s.\n"
    assert run("tasks", "s", "--json") == ""
    assert "batch is empty" in run("tasks", "s", "--batch", "", code=2)
    assert "invalid choice: 'ended'" in run("tasks", "s", "--state", "ended", code=2)
    assert "not a whole number" in run("tasks", "s", "--limit", "x", code=2)
