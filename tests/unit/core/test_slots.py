"""FRONTIER_SLOT: what it may be, and which slot a request belongs to then."""

from __future__ import annotations

import sys

import pytest
from scrapy import Request
from scrapy.settings import Settings

from scrapy_dist import exceptions, queue
from scrapy_dist.core.settings import Options
from scrapy_dist.core.slots import (
    NO_SLOT,
    Order,
    Slots,
    drop_inherited_slot,
    host_of,
    slot_number,
)


def slots(**settings: object) -> Slots:
    return Options.from_settings(Settings(settings)).slots


def shop(request: Request) -> object:
    return request.meta.get("shop")


async def later(request: Request) -> str:
    return "a"


def test_the_default_is_the_host_or_the_slot_that_scrapy_downloads_in():
    for made in (slots(), slots(FRONTIER_SLOT="host")):
        assert made.are_many
        assert made.number(Request("http://a.example/1")) == slot_number("a.example")
        own = Request("http://a.example/1", meta={"download_slot": "b"})
        assert made.number(own) == slot_number("b")


def test_no_slots_in_one_order():
    made = slots(SCHEDULER_QUEUE_CLASS="scrapy_dist.queue.PriorityQueue")
    assert not made.are_many
    assert made.number(Request("http://a.example/1")) == NO_SLOT


@pytest.mark.parametrize("value", ["host", "domain", shop])
def test_a_slot_beside_one_order_is_refused(value):
    with pytest.raises(exceptions.ConfigurationError, match="FRONTIER_SLOT") as e:
        slots(FRONTIER_SLOT=value, SCHEDULER_QUEUE_CLASS="scrapy_dist.queue.FifoQueue")
    assert "scrapy_dist.queue.FifoQueue" in str(e.value)


@pytest.mark.parametrize(
    "value",
    ["hosts", "no.such.module", f"{__name__}.nothing", 7, "", [], later, Request],
)
def test_what_is_no_slot_is_refused(value):
    with pytest.raises(exceptions.ConfigurationError, match="FRONTIER_SLOT") as e:
        slots(FRONTIER_SLOT=value)
    assert "'host'" in str(e.value)


@pytest.mark.parametrize("value", [shop, f"{__name__}.shop"])
def test_a_function_of_the_project_names_it(value):
    made = slots(FRONTIER_SLOT=value)
    request = Request("http://a.example/1", meta={"shop": "x"})
    assert made.number(request) == slot_number("x")


@pytest.mark.parametrize("fails", [False, True])
def test_where_it_fails_the_request_is_in_the_slot_of_its_host(fails, caplog):
    def name(request: Request) -> object:
        return 1 // 0 if fails else None

    made = slots(FRONTIER_SLOT=name)
    for _ in range(3):
        number = made.number(Request("http://a.example/1"))
        assert number == slot_number("a.example")
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert "FRONTIER_SLOT" in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://a.b.example.co.uk/1", "example.co.uk"),
        ("http://WWW.Example.com/1", "example.com"),
        ("http://127.0.0.1:80/", "127.0.0.1"),
        ("http://[::1]/", "::1"),
        ("http://localhost/", "localhost"),
        ("http://co.uk/", "co.uk"),
    ],
)
def test_domains_are_those_that_can_be_registered(url, name):
    pytest.importorskip("tldextract")
    assert slots(FRONTIER_SLOT="domain").number(Request(url)) == slot_number(name)


def test_domain_of_a_request_that_was_downloaded_stays():
    pytest.importorskip("tldextract")
    made = slots(FRONTIER_SLOT="domain")
    # As Scrapy's downloader leaves it.
    again = Request("http://www.example.com", meta={"download_slot": "www.example.com"})
    assert made.number(again) == slot_number("example.com")


def test_domains_without_their_library_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tldextract", None)
    with pytest.raises(exceptions.ConfigurationError, match="pip install"):
        slots(FRONTIER_SLOT="domain")


def test_a_new_request_has_score_and_slot():
    order = Order(queue.PriorityQueue.score, slots())
    request = Request("http://a.example/1", priority=3)
    new = order.new(request, b"x", "f", 2)
    assert (new.payload, new.fingerprint, new.start) == (b"x", "f", 2)
    assert (new.score, new.slot) == (-3, slot_number("a.example"))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("a.example", {"url": "http://a.example/x"}),
        ("example", {"url": "http://a.example/x"}),
        (
            "mine\x1b",
            {"url": "http://a.example/", "meta": {"download_slot": "mine\x1b"}},
        ),
        ("", {"url": "data:,x"}),
    ],
)
def test_name_of_a_slot_is_told_by_a_request_of_it(name, fields):
    for slots in (Slots(host_of), Slots(None), Slots(lambda request: "another")):
        assert slots.name_in(slot_number(name), fields) == name


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": 1},
        {"url": "no url"},
        {"url": "http://other.example/"},
        {"url": "http://[::1/"},
        {"url": "http://" + "a." * 5000},
        {"url": "http://x/", "meta": 7},
    ],
)
def test_no_name_is_told_of_a_slot_that_a_request_is_not_of(fields):
    for slot in (slot_number("a.example"), 0, 1.5, float("inf")):
        assert Slots(host_of).name_in(slot, fields) is None


def test_a_rule_that_fails_tells_no_name():
    def fails(request):
        raise ZeroDivisionError

    number = slot_number("mine")
    assert Slots(fails).name_in(number, {"url": "http://a.example/"}) is None
    assert Slots(lambda r: "mine").name_in(number, {"url": "http://a/"}) == "mine"


@pytest.mark.parametrize(
    ("url", "before", "slot", "stays"),
    [
        ("http://b/", ["http://a/"], "a", False),
        ("http://c/", ["http://a/", "http://b/"], "b", False),
        ("http://c/", ["http://a/", "http://b/"], "a", True),
        ("http://a/2", ["http://a/"], "a", True),
        ("http://b/", ["http://a/"], "mine", True),
        ("http://b/", [], "a", True),
        ("http://b/", ["http://[a/"], "a", True),
        ("http://b/", "http://a/", "a", True),
        ("http://b/", [7], "a", True),
        ("http://b/", ["http://a/"], 7, True),
    ],
)
def test_redirect_to_another_host_does_not_inherit_its_slot(url, before, slot, stays):
    meta = {"redirect_urls": before, "download_slot": slot}
    request = Request(url, meta=meta)
    drop_inherited_slot(request)
    assert request.meta.get("download_slot") == (slot if stays else None)
