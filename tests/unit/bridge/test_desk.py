"""What tasks messages without an id become."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("pika")

from scrapy_dist.bridge import desk


class Maker:
    def make(self, body, otherwise):
        return SimpleNamespace(id=otherwise)


async def test_messages_that_are_alike_are_hashed_once_each(monkeypatch):
    hashed = []
    made_id = desk._made_id
    monkeypatch.setattr(desk, "_made_id", lambda d: hashed.append(d) or made_id(d))
    crawl = SimpleNamespace(port=None, options=SimpleNamespace(max_seed=9))
    sinks = SimpleNamespace(publisher=None)
    found = desk.Desk(crawl, sinks, None, None, is_stored_enough=False)
    monkeypatch.setattr(found, "_maker", lambda delivery: Maker())
    alike = [SimpleNamespace(id=None, body=b"x", encoding=None) for _ in range(9)]
    taken = set()
    made = [found._make(each, taken) for each in alike]
    assert hashed == alike
    numbers = [each.task.id.rpartition("-")[2] for each in made]
    assert numbers == [str(number) for number in range(9)]
    assert not any(each.is_named for each in made)
