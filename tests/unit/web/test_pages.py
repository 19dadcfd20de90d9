"""What the pages show, and what their forms do to a crawl."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading

import pytest

from scrapy_dist.admin import task_glance
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.brokers.redis.views import browse
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.web import actions, app, views
from scrapy_dist.web.rendering import link
from tests.support.frontiers import KEYS, SEED_KEYS
from tests.unit.web.conftest import HOST, fill, request_of

URL = f"http://{HOST}/page/1"
#: Every page of a crawl.
PAGES = (
    "",
    "/failed",
    "/next",
    "/explain",
    "/seeds",
    "/tasks",
    "/history",
    "/settings",
)
#: What must not come through: markup, control characters, another direction of text.
HOSTILE = (
    "<script>document.title='x'</script>\"'><img src=x onerror=a>\x1b[2J\u202e\x00"
)


async def test_the_list_shows_each_crawl_with_a_link(client, visit):
    await fill(client, [URL, f"{URL}0"], reasons=["HTTP 500"])
    visitor = visit()
    await visitor.get("/")
    [row] = visitor.page.css("tbody tr")
    assert row.css("a::attr(href)").get() == "/crawl?crawl=s"
    cells = [" ".join(cell.css("::text").getall()) for cell in row.css("td")]
    assert cells == ["running", "1", "1", "0.0", "2", "0", "0", "1", "0", "-"]


async def test_a_crawl_shows_progress_workers_hosts_and_dead_letters(client, visit):
    worker = await fill(client, [URL], reasons=["HTTP 500"])
    visitor = visit()
    await visitor.get("/crawl?crawl=s")
    assert visitor.code == 200
    assert "running" in visitor.text('[data-part="state"]')
    assert "host:1 alive" in visitor.text('[data-part="workers"]')
    assert worker.number == visitor.page.css("tr button::attr(value)").get()
    assert f"{HOST} 1 0" in visitor.text('[data-part="hosts"]')
    assert "HTTP 500" in visitor.text('[data-part="letters"]')
    await worker.leave()


async def test_pause_and_resume(client, visit):
    await fill(client, [URL])
    visitor = visit()
    await visitor.get("/crawl?crawl=s")
    await visitor.send("/crawl/pause")
    assert visitor.note == "Paused: 1 worker will take no more requests."
    assert await client.hget(KEYS.control, "paused") is not None
    await visitor.get("/crawl?crawl=s")
    assert visitor.note == "", "a note is shown once"
    await visitor.send("/crawl/resume")
    assert visitor.note == "Resumed: 1 worker may go on."


async def test_a_worker_is_stopped_by_its_button_and_all_only_after_a_question(
    client, visit
):
    worker = await fill(client, [URL])
    visitor = visit()
    await visitor.get("/crawl?crawl=s")
    await visitor.send("/crawl/stop", worker=worker.number)
    assert visitor.note == "Asked 1 worker to close."
    await visitor.get("/crawl?crawl=s")
    await visitor.send("/crawl/stop", worker="all")
    assert "Ask all workers to close?" in visitor.text("main")
    await visitor.send("/crawl/stop")
    assert visitor.note == "Asked 1 worker to close."


async def test_dead_letters_are_paged_and_filtered(client, visit, monkeypatch):
    monkeypatch.setattr(views, "LETTERS", 3)
    await fill(client, [], reasons=["HTTP 500", "timeout", *["HTTP 404"] * 6])
    visitor = visit()
    seen, pages, path = [], 0, "/crawl/failed?crawl=s"
    while path:
        await visitor.get(path)
        seen += [r.css("::text").get() for r in visitor.page.css("td.reason")]
        path = visitor.page.css('a[rel="next"]::attr(href)').get()
        pages += 1
    assert seen == [*["HTTP 404"] * 6, "timeout", "HTTP 500"]
    assert pages == 3
    await visitor.get("/crawl/failed?crawl=s&reason=TIME")
    assert visitor.page.css("td.reason::text").getall() == ["timeout"]


async def test_a_filter_looks_through_some_letters_at_a_time(
    client, visit, monkeypatch
):
    monkeypatch.setattr(views, "_LOOKED_AT", 3)
    await fill(client, [], reasons=["timeout", *["HTTP 404"] * 4])
    visitor = visit()
    await visitor.get("/crawl/failed?crawl=s&reason=timeout")
    assert "among the 3 that were looked through" in visitor.text("main")
    await visitor.get(visitor.page.css('a[rel="next"]::attr(href)').get())
    assert visitor.page.css("td.reason::text").getall() == ["timeout"]


async def test_dead_letters_are_retried_and_forgotten(client, visit):
    await fill(client, [], reasons=["HTTP 500", "timeout", "timeout", "HTTP 404"])
    visitor = visit()
    await visitor.get("/crawl/failed?crawl=s")
    ids = visitor.page.css('input[name="id"]::attr(value)').getall()
    await visitor.send("/crawl/retry", id=[ids[0]], which="chosen")
    assert visitor.note == "1 put back."
    await visitor.get("/crawl/failed?crawl=s")
    await visitor.send("/crawl/retry", which="chosen")
    assert "None was chosen" in visitor.text("main")
    assert visitor.code == 400
    await visitor.get("/crawl/failed?crawl=s&reason=timeout")
    await visitor.send("/crawl/forget", which="all")
    assert "'timeout' in their reason for good?" in visitor.text("main")
    assert await client.xlen(KEYS.failed) == 3, "it has asked first"
    await visitor.send("/crawl/forget")
    assert visitor.note == "2 deleted."
    await visitor.get("/crawl/failed?crawl=s")
    assert visitor.page.css("td.reason::text").getall() == ["HTTP 500"]


async def test_a_very_large_letter_is_not_read(client, visit):
    payload = request_of("http://site.example/" + "a" * 100_000).payload
    letter = {"payload": payload, "reason": "x", "kind": "request"}
    await client.xadd(KEYS.failed, letter)
    visitor = visit()
    await visitor.get("/crawl/failed?crawl=s")
    assert "(a request of 0.1 MB)" in visitor.text("tbody")


async def test_the_next_requests(client, visit):
    await fill(client, [f"http://{HOST}/{i}" for i in range(120)])
    visitor = visit()
    await visitor.get("/crawl/next?crawl=s")
    assert len(visitor.page.css("tbody tr")) == views.REQUESTS
    assert visitor.page.css("tbody a::attr(href)").get() == f"http://{HOST}/0"


async def test_large_next_requests_are_not_read_in_the_event_loop(
    client, visit, monkeypatch
):
    threads = set()
    real = browse.read_fields

    def read(payload):
        threads.add(threading.current_thread())
        return real(payload)

    monkeypatch.setattr(browse, "read_fields", read)
    await fill(client, [f"http://{HOST}/{i}/{'x' * 100_000}" for i in range(3)])
    visitor = visit()
    await visitor.get("/crawl/next?crawl=s")
    assert len(visitor.page.css("tbody tr")) == 3
    assert threads
    assert threading.current_thread() not in threads


async def test_explain_a_url_and_crawl_it_once_more(client, visit):
    await fill(client, [URL], reasons=["HTTP 500"])
    visitor = visit()
    await visitor.get("/crawl/explain?crawl=s")
    await visitor.get("/crawl/explain", params={"crawl": "s", "url": URL})
    assert "Place pending : nobody works on it yet" in visitor.text("main")
    await visitor.send("/crawl/recrawl")
    assert visitor.note == "It is pending already, and was left alone."
    other = f"http://{HOST}/dead/0"
    await visitor.get("/crawl/explain", params={"crawl": "s", "url": other})
    assert "failed : it was set aside" in visitor.text("main")
    await visitor.send("/crawl/recrawl")
    assert visitor.note == "Queued once more."
    await visitor.get("/crawl/explain", params={"crawl": "s", "url": "nowhere"})
    assert visitor.code == 400
    assert "'nowhere' is no URL" in visitor.text("main")


async def test_one_at_a_time_looks_through_all_requests(client, visit):
    await fill(client, [URL])
    visitor = visit()
    await visitor.get("/crawl/explain", params={"crawl": "s", "url": URL})
    async with visitor.site.searching:
        asked = [
            asyncio.ensure_future(
                visitor.http.get(f"/crawl/explain?crawl=s&url={URL}")
            ),
            asyncio.ensure_future(visitor.http.get("/crawl/tasks?crawl=s")),
            asyncio.ensure_future(visitor.send("/crawl/recrawl")),
        ]
        while len(visitor.site.searching._waiters or ()) < len(asked):
            await asyncio.sleep(0.01)
        assert not any(each.done() for each in asked)
    await asyncio.gather(*asked)


async def test_seeds_come_from_the_box_and_from_a_file(client, visit):
    visitor = visit()
    await visitor.get("/crawl/seeds?crawl=s")
    lines = b"http://site.example/3\n# no seed\n\nnonsense\n"
    await visitor.send(
        "/crawl/seed",
        seeds='http://site.example/1\n{"url": "http://site.example/2", "priority": 5}\n',
        files={"file": ("x.gz", gzip.compress(lines))},
        priority="7",
    )
    assert visitor.note.startswith("3 seeds pushed; 1 not pushed: line of the file 4: ")
    found = [json.loads(seed) for seed in await client.lrange(SEED_KEYS[0], 0, -1)]
    assert [seed["url"][-1] for seed in found] == ["1", "2", "3"]
    assert [seed["priority"] for seed in found] == [7, 5, 7]
    await visitor.send("/crawl/seed", seeds=URL, priority="high")
    assert "high is no priority" in visitor.text("main")


async def test_seeds_of_one_form_are_bounded(client, visit, monkeypatch):
    monkeypatch.setattr(actions, "MOST_SEEDS", 3)
    visitor = visit()
    await visitor.get("/crawl/seeds?crawl=s")
    await visitor.send("/crawl/seed", seeds="\n".join([URL] * 5))
    assert "3 seeds pushed" in visitor.note
    assert "nothing from line 4 on was pushed" in visitor.note


async def test_the_history_shows_what_has_finished(client, visit):
    worker = await fill(client, [])
    await worker.leave(finished=True)
    visitor = visit()
    await visitor.get("/crawl/history?crawl=s")
    assert len(visitor.page.css("tbody tr")) == 1


async def test_settings_show_no_secret(client, visit):
    secrets = {
        "REDIS_URL": "redis://user:hunter2@here:6379/0?password=hunter2",
        "REDIS_PARAMS": {"password": "hunter2"},
        "FRONTIER_SECRET": "hunter2hunter2hunter2hunter2hunter2",
        "FRONTIER_WEB_PASSWORD": "hunter2",
        "FRONTIER_MAX_DELIVERIES": 7,
    }
    visitor = visit(secrets)
    text = await visitor.get("/crawl/settings?crawl=s")
    assert "hunter2" not in text
    assert "FRONTIER_MAX_DELIVERIES 7 set" in visitor.text("main")
    assert "FRONTIER_WEB_PASSWORD set, and not shown" in visitor.text("main")
    for path in PAGES:
        assert "hunter2" not in await visitor.get(f"/crawl{path}?crawl=s")


@pytest.mark.parametrize(
    ("url", "is_link"),
    [
        ("https://site.example/a?b=c#d", True),
        ("HTTP://site.example/", True),
        ("javascript:alert(1)", False),
        ("JavaScript://site.example/%0aalert(1)", False),
        ("data:text/html,x", False),
        ("http://", False),
        ("http://[", False),
        ("http://user:hunter2@site.example/", False),
        ("http://site.example/\u202e", False),
        ("http://site.example/" + "a" * 300, False),
        ("", False),
    ],
)
def test_only_what_is_shown_as_it_is_becomes_a_link(url, is_link):
    html = link(url)
    assert ("href" in html) is is_link
    assert "hunter2" not in html
    assert "\u202e" not in html


@pytest.mark.parametrize("path", PAGES)
async def test_what_comes_from_redis_is_only_text(client, visit, path):
    url = f"http://{HOST}/{HOSTILE}"
    await fill(client, [url, URL], reasons=[HOSTILE], info=HOSTILE[:100])
    await client.rpush(SEED_KEYS[0], url)
    await client.xadd(KEYS.failed, {"payload": url, "reason": HOSTILE, "kind": "seed"})
    visitor = visit()
    text = await visitor.get(f"/crawl{path}?crawl=s&reason=&url=")
    assert visitor.code == 200
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)
    sources = visitor.page.css("script::attr(src)").getall()
    assert sources == ["/static/page.js"]
    assert len(visitor.page.css("script")) == 1
    assert not visitor.page.css("img, [onerror], [style], style, iframe")
    for found in visitor.page.css("a.url"):
        assert found.attrib["href"].startswith("http://")
        assert found.attrib["rel"] == "noopener noreferrer nofollow"


@pytest.mark.parametrize(
    "name", ["<b>x</b>", "a/b?c&d", "x:y", "\u202eabc", "a" * 300, "'\"", "ä ö"]
)
async def test_names_of_crawls_may_be_anything(client, visit, name):
    from scrapy.settings import Settings

    from tests.support.visitor import site_of

    visitor = visit(site=site_of(client, Settings(), name))
    text = await visitor.get("/")
    assert "<b>" not in text
    await visitor.get(visitor.page.css("tbody a::attr(href)").get())
    assert visitor.code == 200
    await visitor.send("/crawl/pause")
    assert "nobody" not in visitor.text("main") or visitor.code == 400


async def test_a_crawl_that_is_not_there_is_not_found(client, visit):
    visitor = visit()
    await visitor.get("/crawl?crawl=ss")
    assert "Did you mean 's'?" in visitor.text("main")
    assert visitor.code == 404
    await visitor.get("/nothing")
    assert visitor.code == 404


async def test_while_redis_is_away_each_page_says_so_and_comes_back(client, visit):
    await fill(client, [URL])
    visitor = visit()
    await visitor.get("/")
    crawl = await visitor.site.crawl("s")
    port = crawl.port

    class Away:
        seed_keys = ()

        def __getattr__(self, name):
            raise RedisUnavailable("it is <gone>")

    crawl.port = Away()
    for path in PAGES[1:-1]:
        await visitor.get(f"/crawl{path}?crawl=s&url=http://a/")
        assert visitor.code == 503
        assert "it is <gone>" in visitor.text("main")
        assert visitor.answer.headers["refresh"] == "5"
    text = await visitor.get("/crawl?crawl=s")
    assert "Redis is away: it is &lt;gone&gt;" in text
    assert visitor.code == 503
    crawl.port = port
    visitor.site.live(crawl)._looked = 0
    await visitor.get("/crawl?crawl=s")
    assert visitor.code == 200
    assert "Redis is away" not in visitor.text("main")


async def test_a_frontier_of_another_version_is_said(client, visit):
    await fill(client, [URL])
    await client.hset(KEYS.state, "format", 99)
    visitor = visit()
    await visitor.get("/crawl?crawl=s")
    assert "What is shown may be wrong." in visitor.text(".trouble")
    await visitor.send("/crawl/pause")
    assert visitor.code == 400


async def test_a_mistake_of_ours_tells_no_details(client, visit, monkeypatch):
    async def broken(asked):
        raise KeyError("hunter2")

    monkeypatch.setitem(views.SHOWN, "history", broken)
    visitor = visit(raises=False)
    text = await visitor.get("/crawl/history?crawl=s")
    assert visitor.code == 500
    assert visitor.text("h1") == "Something is wrong here"
    assert "hunter2" not in text
    assert visitor.answer.headers["content-security-policy"]


async def test_live_pages_may_be_asked_for_their_head(client, visit):
    visitor = visit()
    answer = await visitor.http.head("/crawl/live?crawl=s")
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_pages_that_stay_up_to_date_are_bounded(client, visit, monkeypatch):
    monkeypatch.setattr(app, "MOST_STREAMS", 0)
    visitor = visit()
    await visitor.get("/live")
    assert visitor.code == 503
    assert "Too many pages are open" in visitor.text("main")
    assert "is loaded again every 5 seconds" in visitor.text("main")
    assert visitor.answer.headers["refresh"] == "5"


async def test_a_key_of_another_type_is_named(client, visit):
    await client.set(KEYS.failed, "x")
    visitor = visit()
    await visitor.get("/")
    assert "holds something else: WRONGTYPE" in visitor.text(".trouble")
    await visitor.get("/crawl/failed?crawl=s")
    assert visitor.code == 400
    assert KEYS.failed in visitor.text(".trouble")


async def test_pages_have_landmarks_labels_and_headers(client, visit):
    await fill(client, [URL], reasons=["HTTP 500"])
    visitor = visit()
    for path in ("/", *(f"/crawl{page}?crawl=s" for page in PAGES)):
        await visitor.get(path)
        page = visitor.page
        assert (
            len(page.css("main")) == len(page.css("h1")) == len(page.css("header")) == 1
        )
        assert page.css("html::attr(lang)").get() == "en"
        assert page.css("a.skip::attr(href)").get() == "#main"
        for table in page.css("table"):
            assert table.css("caption")
            assert table.css("th[scope]")
        for field in page.css("input:not([type=hidden]), textarea"):
            id_ = field.attrib.get("id", "none")
            labels = page.css(f'label[for="{id_}"]') or field.xpath("ancestor::label")
            assert labels or field.attrib.get("aria-label"), field.get()
        for region in page.css('nav, [role="region"], section'):
            assert {"aria-label", "aria-labelledby"} & set(region.attrib)
        for button in page.css("button"):
            assert button.css("::text").get("").strip()


async def test_metrics_are_there(client, visit):
    async def read():
        return b"scrapy_frontier_redis_up 1.0\n"

    visitor = visit(metrics=read)
    assert "redis_up 1.0" in await visitor.get("/metrics")
    visitor = visit()
    assert "scrapy-dist[metrics]" in await visitor.get("/metrics")
    assert visitor.code == 404


# Tasks


async def submit(visitor, *ids, batch="b"):
    tasks = Tasks(await visitor.site.crawl("s"))
    maker = tasks.maker(batch=batch or None)
    return [
        await tasks.submit(maker.make(f"http://{HOST}/{id_}", id=id_)) for id_ in ids
    ]


async def test_tasks_are_listed_by_batch_and_state_and_cancelled(client, visit):
    visitor = visit()
    await visitor.get("/crawl/tasks?crawl=s")
    assert "There is no such task" in visitor.text("main")
    await submit(visitor, "a", "b", "<b>c</b>")
    await submit(visitor, "other", batch="")
    await visitor.get("/crawl/tasks?crawl=s")
    assert "0 of 3 3 0 0 0 0" in visitor.text('[aria-label="Batches"]')
    assert len(visitor.page.css('[aria-label="Tasks"] tbody tr')) == 4
    assert "<b>c" not in visitor.answer.text
    await visitor.get(visitor.page.css('[aria-label="Batches"] a::attr(href)').get())
    assert len(visitor.page.css('[aria-label="Tasks"] tbody tr')) == 3
    await visitor.send("/crawl/cancel", id=["a", "nobody"])
    assert "Cancel 2 tasks?" in visitor.text("main")
    await visitor.send("/crawl/cancel")
    assert visitor.note == "1 task cancelled; 1 had ended, or is not known."
    await visitor.get("/crawl/tasks?crawl=s&state=cancelled")
    assert visitor.page.css('[aria-label="Tasks"] tbody a::text').getall() == ["a"]
    await visitor.get("/crawl/tasks?crawl=s&state=mad")
    assert visitor.code == 400
    await visitor.get("/crawl/tasks?crawl=s")
    await visitor.send("/crawl/cancel")
    assert "None was chosen" in visitor.text("main")


async def test_a_task_shows_its_items(client, visit):
    visitor = visit()
    [task] = await submit(visitor, "a")
    await visitor.get("/crawl/task?crawl=s&id=a")
    assert visitor.text("h1") == "Task a"
    assert "1 open, 0 done" in visitor.text("main")
    assert "There are none" in visitor.text("main")
    record = await client.hget(KEYS.tasks, f"t:{task.token}")
    head, _, rest = record.partition(b"\n")
    words = head.split()
    words[4] = b"2"
    await client.hset(KEYS.tasks, f"t:{task.token}", b" ".join(words) + b"\n" + rest)
    items = {f"{task.token} 1": '{"x": "<b>"}', f"{task.token} 2": b"\xff<i>"}
    await client.hset(KEYS.results, mapping=items)
    await visitor.get("/crawl/task?crawl=s&id=a")
    assert visitor.page.css(".items code::text").getall() == [
        '{"x": "<b>"}',
        "b'\\\\xff<i>'",
    ]
    await visitor.send("/crawl/cancel")
    await visitor.send("/crawl/cancel")
    assert visitor.note == "1 task cancelled."
    await visitor.get("/crawl/task?crawl=s&id=nobody")
    assert visitor.code == 404


async def test_of_very_many_tasks_some_are_looked_at(client, visit, monkeypatch):
    visitor = visit()
    await submit(visitor, *"abcdef")
    monkeypatch.setattr(views, "TASKS", 2)
    monkeypatch.setattr(task_glance, "_KEPT", 2)
    await visitor.get("/crawl/tasks?crawl=s")
    assert len(visitor.page.css('[aria-label="Tasks"] tbody tr')) == 2
    crawl = await visitor.site.crawl("s")

    async def endless(**_):
        while True:
            yield []
            await asyncio.sleep(0)

    monkeypatch.setattr(views, "_LOOKING", 0.05)
    monkeypatch.setattr(crawl.port, "tasks", endless)
    await visitor.get("/crawl/tasks?crawl=s")
    assert "only some were looked at" in visitor.text("main")
