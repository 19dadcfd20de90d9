"""What a crawl asks of Python's garbage collector."""

from __future__ import annotations

import gc

import pytest

from scrapy_dist.worker import gc_freeze


@pytest.fixture(autouse=True)
def thawed(monkeypatch):
    monkeypatch.setattr(gc_freeze, "_crawls", 0)
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_is_there_at_the_start_is_left_out_until_the_last_crawl_ends():
    class Old:
        pass

    old = Old()
    gc_freeze.freeze()
    new = Old()
    assert not any(found is old for found in gc.get_objects())
    assert any(found is new for found in gc.get_objects())

    gc_freeze.freeze()
    # It may be the first crawl's.
    assert any(found is new for found in gc.get_objects())
    gc_freeze.thaw()
    assert gc.get_freeze_count() > 0
    gc_freeze.thaw()
    assert gc.get_freeze_count() == 0
    assert any(found is old for found in gc.get_objects())


def test_cycle_that_is_dropped_during_the_crawl_is_freed_after_it():
    freed = []

    class Node:
        def __del__(self):
            freed.append(1)

    node = Node()
    node.self = node
    gc_freeze.freeze()
    del node
    gc.collect()
    assert freed == []
    gc_freeze.thaw()
    gc.collect()
    assert len(freed) == 1


def test_python_without_freezing_is_left_alone(monkeypatch):
    monkeypatch.setattr(gc_freeze, "gc", object())
    gc_freeze.freeze()
    gc_freeze.thaw()
    assert gc.get_freeze_count() == 0
