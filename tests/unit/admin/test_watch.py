"""What Prometheus is told of crawls, and people of what is wrong with them."""

from __future__ import annotations

import pytest

from scrapy_dist.exceptions import ConfigurationError

pytest.importorskip("prometheus_client")

from scrapy_dist.admin import metrics


class Broken:
    spider, job = "s", None

    async def status(self, **_):
        raise ConfigurationError("s:requests is no sorted set")


async def test_a_problem_is_told_once_as_long_as_it_stays(monkeypatch):
    monkeypatch.setattr(metrics, "_READING_AGE", 0.0)
    monkeypatch.setattr(metrics, "_LIST_AGE", 0.0)
    crawls, told = [Broken()], []

    async def find():
        return list(crawls)

    watch = metrics.Watch(find, told.append)
    for _ in range(3):
        reading = await watch.read()
    assert reading.unreadable == [("s", "", "s:requests is no sorted set")]
    assert told == ["s:requests is no sorted set"]
    crawls.clear()
    await watch.read()
    crawls.append(Broken())
    await watch.read()
    assert len(told) == 2


@pytest.mark.parametrize("name", ["x" * 5000, "\n" * 5000])
def test_a_label_is_short_and_none_is_twice(name):
    label = metrics._label(name)
    assert len(label) <= 200
    assert label != metrics._label(f"{name}1")
    assert metrics._label("x" * 200) == "x" * 200
