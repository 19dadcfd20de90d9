"""Leases of a worker, what waits for their acks, and where outputs come from."""

from __future__ import annotations

from scrapy import Request

from scrapy_dist.core.frontier import End, Lease, NewRequest
from scrapy_dist.worker.leases import Leases
from scrapy_dist.worker.provenance import Provenance


def opened(ledger: Leases, name: str):
    return ledger.open(Lease(name, b""))


def test_lease_is_finished_when_its_last_holder_is():
    ledger = Leases()
    record = opened(ledger, "1")
    page, redirected = Request("http://a.invalid"), Request("http://b.invalid")
    ledger.handed[page] = (record,)
    ledger.hold((record,))
    ledger.handed[redirected] = (record,)
    assert ledger.sweep({page, redirected}) == []
    assert ledger.sweep({redirected}) == []
    assert ledger.sweep(set()) == [record]
    assert ledger.sweep(set()) == []


def test_seed_is_a_page_as_soon_as_something_is_crawled_under_its_lease():
    ledger = Leases()
    seeds = [
        ledger.open(Lease(name, b"http://a.invalid", is_seed=True)) for name in "12"
    ]
    ledger.hold(seeds[:1])
    assert [record.settle().counts for record in seeds] == [True, False]


def test_end_of_a_page():
    ledger = Leases()
    assert opened(ledger, "1").settle().end == End.EMPTY

    with_item = opened(ledger, "2")
    with_item.add_item("k", b"x")
    page = with_item.settle()
    assert (page.end, page.items) == (End.ACK, [("k", b"x")])

    travelled = opened(ledger, "3")
    travelled.produced = True
    assert travelled.settle().end == End.ACK

    failed = opened(ledger, "4")
    failed.failure = "it raised"
    settled = failed.settle()
    assert (settled.end, settled.reason) == (End.FAILED, "it raised")


def test_part_goes_ahead_with_or_without_the_items():
    record = opened(Leases(), "1")
    record.add_request(NewRequest(b"child", 0.0))
    record.add_item("k", b"item")
    part = record.take_part(items=False)
    assert (part.end, len(part.requests), len(part.items)) == (End.OPEN, 1, 0)
    assert (record.waiting, record.size) == (1, 4)

    part = record.take_part(items=True)
    assert (len(part.requests), len(part.items)) == (0, 1)
    assert (record.waiting, record.size) == (0, 0)
    assert record.settle().end == End.ACK  # not bare: a part was before it


def test_tainted_page_has_nothing_to_store():
    ledger = Leases()
    record = opened(ledger, "1")
    record.add_item("k", b"x")
    ledger.invalidate()
    assert record.invalidated
    assert record.waiting == 0


def test_origin_of_an_output_is_told_once():
    origins, record = Provenance({}), opened(Leases(), "1")
    output, other = {"a": 1}, {"a": 1}
    origins.note(output, (record,))
    assert origins.take(other) is None
    assert origins.take(output) == (record,)
    assert origins.take(output) is None


def test_outputs_of_several_pages_are_told_apart_in_any_order():
    ledger, origins = Leases(), Provenance({})
    pages = [(opened(ledger, "1"),), (opened(ledger, "2"),), ()]
    outputs = [{"n": n} for n in range(6)]
    for at, output in enumerate(outputs):
        origins.note(output, pages[at % 3])
    for at in (3, 5, 0, 1, 4, 2):
        assert origins.take(outputs[at]) == pages[at % 3]
        assert origins.take(outputs[at]) is None
    assert pages[0][0].noted == {}


def test_outputs_that_went_nowhere_are_forgotten_with_their_page():
    ledger, origins = Leases(), Provenance({})
    record, other = opened(ledger, "1"), opened(ledger, "2")
    outputs = [{"n": n} for n in range(3)]
    origins.note(outputs[0], (record,))
    origins.note(outputs[1], (other,))
    origins.note(outputs[2], (record,))
    origins.forget(record)
    assert record.noted == {}
    assert [origins.take(output) for output in outputs] == [None, (other,), None]


def test_nothing_is_known_of_an_output_that_is_none():
    """A pipeline may return it."""
    assert Provenance({}).take(None) is None
    assert Provenance({}).of_item(None) is None


def test_item_keeps_its_origin_when_a_pipeline_replaces_it():
    origins, record = Provenance({}), opened(Leases(), "1")
    item = {"a": 1}
    origins.note(item, (record,))
    origins.enter(item)
    assert origins.of_item(dict(item)) == (record,)
    origins.enter({"of": "an errback"})
    assert origins.of_item({"of": "an errback"}) is None
