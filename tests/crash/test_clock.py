"""The clock of a worker's machine does not matter: time is that of Redis."""

from __future__ import annotations

import datetime as dt
import os
import signal
from typing import TYPE_CHECKING

from tests.support.project import Worker, assert_finished, package_parent
from tests.support.redis_state import failed, wait_for_workers
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from pathlib import Path


DAY = 86_400
PAGES = 600
TTL = 3.0

#: Python imports this at its start. SIGUSR1 turns the error of the clock around.
#: Twisted's timers keep the true time: they follow the clock, so that a jump lets
#: downloads time out in any crawl, which is not what is tested here.
SITECUSTOMIZE = """
import datetime
import os
import signal
import time

import twisted.python.runtime

shift = float(os.environ["CLOCK_SHIFT"])
true_time, true_time_ns = time.time, time.time_ns
true_datetime = datetime.datetime


def turn(signum, frame):
    global shift
    shift = -shift


def now(cls, tz=None):
    return cls.fromtimestamp(time.time(), tz)


signal.signal(signal.SIGUSR1, turn)
time.time = lambda: true_time() + shift
time.time_ns = lambda: true_time_ns() + int(shift * 1e9)
# Its repr and size are those of the class which it replaces.
datetime.datetime = type(
    "datetime.datetime",
    (true_datetime,),
    {
        "__slots__": (),
        "now": classmethod(now),
        "today": classmethod(now),
        "utcnow": classmethod(lambda cls: now(cls, datetime.timezone.utc).replace(tzinfo=None)),
    },
)
"""


def days_in_log(worker: Worker) -> set[int]:
    """The dates in its log, as days from today."""
    dates = {line[:10] for line in worker.log().splitlines() if " INFO: " in line}
    days = (dt.date.fromisoformat(date) for date in dates if date[:2] == "20")
    today = dt.datetime.now(dt.timezone.utc).astimezone().date()
    return {(day - today).days for day in days}


def test_clocks_wrong_by_a_day_that_jump_in_mid_crawl_change_nothing(
    project, site, redis_server, tmp_path: Path
):
    project.spider(FOLLOW)
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join([str(tmp_path), package_parent()])
    site.delay(60)
    site.pause()
    ahead, behind = (
        project.crawl(
            "follow",
            args={"url": f"{site.url}/tree/{PAGES}/3/0"},
            settings={"FRONTIER_WORKER_TTL": TTL, "CONCURRENT_REQUESTS": 4},
            env={"PYTHONPATH": path, "CLOCK_SHIFT": str(shift)},
        )
        for shift in (DAY, -DAY)
    )
    with redis_server.client() as client:
        wait_for_workers(client, "follow", 2)
        site.answer(PAGES // 2)
        wait_until(lambda: len(site.waiting()) == 2, "half of the pages, both at work")
        for worker in (ahead, behind):
            os.kill(worker.pid, signal.SIGUSR1)
        site.resume()
        assert_finished([ahead, behind])
        assert failed(client, "follow") == []

    assert site.hits() == tree_pages(PAGES, 3)
    log = site.log()
    assert log[-1].time - log[0].time > TTL
    for worker in (ahead, behind):
        assert {-1, 1} <= days_in_log(worker)
        assert "WARNING" not in worker.log()
        assert site.hits_by_worker()[worker.agent] > PAGES // 10
