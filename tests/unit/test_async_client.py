"""``scrapy_dist.AsyncClient``, and that ``Client`` is the same for those who wait."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import itertools
import textwrap
import threading

import pytest

import scrapy_dist
from scrapy_dist import AsyncClient, Client
from scrapy_dist.admin.seeding import BATCH
from scrapy_dist.client import AsyncBatch, AsyncItems, ClientBatch, Items
from scrapy_dist.exceptions import (
    BadSeed,
    ConfigurationError,
    RedisUnavailable,
    TaskExists,
    UnknownTask,
)
from tests.support import task_worker
from tests.support.redis_server import free_port

URL = "http://site.example/"

_numbers = itertools.count()


@pytest.fixture
def url():
    return f"memory://async-{next(_numbers)}"


@pytest.fixture
async def client(url):
    async with AsyncClient(url, "s") as client:
        yield client


@pytest.fixture
async def worker(url):
    return await task_worker.in_memory(url).join()


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


# Beside each other


@pytest.mark.parametrize(
    ("here", "there", "more"),
    [
        (Client, AsyncClient, {"open"}),
        (Items, AsyncItems, {"detach", "is_at_hand", "take", "take_at_hand"}),
        (ClientBatch, AsyncBatch, set()),
    ],
)
def test_both_have_the_same_methods_with_the_same_arguments(here, there, more):
    assert public(there) == public(here) | more
    for name in public(here):
        method, other = getattr(here, name), getattr(there, name)
        if not inspect.isfunction(method):
            continue
        theirs = inspect.signature(other).parameters
        ours = inspect.signature(method).parameters
        assert [(p.name, p.kind, p.default) for p in theirs.values()] == [
            (p.name, p.kind, p.default) for p in ours.values()
        ]
        is_awaited = inspect.iscoroutinefunction(other)
        assert is_awaited or name in ("items", "counts"), name


def test_it_is_exported():
    assert "AsyncClient" in scrapy_dist.__all__
    assert scrapy_dist.AsyncClient is AsyncClient


# Opening and closing


async def test_it_says_that_it_is_not_open_or_closed(url):
    client = AsyncClient(url, "s")
    for call in (client.status, client.history, client.batches):
        with pytest.raises(RuntimeError, match="async with"):
            await call()
    with pytest.raises(RuntimeError, match="async with"):
        client.items()
    with pytest.raises(RuntimeError, match="async with"):
        await client.seed(URL)
    await client.open()
    await client.open()
    assert client.redis == url
    assert (await client.status()).pending == 0
    await client.close()
    await client.close()
    for call in (client.status, client.open):
        with pytest.raises(RuntimeError, match="closed"):
            await call()


async def test_close_ends_calls_that_wait(client):
    await client.seed(URL)
    waiting = asyncio.create_task(client.wait_drained())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(RuntimeError, match="closed meanwhile"):
        await waiting


async def test_wait_that_is_cancelled_is_cancelled(client):
    task = await client.submit(URL)
    waiting = asyncio.create_task(client.wait(task))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not client._running
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.wait(task), 0.01)
    assert (await client.task(task)).state == "queued"


async def test_redis_that_is_away_is_one_sentence_without_its_password():
    client = AsyncClient(f"redis://:secret@127.0.0.1:{free_port()}/0", "s")
    with pytest.raises(RedisUnavailable, match=r"127\.0\.0\.1") as caught:
        await client.open()
    assert "secret" not in str(caught.value)
    await client.close()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"spider": ""}, "spider = ''"),
        ({"url": ""}, "url = ''"),
        ({"job": "a:b"}, "JOB"),
    ],
)
def test_wrong_arguments_are_explained_at_once(arguments, part):
    with pytest.raises(ConfigurationError, match=part):
        AsyncClient(**{"url": "redis://localhost", "spider": "s", **arguments})


async def test_it_works_with_a_real_redis(redis_server):
    async with AsyncClient(redis_server.url, "s") as client:
        assert await client.seed_many([URL] * 1001) == 1001
        statuses = await asyncio.gather(*(client.status() for _ in range(20)))
        assert [status.seeds for status in statuses] == [1001] * 20
        assert not await client.wait_drained(timeout=0)
        assert (await client.clear("seeds")).deleted == {"seeds": 1001}
        with redis_server.client() as server:
            server.rpush(task_worker.ITEMS, *(b'{"n": %d}' % n for n in range(300)))
        found = [item["n"] async for item in client.items()]
        assert found == list(range(300))


# Tasks


async def test_task_from_its_submission_to_its_results(client, worker):
    task = await client.submit(URL, id="t1", batch="b", timeout=5, max_retries=1)
    assert (task.id, task.state, task.batch, task.open) == ("t1", "queued", "b", 1)
    with pytest.raises(TaskExists, match="'t1'"):
        await client.submit(URL, id="t1")
    assert (await client.submit(URL, id="t1", on_duplicate="join")).token == task.token
    with pytest.raises(TimeoutError):
        await client.wait("t1", timeout=0)

    lease = await worker.begin()
    assert (await client.task("t1")).state == "running"
    waiting = asyncio.create_task(client.wait(task))
    await worker.end(lease, b'{"n": 1}', b'{"n": 2}')
    done = await waiting
    assert (done.state, done.done, done.items) == ("done", 1, 2)
    assert (
        await client.results("t1") == await client.results(task) == [{"n": 1}, {"n": 2}]
    )
    assert await client.results("t1", 1, 5) == [{"n": 2}]
    assert await client.cancel("t1", "unknown") == 0
    assert (await client.submit(URL, id="t1", on_duplicate="reuse")).state == "done"
    assert (await client.submit(URL, id="t1", on_duplicate="join")).state == "queued"
    assert (await client.batch("b")).done == 1
    assert (await client.submit(URL, id="t1", on_duplicate="restart")).state == "queued"
    states = sorted(task.state for task in await client.tasks())
    assert states == ["cancelled", "done", "queued"]


async def test_batch_is_submitted_waited_for_and_cancelled(client, worker):
    async def urls():
        for n in range(250):
            yield f"{URL}{n}"

    ids = await client.submit_many(urls(), batch="b")
    assert len({*ids}) == 250
    assert (await client.batch("b")).queued == 250
    await worker.do()
    await worker.do(reason="HTTP 500")
    assert await client.cancel(ids[2], iter(ids[3:])) == 248
    batch = await (await client.batch("b")).wait(timeout=60)
    assert (batch.total, batch.done, batch.failed, batch.cancelled) == (250, 1, 1, 248)
    assert [b.name for b in await client.batches()] == ["b"]
    [failed] = await client.tasks("b", "failed")
    assert (failed.id, failed.reason) == (ids[1], "HTTP 500")
    found = await client.wait_many(ids[:3])
    assert [task.state for task in found] == ["done", "failed", "cancelled"]


async def test_bad_one_is_named_and_nothing_beside_it_is_submitted(client):
    seeds = [{"url": URL, "id": "a"}, {"url": URL, "id": "b"}, "ftp://x/", URL]
    with pytest.raises(BadSeed, match=r"'ftp://x/'$"):
        await client.submit_many(seeds, batch="x")
    assert (await client.batch("x")).total == 0
    read = []
    many = (read.append(seed) or seed for seed in [URL] * BATCH + seeds + [URL] * BATCH)
    with pytest.raises(BadSeed, match=r"'ftp://x/' \(the first 500 seeds are"):
        await client.submit_many(many, batch="x")
    assert (await client.batch("x")).total == BATCH
    assert len(read) == 2 * BATCH
    await client.submit_many(seeds[:2])
    with pytest.raises(TaskExists) as caught:
        await client.submit_many([*seeds[:2], {"url": URL, "id": "c"}])
    assert caught.value.ids == ("a", "b")
    assert (await client.task("c")).state == "queued"
    for wrong in (b"a", None, [None], 2.5):
        with pytest.raises(ConfigurationError):
            await client.cancel("a", wrong)
    assert (await client.task("a")).state == "queued"
    with pytest.raises(TypeError, match=r"submit\(\)"):
        await client.submit_many(URL)
    with pytest.raises(ConfigurationError, match="on_duplicate"):
        await client.submit(URL, on_duplicate="maybe")


async def test_unknown_task_is_one_error(client):
    for call in (client.task, client.wait, client.results, client.wait_batch):
        with pytest.raises(UnknownTask, match="'x'"):
            await call("x")
    assert (await client.batch("x")).total == 0


async def test_many_tasks_are_waited_for_at_the_same_time(client, worker):
    ids = await client.submit_many([URL] * 20)
    waiting = [asyncio.create_task(client.wait(each, timeout=60)) for each in ids]
    for _ in ids:
        await worker.do()
    assert [task.id for task in await asyncio.gather(*waiting)] == ids


# Items


async def test_items_are_acknowledged_by_hand_and_given_back(client, worker):
    await client.submit(URL)
    await worker.do(*(b'{"n": %d}' % n for n in range(10)))
    async with client.items(acknowledge=False) as items:
        assert await anext(items) == {"n": 0}
        await items.ack()
        assert await anext(items) == {"n": 1}
    assert [item async for item in items] == []
    assert [item["n"] async for item in client.items()] == list(range(1, 10))


async def test_items_are_followed_while_others_work(client, worker):
    await client.submit_many([URL] * 3)
    found = []

    async def follow():
        async for item in client.items(follow=True):
            found.append(item["n"])

    following = asyncio.create_task(follow())
    for n in range(3):
        await worker.do(b'{"n": %d}' % n)
        while n not in found:
            await asyncio.sleep(0)
    await following
    assert found == [0, 1, 2]


# Client is thin over it


async def test_client_does_with_tasks_what_the_other_does(url, worker):
    seen = []

    def urls():
        for n in range(150):
            seen.append(threading.current_thread())
            yield {"url": f"{URL}{n}", "id": n}

    with Client(url, "s") as client:
        assert client.submit_many(urls(), batch="b", meta={"x": 1}) == [
            str(n) for n in range(150)
        ]
        assert {*seen} == {threading.current_thread()}
        with pytest.raises(TaskExists):
            client.submit(URL, id=5)
        await worker.do(b'{"n": 0}')
        assert client.wait("0", timeout=60).state == "done"
        assert [task.id for task in client.wait_many([0], timeout=60)] == ["0"]
        assert client.results("0") == [{"n": 0}]
        assert client.task("1").state == "queued"
        others = [each for each in client.tasks("b", "queued") if each.id != "1"]
        assert client.cancel("1", others[:2]) == 3
        batch = client.batch("b")
        assert (batch.total, batch.ended) == (150, 4)
        with pytest.raises(TimeoutError, match="146 of 150"):
            batch.wait(timeout=0)
        assert client.cancel(*client.tasks(state="queued")) == 146
        assert client.wait_batch("b") == batch.wait() == client.batches()[0]
        with pytest.raises(ConfigurationError):
            client.submit_many([], batch="")
        client.submit(URL, id=5)
        with pytest.raises(TaskExists, match=r"\(the first 500 seeds are") as caught:
            client.submit_many([*[URL] * BATCH, {"url": URL, "id": 5}])
        assert caught.value.ids == ("5",)


async def test_iterator_may_call_the_client(url, worker):
    with Client(url, "s") as client:
        assert client.cancel(client.submit(URL) for _ in range(2)) == 2
        with pytest.raises(TimeoutError, match="2 tasks"):
            client.wait_many((client.submit(URL) for _ in range(2)), timeout=0)


# Examples

#: What a frontier in memory refuses.
ON_REDIS = ("explain", "hosts", "peek", "recrawl")


def examples():
    """The name of its owner, and the source, of each example in a docstring."""
    for cls in (AsyncClient, AsyncItems, Client, ClientBatch, Items):
        members = [(cls.__name__, cls)]
        members += [(f"{cls.__name__}.{n}", getattr(cls, n)) for n in public(cls)]
        for name, member in sorted(members):
            _, *paragraphs = (inspect.getdoc(member) or "").split("\n\n")
            for source in map(textwrap.dedent, paragraphs):
                with contextlib.suppress(SyntaxError):
                    ast.parse(source)
                    yield name, source


EXAMPLES = [*examples()]


def test_each_method_has_an_example():
    found = {name for name, _ in EXAMPLES}
    methods = {f"Client.{name}" for name in public(Client)}
    assert found == {
        *methods - {"Client.close", "Client.resume"},
        *("AsyncClient", "AsyncItems", "Client", "ClientBatch", "ClientBatch.wait"),
        "Items",
    }


@contextlib.contextmanager
def working(url):
    """Workers by hand, in a thread: all seeds are done, and are two items."""
    stopping = threading.Event()

    async def work():
        for name in ("web1:4711", "web2:4712"):
            worker = await task_worker.in_memory(url).join(name)
        while not stopping.is_set():
            await worker.do_all(b'{"title": "One"}', b'{"title": "Two"}')
            await asyncio.sleep(0.001)

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


class Saved(list):
    """What examples save to."""

    insert = list.extend

    async def save(self, item):
        self.append(item)


@pytest.mark.parametrize(("name", "source"), EXAMPLES, ids=[n for n, _ in EXAMPLES])
def test_it_works(name, source, url, redis_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "urls.txt").write_text(f"{URL}1\n\n{URL}2\n")
    is_awaited, saved = name.startswith("Async"), Saved()
    names = {"Client": Client, "AsyncClient": AsyncClient, "itertools": itertools}
    names |= {"save": saved.save if is_awaited else saved.append, "database": saved}
    if name.endswith(ON_REDIS):
        url = redis_server.url
    source = source.replace("redis://localhost:6379/0", url).replace("myspider", "s")
    with contextlib.ExitStack() as stack:
        if not name.endswith((*ON_REDIS, "clear")):
            stack.enter_context(working(url))
        client = stack.enter_context(Client(url, "s"))
        client.seed(URL)
        if "submit(" not in source and not name.endswith(ON_REDIS):
            for each in ("t1", "t2"):
                client.submit(URL, id=each, batch="monday")
        if "clear" not in name and not name.endswith(ON_REDIS):
            assert client.wait_drained(timeout=60)
        if not is_awaited:
            exec(source, {**names, "client": client})
        else:
            asyncio.run(awaited(source, url, names))
    assert saved or "save" not in source


async def awaited(source, url, names):
    text = f"async def example(client):\n{textwrap.indent(source, '    ')}"
    exec(text, names)
    async with AsyncClient(url, "s") as client:
        await names["example"](client)
