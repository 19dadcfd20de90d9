"""``admin.tasks``: tasks are made, submitted, waited for and asked about."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from scrapy import Spider
from scrapy.settings import Settings

from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.admin.task_maker import TaskMaker
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.codec.seed import parse_seed
from scrapy_dist.codec.seed_rules import BOUNDED_META, SeedRules
from scrapy_dist.core.tasks import Batch, OnDuplicate, Run, Submission, Task, TaskState
from scrapy_dist.exceptions import (
    BadSeed,
    ConfigurationError,
    FrontierError,
    RedisUnavailable,
    TaskExists,
    UnknownTask,
)
from tests.support.task_worker import SEEDS

URL = "https://site.example/"


class Port:
    """Tasks in a dict; what is asked of it is noted."""

    def __init__(self):
        self.seed_keys = (SEEDS,)
        self.known = {}
        self.pushed = []
        self.calls = []
        self.items = {}
        self.drained = False
        #: Called before each look.
        self.before = lambda: None

    async def is_drained(self):
        return self.drained

    async def submit(self, tasks, *, key, kind, on_duplicate):
        self.calls.append((key, kind, on_duplicate, len(tasks)))
        found = []
        for new in tasks:
            old = self.known.get(new.id)
            lives = old is not None and not old.state.is_end
            if lives and on_duplicate is not OnDuplicate.RESTART:
                joins = on_duplicate is OnDuplicate.JOIN
                found.append(Submission.JOINED if joins else Submission.REFUSED)
                continue
            self.pushed.append(new)
            self.put(new.id, token=new.token, batch=new.batch)
            found.append(Submission.RESTARTED if lives else Submission.SUBMITTED)
        return found

    def put(self, name, state=TaskState.QUEUED, **fields):
        number = len(self.known) + 1
        fields.setdefault("submitted_ms", number)
        fields.setdefault("token", f"{number:016x}")
        self.known[name] = Task(name, state, **fields)

    async def tasks_of(self, ids):
        self.calls.append([*ids])
        self.before()
        return [self.known.get(str(each)) for each in ids]

    async def tasks(self, *, batch, state):
        self.calls.append((batch, state))
        found = [*self.known.values()]
        for at in (0, *range(0, len(found), 2)):  # one page comes twice
            yield [
                task
                for task in found[at : at + 2]
                if batch in ("", task.batch) and state in (None, task.state)
            ]

    async def batch(self, name):
        self.before()
        states = [t.state for t in self.known.values() if t.batch == name]
        return Batch(name, **{str(s): states.count(s) for s in TaskState})

    async def batches(self):
        for some in (["b", "c"], ["a"]):
            yield [Batch(name) for name in some]

    async def results(self, task, start, count):
        assert count <= 100
        return self.items.get(task.token, [])[start : start + count][:30]

    async def cancel(self, ids):
        self.calls.append(len(ids))
        return [self.known.get(str(each)) for each in ids]


@pytest.fixture
def port():
    return Port()


@pytest.fixture
def crawl(port):
    found = Crawl(Settings({"REDIS_URL": "redis://site.example"}), "s")
    found.port = port
    return found


@pytest.fixture
def tasks(crawl):
    return Tasks(crawl)


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr("scrapy_dist.admin.bulk._SHORTEST", 0.001)


def fields(new):
    return json.loads(new.seed)


def test_times_of_a_task_are_moments():
    task = Task("a", TaskState.DONE, submitted_ms=1000, started_ms=2000, ended_ms=3500)
    assert task.submitted.isoformat() == "1970-01-01T00:00:01+00:00"
    assert (task.ended - task.started).total_seconds() == task.seconds == 1.5
    queued = Task("a", TaskState.QUEUED, submitted_ms=1000)
    assert (queued.started, queued.ended, queued.seconds) == (None, None, None)


# Making


def test_state_is_equal_to_its_name_and_is_shown_as_such():
    assert TaskState.DONE == "done"
    assert f"{TaskState.DONE} {TaskState.DONE!s}" == "done done"
    assert json.dumps([TaskState.DONE]) == '["done"]'
    assert {str(state) for state in TaskState if not state.is_end} == {
        "queued",
        "running",
    }


@pytest.mark.parametrize(
    "value",
    [
        URL,
        f" {URL}\n",
        URL.encode(),
        {"url": URL},
        json.dumps({"url": URL}),
        json.dumps({"url": URL}).encode(),
    ],
)
def test_seed_says_id_batch_and_token(crawl, value):
    new = TaskMaker(crawl, batch="b").make(value, id="t1")
    assert fields(new) == {"url": URL, "id": "t1", "batch": "b", "task": new.token}
    assert (new.id, new.batch, new.priority) == ("t1", "b", 0)
    assert len(bytes.fromhex(new.token)) == 8


def test_what_is_not_said_is_not_in_the_seed(crawl):
    maker = TaskMaker(crawl)
    one, two = maker.make(URL), maker.make(URL)
    assert fields(one) == {"url": URL, "id": one.id, "task": one.token}
    assert one.id != two.id
    assert one.token != two.token


def test_options_are_for_seeds_that_do_not_say_it_themselves(crawl):
    maker = TaskMaker(
        crawl, batch="b", meta={"shop": 7}, priority=3, timeout=5, max_retries=0
    )
    meta = {"download_timeout": 5, "max_retry_times": 0, "shop": 7}
    new = maker.make(URL, id=4711)
    assert (new.id, new.priority, new.batch) == ("4711", 3, "b")
    assert fields(new)["meta"] == meta
    assert fields(new)["priority"] == 3
    own = {"url": URL, "id": "x", "batch": "c", "priority": 1}
    new = maker.make({**own, "meta": {"shop": 8, "download_timeout": 1}}, id="x")
    assert (new.id, new.priority, new.batch) == ("x", 1, "c")
    assert fields(new)["meta"] == {**meta, "shop": 8, "download_timeout": 1}


def test_workers_take_the_limits_that_a_task_has(crawl):
    new = TaskMaker(crawl, timeout=2.5, max_retries=1).make(URL)
    bare = {key: fields(new)[key] for key in ("url", "meta")}
    spider = Spider("s")
    request = parse_seed(json.dumps(bare), SeedRules(), spider)
    assert request.meta == {"download_timeout": 2.5, "max_retry_times": 1}


@pytest.mark.parametrize(
    ("meta", "is_good"),
    [
        *(({"download_timeout": n}, True) for n in (0.5, 1, 3600)),
        *(({"download_timeout": n}, False) for n in (0, -1, 3601, True, "5", None)),
        *(({"max_retry_times": n}, True) for n in (0, 100)),
        *(({"max_retry_times": n}, False) for n in (-1, 101, 1.5, True, "1", None)),
    ],
)
def test_limits_of_seeds_are_bounded(meta, is_good):
    seed = json.dumps({"url": URL, "meta": meta})
    if is_good:
        assert parse_seed(seed, SeedRules(), Spider("s")).meta == meta
        return
    with pytest.raises(BadSeed, match="FRONTIER_SEED_META"):
        parse_seed(seed, SeedRules(), Spider("s"))
    allowed = SeedRules(meta=frozenset(BOUNDED_META))
    assert parse_seed(seed, allowed, Spider("s")).meta == meta


@pytest.mark.parametrize(
    "options",
    [
        {"batch": ""},
        {"batch": "a\nb"},
        {"batch": b"b"},
        {"batch": "x" * 256},
        {"meta": "shop"},
        {"meta": {"proxy": "x"}},
        {"meta": {"a": object()}},
        {"priority": "high"},
        {"timeout": 0},
        {"timeout": "5"},
        {"timeout": float("inf")},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"id": ""},
        {"id": "x" * 256},
        {"id": "a\x1b[2J"},
        {"id": "\ud800"},
        {"id": True},
        {"id": ["a"]},
        {"value": "ftp://site.example/"},
        {"value": "no url"},
        {"value": '{"url": '},
        {"value": "[1]"},
        {"value": 7},
        {"value": None},
        {"value": {"url": URL, "task": "0" * 16}},
        {"value": {"url": URL, "id": "other"}, "id": "x"},
        {"value": {"url": URL, "id": ["x"]}},
        {"value": {"url": URL, "batch": ["b"]}},
        {"value": {"url": URL, "colour": "red"}},
        {"value": f"{URL}{'x' * 262_144}"},
        {"value": {"url": URL, "body": "x" * (262_144 - 60)}},
    ],
)
def test_wrong_task_is_one_value_error(crawl, options):
    chosen = {"value": URL, "id": None, **options}
    value, name = chosen.pop("value"), chosen.pop("id")
    with pytest.raises(ValueError, match=r"\S") as caught:
        TaskMaker(crawl, **chosen).make(value, id=name)
    assert isinstance(caught.value, FrontierError)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Submitting


async def test_submitted_task_is_told_as_it_stands(tasks, port):
    task = await tasks.submit(tasks.maker(batch="b").make(URL, id="t1"))
    assert (task.id, task.state, task.batch, task.submitted_ms) == (
        "t1",
        "queued",
        "b",
        1,
    )
    assert port.calls[0] == (SEEDS, "list", OnDuplicate.REFUSE, 1)


@pytest.mark.parametrize("setting", ["REDIS_START_URLS_AS_ZSET"])
async def test_kind_of_a_new_key_is_as_the_settings_say(port, setting):
    crawl = Crawl(Settings({"REDIS_URL": "redis://a", setting: True}), "s")
    crawl.port = port
    tasks = Tasks(crawl)
    await tasks.submit(tasks.maker().make(URL))
    assert port.calls[0][1] == "zset"


async def test_id_that_lives_is_refused_joined_or_restarted(tasks, port):
    maker = tasks.maker()
    first = await tasks.submit(maker.make(URL, id="a"))
    with pytest.raises(TaskExists, match="Task 'a' of s") as caught:
        await tasks.submit_all([maker.make(URL, id="b"), maker.make(URL, id="a")])
    assert isinstance(caught.value, ValueError)
    assert caught.value.ids == ("a",)
    assert {*port.known} == {"a", "b"}
    assert await tasks.submit(maker.make(URL, id="a"), "join") == first
    again = await tasks.submit(maker.make(URL, id="a"), "restart")
    assert again.token != first.token
    port.put("a", TaskState.DONE)
    assert (await tasks.submit(maker.make(URL, id="a"))).state == "queued"
    with pytest.raises(
        ConfigurationError, match="'refuse', 'join', 'restart', 'reuse'"
    ):
        await tasks.submit(maker.make(URL, id="a"), "replace")


async def test_spider_without_seeds_has_no_tasks(tasks, port):
    port.seed_keys = ()
    with pytest.raises(ConfigurationError, match="RedisSpider"):
        await tasks.submit(tasks.maker().make(URL))


# How they stand


async def test_tasks_are_asked_by_id_number_or_themselves(tasks, port):
    port.put("a")
    port.put("7")
    found = await tasks.tasks_of(["a", 7, port.known["a"], "none"])
    assert [task and task.id for task in found] == ["a", "7", "a", None]
    # Of a task its own run is asked for.
    assert port.calls == [["a", "7", Run("a", port.known["a"].token), "none"]]
    assert (await tasks.task("a")).id == "a"
    with pytest.raises(UnknownTask, match="Task 'none' of s") as caught:
        await tasks.task("none")
    assert isinstance(caught.value, LookupError)
    for wrong in (None, "", [None], 1.5):
        with pytest.raises(ConfigurationError):
            await tasks.tasks_of(wrong)


async def test_tasks_come_once_and_the_newest_first(tasks, port):
    for n in range(5):
        port.put(f"t{n}", [TaskState.DONE, TaskState.FAILED][n % 2], batch="b")
    port.put("other")
    names = [task.id for task in await tasks.tasks()]
    assert names == ["other", "t4", "t3", "t2", "t1", "t0"]
    assert [t.id for t in await tasks.tasks("b", "failed")] == ["t3", "t1"]
    assert [t.id for t in await tasks.tasks(limit=2)] == ["other", "t4"]
    assert await tasks.tasks(limit=0) == []
    for wrong in ({"state": "ended"}, {"limit": -1}, {"batch": ""}):
        with pytest.raises(ConfigurationError):
            await tasks.tasks(**wrong)


async def test_newest_of_very_many_are_found(tasks, port):
    for n in range(2000):
        port.put(f"t{n}")
    assert [t.id for t in await tasks.tasks(limit=2)] == ["t1999", "t1998"]


async def test_batches_are_told(tasks, port):
    port.put("x", batch="b")
    assert await tasks.batch("b") == Batch("b", queued=1)
    assert (await tasks.batch("none")).total == 0
    assert [batch.name for batch in await tasks.batches()] == ["a", "b", "c"]


# Waiting


def ending(port, **states):
    """Ends the tasks *states* one by one, at the next looks."""
    left = iter(states.items())

    def before():
        for name, state in left:
            port.known[name] = replace(port.known[name], state=TaskState(state))
            return

    port.before = before


async def test_wait_ends_with_the_task_however_it_ends(tasks, port):
    for state in ("done", "failed", "cancelled"):
        port.put("a", TaskState.RUNNING)
        ending(port, a=state)
        assert (await tasks.wait("a", timeout=60)).state == state


async def test_many_are_waited_for_with_one_look_at_all(tasks, port):
    for name in "abc":
        port.put(name)
    ending(port, b="done", a="failed", c="done")
    found = await tasks.wait_many(["a", "b", "c", "a"], timeout=60)
    assert [(t.id, t.state) for t in found] == [
        ("a", "failed"),
        ("b", "done"),
        ("c", "done"),
        ("a", "failed"),
    ]
    assert port.calls == [["a", "b", "c"], ["a", "c"], ["c"]]
    assert await tasks.wait_many([]) == []


@pytest.mark.parametrize("timeout", [0, 0.02])
async def test_wait_has_an_end(tasks, port, timeout):
    port.put("a")
    port.put("b", TaskState.DONE)
    with pytest.raises(TimeoutError, match="Task 'a' of s"):
        await tasks.wait_many(["a", "b"], timeout=timeout)


@pytest.mark.parametrize("timeout", ["5", True, float("nan"), [1]])
async def test_time_to_wait_is_a_number(tasks, port, timeout):
    port.put("a")
    with pytest.raises(ConfigurationError, match="timeout"):
        await tasks.wait("a", timeout)


async def test_unknown_task_is_waited_for_while_anything_is_left(tasks, port):
    looks = []

    def before():
        looks.append(1)
        if len(looks) == 3:
            port.put("a", TaskState.DONE)

    port.before = before
    assert (await tasks.wait("a", timeout=60)).state == "done"
    port.drained = True
    with pytest.raises(UnknownTask, match="Task 'b'"):
        await tasks.wait("b")


async def test_task_that_came_while_the_crawl_drained_is_found(tasks, port):
    port.drained = True
    looks = []

    def before():
        looks.append(1)
        if len(looks) == 2:
            port.put("a", TaskState.DONE)

    port.before = before
    assert (await tasks.wait("a")).state == "done"


async def test_batch_is_waited_for(tasks, port):
    for name in "ab":
        port.put(name, batch="x")
    with pytest.raises(TimeoutError, match="2 of 2 tasks of the batch 'x'"):
        await tasks.wait_batch("x", timeout=0)
    ending(port, a="done", b="failed")
    assert await tasks.wait_batch("x", timeout=60) == Batch("x", done=1, failed=1)
    port.drained = True
    with pytest.raises(UnknownTask, match="no batch 'y'"):
        await tasks.wait_batch("y")


async def test_wait_lets_others_work(tasks, port):
    port.put("a")
    waiting = asyncio.create_task(tasks.wait("a"))
    while not port.calls:
        await asyncio.sleep(0)
    port.put("a", TaskState.DONE)
    assert (await waiting).state == "done"


# Results and the end


async def test_results_come_decoded_and_in_order(tasks, port):
    port.put("a", TaskState.DONE)
    port.items[port.known["a"].token] = [b'{"n": %d}' % n for n in range(250)]
    port.items[port.known["a"].token][3] = b"\xff"
    found = await tasks.results("a")
    assert found[:5] == [{"n": 0}, {"n": 1}, {"n": 2}, b"\xff", {"n": 4}]
    assert len(found) == 250
    assert await tasks.results("a", 100, 2) == [{"n": 100}, {"n": 101}]
    assert len(await tasks.results("a", 240, 100)) == 10
    assert await tasks.results("a", limit=0) == []
    assert await tasks.results("a", 250) == []
    with pytest.raises(UnknownTask):
        await tasks.results("b")


async def test_results_of_an_earlier_run_are_asked_by_its_task(tasks, port):
    port.put("a", TaskState.DONE, token="0" * 16)
    earlier = port.known["a"]
    port.put("a", token="1" * 16)
    port.items = {"0" * 16: [b'{"n": 0}'], "1" * 16: []}
    assert await tasks.results(earlier) == [{"n": 0}]
    assert await tasks.results("a") == []


async def test_those_who_wait_at_the_same_time_ask_once(tasks, port, monkeypatch):
    monkeypatch.setattr("scrapy_dist.admin.bulk._SHORTEST", 1.0)
    for n in range(50):
        port.put(str(n))
    waiting = [asyncio.create_task(tasks.wait(n)) for n in range(50)]
    while not port.calls:
        await asyncio.sleep(0)
    for n in range(50):
        port.put(str(n), TaskState.DONE)
    await asyncio.gather(*waiting)
    assert [len(call) for call in port.calls] == [50, 50]


async def test_waiter_that_goes_keeps_no_other_from_its_answer(tasks, port):
    port.put("a", TaskState.DONE)
    first, second = (asyncio.create_task(tasks.wait("a")) for _ in "ab")
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).state == "done"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_answer_that_nobody_waits_for_is_not_asked_for(tasks, port):
    port.put("a")
    waiting = asyncio.create_task(tasks.wait("a"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0.02)
    assert port.calls == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_failure_of_a_question_is_told_to_all(tasks, port):
    port.put("a")
    waiting = [asyncio.create_task(tasks.wait("a")) for _ in range(3)]

    def fail():
        raise RedisUnavailable("it is away")

    port.before = fail
    for each in waiting:
        with pytest.raises(RedisUnavailable, match="away"):
            await each
    port.before = lambda: None
    port.put("a", TaskState.DONE)
    assert (await tasks.wait("a")).state == "done"
