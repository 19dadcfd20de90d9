"""What a worker says of the whole crawl."""

from __future__ import annotations

import logging
from datetime import datetime, timezone

import pytest
from scrapy import Spider

from scrapy_dist.admin.reporter import Reporter
from scrapy_dist.core.status import Status
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.worker.progress import Progress


def status(**changed) -> Status:
    counts = dict.fromkeys(
        ("pending", "leased", "suspect", "failed", "seen", "seeds", "items", "pages"), 0
    )
    now = datetime.now(timezone.utc)
    told = {"job": None, "pages_per_second": 0.0, "paused": False, "workers": ()}
    return Status("s", redis="there", time=now, **{**counts, **told, **changed})


def reporter(found, *, pages=0, failed=0, job="") -> Reporter:
    async def read():
        if isinstance(found, Exception):
            raise found
        return found

    progress = Progress()
    progress.add(pages)
    progress.failed = failed
    key = "s:failed"
    return Reporter(read, progress, Spider("s"), interval=0, job=job, failed_key=key)


@pytest.fixture(autouse=True)
def _all_levels(caplog):
    caplog.set_level(logging.DEBUG, "scrapy_dist.admin.reporter")


@pytest.mark.parametrize(
    ("own", "all_pages", "told"),
    [
        (0, 0, "crawled 0 of 0 pages (0 %); 2 requests are left"),
        (1, 4, "crawled 1 of 4 pages (25 %)"),
        # Its own last pages may not be counted yet.
        (5, 4, "crawled 5 of 5 pages (100 %)"),
    ],
)
async def test_share_of_a_worker_is_told(caplog, own, all_pages, told):
    await reporter(status(pages=all_pages, pending=2), pages=own).sum_up()
    assert told in caplog.text
    assert "WARNING" not in caplog.text


async def test_failures_of_this_worker_are_told_with_the_command(caplog):
    await reporter(status(failed=7), failed=3, job="nightly").sum_up()
    [warning] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warning.startswith("Of this worker 3 requests or seeds failed")
    assert "7 dead letters in all" in warning
    assert "scrapy frontier failed s --job nightly (the key s:failed)" in warning


@pytest.mark.parametrize("error", [RedisUnavailable("gone"), ValueError("odd")])
async def test_what_cannot_be_read_ends_nothing(caplog, error):
    await reporter(error, failed=3).sum_up()
    assert "crawled" not in caplog.text
    assert ("Traceback" in caplog.text) == isinstance(error, ValueError)
