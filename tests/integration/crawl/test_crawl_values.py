"""What MessagePack lacks goes from worker to worker: values, objects, attributes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.project import Worker, assert_finished
from tests.support.together import start_together
from tests.support.wait import wait_until

RICH = """
import enum
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from pathlib import PurePosixPath


class Kind(enum.Enum):
    BOOK = "book"


Point = namedtuple("Point", "x y")


@dataclass
class Plan:
    depth: int = 1
    tags: list = field(default_factory=list)


class Step:
    def __init__(self, method, *args, **kwargs):
        self.method, self.args, self.kwargs = method, args, kwargs

    def __eq__(self, other):
        return vars(self) == vars(other)


def plain():
    return {
        "ordered": OrderedDict(b=1, a=2),
        "default": defaultdict(list, a=[1]),
        "counter": Counter("aab"),
        "deque": deque([1, 2], 3),
        "path": PurePosixPath("/a/b"),
    }


def rich():
    return {
        **plain(),
        "kind": Kind.BOOK,
        "point": Point(1, 2),
        "plan": Plan(2, ["x"]),
        "steps": [Step("click", "a", timeout=3)],
    }


class Values(Spider):
    name = "values"
    make = staticmethod(rich)

    async def start(self):
        yield Request(f"{self.url}/page/start")

    def parse(self, response):
        for n in range(40):
            url = f"{self.url}/page/{n}"
            yield Request(url, self.page, meta=self.make())

    def page(self, response):
        want = self.make()
        have = {key: response.meta[key] for key in want}
        kinds = [type(have[key]) is type(want[key]) for key in want]
        record(self, url=response.url, same=have == want and all(kinds))


class Plain(Values):
    name = "plain"
    make = staticmethod(plain)
"""


def named(worker: Worker) -> list[str]:
    """The classes that the one warning of *worker* tells to allow."""
    (line,) = [li for li in worker.log().splitlines() if "cannot be shared" in li]
    setting = line.partition("FRONTIER_SHARED_CLASSES = ")[2]
    paths: list[str] = json.JSONDecoder().raw_decode(setting)[0]
    return paths


def crawl_values(
    project: Any, site: Any, name: str, frontier: str, at_work: int, **settings: Any
) -> list[Worker]:
    """Crawl 40 pages with two workers, *at_work* of which have some of them."""
    project.clear_records()
    site.reset()
    args = {"url": site.url}
    settings["CONCURRENT_REQUESTS"] = 4
    workers = start_together(
        project, site, 2, name, 9, args=args, frontier=frontier, settings=settings
    )
    wait_until(lambda: len(site.waiting()) == at_work, f"{at_work} at work")
    site.resume()
    assert_finished(workers)
    assert project.recorded("same") == [True] * 40
    assert len(set(project.recorded("url"))) == 40
    return workers


@pytest.mark.parametrize(
    ("frontier", "serializer"), [("classic", None), ("addon", "json")]
)
def test_objects_are_shared_once_the_setting_says_so(
    project, site, frontier, serializer
):
    project.spider(RICH)
    options = {"SCHEDULER_SERIALIZER": serializer}

    # given a project that allows no class, all pages stay in one worker, which says
    # what to allow
    workers = crawl_values(project, site, "values", frontier, 1, **options)
    (alone,) = {record["worker"] for record in project.records()}
    paths = named(next(worker for worker in workers if worker.agent == alone))
    module = "shop.spiders.spiders_1"
    assert paths == [f"{module}.{name}" for name in ("Kind", "Point", "Plan", "Step")]

    # when it does what the warning says, then both workers have pages
    options["FRONTIER_SHARED_CLASSES"] = paths
    workers = crawl_values(project, site, "values", frontier, 2, **options)
    assert len({record["worker"] for record in project.records()}) == 2
    assert not any("cannot be shared" in worker.log() for worker in workers)


def test_types_of_the_standard_library_need_no_setting(project, site):
    project.spider(RICH)

    crawl_values(project, site, "plain", "classic", 2)

    assert len({record["worker"] for record in project.records()}) == 2


def test_a_request_keeps_its_own_attributes_in_any_worker(project, site):
    project.spider("""
    class BrowserRequest(Request):
        def __init__(self, *args, wait=None, shot=False, **kwargs):
            self.wait, self.shot = wait, shot
            super().__init__(*args, **kwargs)

    class Browsing(Spider):
        name = "browsing"
        custom_settings = {"FRONTIER_REQUEST_CLASSES": [BrowserRequest]}

        async def start(self):
            for n in range(20):
                yield BrowserRequest(f"{self.url}/page/{n}", wait=10, shot=True)

        def parse(self, response):
            request = response.request
            record(self, attributes=[request.wait, request.shot])
    """)
    workers = start_together(
        project,
        site,
        2,
        "browsing",
        answers=6,
        args={"url": site.url},
        settings={"CONCURRENT_REQUESTS": 4},
    )
    wait_until(lambda: len(site.waiting()) == 2, "both at work")
    site.resume()
    assert_finished(workers)

    assert project.recorded("attributes") == [[10, True]] * 20
    assert len({record["worker"] for record in project.records()}) == 2


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["no.such.Class"], "cannot be imported"),
        (["collections.defaultdict"], "cannot be stored"),
        (5, "is no list"),
    ],
)
def test_a_class_that_cannot_be_allowed_is_one_error(project, site, value, says):
    project.spider(RICH)
    worker = project.crawl(
        "values", args={"url": site.url}, settings={"FRONTIER_SHARED_CLASSES": value}
    )

    assert worker.wait() != 0
    errors = [line for line in worker.log().splitlines() if "ERROR" in line]
    assert len(errors) == 1
    assert "FRONTIER_SHARED_CLASSES" in errors[0]
    assert says in errors[0]
    assert "Traceback" not in worker.log()
    assert not site.hits()
