"""What of a page goes ahead of its ack, and what must not."""

from __future__ import annotations

import pytest
from scrapy import Request

from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import End, Lease, NewRequest
from scrapy_dist.worker.view import Memory
from tests.support.engine import FakeEngine, make_queues
from tests.support.pages import URL


class Page:
    """One page under way, its outputs, and a real outbox behind them."""

    def __init__(self, *, noting: bool = True, commit_chunk: int = 100) -> None:
        self.request = Request(URL)
        engine = FakeEngine()
        self.downloading = engine.downloads
        queues = make_queues(
            engine, PayloadCodec(engine.spider), FRONTIER_COMMIT_CHUNK=commit_chunk
        )
        self.leases, self.provenance = queues.leases, queues.provenance
        self.provenance.noting = noting
        self.outbox, self.view, self.outputs = (
            queues.outbox,
            queues.view,
            queues.outputs,
        )
        self.record = self.leases.open(Lease("1", b"x"))
        self.leases.handed[self.request] = (self.record,)
        self.outputs.handed_out((self.record,))

    def add_request(self, fingerprint: str = "") -> None:
        new = NewRequest(b"child", 0.0, fingerprint)
        self.outputs.add_request(new, Request(URL + "child"), (self.record,))

    def add_item(self, data: bytes) -> None:
        item = object()
        self.provenance.note(item, (self.record,))
        self.outputs.add_item(item, "s:items", data)

    def let_time_pass(self) -> None:
        """As long as outputs may wait."""
        self.record.since -= 60

    def sent(self):
        """What the outbox holds: of each commit its own requests, and its pages."""
        return [n.commit for n in self.outbox.take(100)]


@pytest.fixture
def page():
    return Page()


def test_outputs_wait_for_the_ack_of_their_page(page):
    page.add_request()
    page.add_item(b"item")
    page.outputs.send_overdue()
    assert page.sent() == []
    ended = page.record.settle()
    assert [r.payload for r in ended.requests] == [b"child"]
    assert [data for _, data in ended.items] == [b"item"]
    assert ended.end == End.ACK


def test_request_that_waits_too_long_goes_ahead_and_the_items_do_not(page):
    """They would come twice if the worker died now."""
    page.add_request()
    page.add_item(b"item")
    page.let_time_pass()
    page.outputs.send_overdue()
    [commit] = page.sent()
    [part] = commit.settlements
    assert (len(part.requests), list(part.items), part.end) == (1, [], End.OPEN)
    assert [data for _, data in page.record.settle().items] == [b"item"]


def test_request_that_a_filter_knows_again_goes_ahead_at_once(page):
    page.add_request("fp")
    [commit] = page.sent()
    assert [request.fingerprint for request in commit.requests] == ["fp"]
    assert page.record.settle().end == End.ACK  # no bare one: it has produced


def test_page_that_redis_took_away_sends_nothing_more(page):
    page.add_request()
    page.record.invalidated = True
    page.let_time_pass()
    page.outputs.send_overdue()
    assert page.sent() == []
    assert page.record.waiting == 0


def test_large_page_that_redis_took_away_sends_no_part_either():
    page = Page(commit_chunk=3)
    page.record.invalidated = True
    for n in range(5):
        page.add_item(b"%d" % n)
    assert page.sent() == []


def test_page_is_acknowledged_bare_only_if_nothing_of_it_is_under_way():
    """A full Redis takes bare acks before what was sent ahead of them."""
    page = Page(noting=False)
    assert page.record.produced  # as far as anybody can tell
    page.outputs.redis_is_full()
    assert page.record.settle().end == End.ACK

    page.downloading.add(page.request)  # it has not come to the spider yet
    page.view.memory = Memory.FULL
    page.outputs.redis_is_full()
    assert page.record.settle().end == End.EMPTY


def test_page_with_a_request_that_stays_here_is_not_acknowledged_bare_though_it_waits():
    page = Page(noting=False)
    page.downloading.add(page.request)
    page.leases.hold((page.record,))
    page.outputs.redis_is_full()
    assert page.record.settle().end == End.ACK


def test_output_of_unknown_origin_holds_back_all_pages_that_may_have_made_it():
    page = Page(noting=True)
    page.outputs.add_request(NewRequest(b"x", 0.0, "fp"), Request(URL), None)
    assert page.record.produced
    waiting = Page(noting=True)
    waiting.downloading.add(waiting.request)
    waiting.outputs.add_request(NewRequest(b"x", 0.0, "fp"), Request(URL), None)
    assert not waiting.record.produced
