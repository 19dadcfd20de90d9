"""Pages of a chain that are crawled before Redis has heard of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from scrapy import Request

from scrapy_dist.core.frontier import BATCH, ChainLink, Claim, End, Lease, Settlement
from scrapy_dist.core.slots import slot_number
from scrapy_dist.exceptions import Unserializable
from scrapy_dist.worker import chain
from scrapy_dist.worker.view import Memory
from tests.support.engine import FakeEngine, make_queues

URL = "http://a.invalid/"


def refuse(request: Request) -> bytes:
    raise Unserializable("a lambda")


class Crawl:
    """The queues, and Scrapy and Redis as far as it sees them."""

    def __init__(self, local_fingerprints: int = 100) -> None:
        self.engine = FakeEngine()
        self.in_progress = self.engine.requests
        self.codec = SimpleNamespace()
        self.codec.decode = lambda payload: Request(payload.decode())
        self.codec.encode = lambda request: request.url.encode()
        self.duplicates: list[Request] = []
        self.queues = make_queues(
            self.engine,
            self.codec,
            self.duplicates,
            FRONTIER_LOCAL_FINGERPRINTS=local_fingerprints,
        )
        self.queues.view.pause, self.queues.view.alone = 0.05, True
        self.serial = 0

    def lease(self, *, suspect: bool = False) -> Request:
        """Redis hands out a page, and Scrapy begins with it."""
        self.queues.leases.close(page.lease for page in self.pages())
        self.serial += 1
        name = f"{URL}leased-{self.serial}"
        assert self.queues.accept([Lease(str(self.serial), name.encode(), suspect)])
        return self.begin()

    def begin(self) -> Request:
        found = self.queues.next()
        assert found is not None
        self.in_progress.add(found[0])
        return found[0]

    def finish(self, page: Request) -> None:
        self.in_progress.discard(page)

    def origin(self, page: Request):
        return self.queues.leases.handed[page]

    def leads_to(self, page: Request, name: str) -> bool:
        """*page* yields a link; whether it is crawled at once."""
        assert self.queues.recent.add(name)
        return self.queues.go_ahead(Request(URL + name), name, self.origin(page))

    def link(self, page: Request, name: str) -> Request:
        """*page* ends with a link, and Scrapy begins with that."""
        assert self.leads_to(page, name)
        self.finish(page)
        return self.begin()

    def pages(self) -> list[Settlement]:
        """What went to the outbox."""
        self.queues.collect()
        return [
            page for n in self.queues.outbox.take(100) for page in n.commit.settlements
        ]

    def come_to_a_chain(self) -> Request:
        """The page of the lease that makes it one."""
        for _ in range(2):
            page = self.lease()
            assert not self.leads_to(page, f"too-early-{self.serial}")
            self.finish(page)
            self.queues.collect()
        return self.lease()


@pytest.fixture
def crawl():
    return Crawl()


@pytest.fixture
def page(crawl):
    return crawl.come_to_a_chain()


def test_third_page_that_came_alone_is_followed_at_once(crawl, page):
    one = crawl.link(page, "1")
    two = crawl.link(one, "2")
    assert (one.url, two.url) == (f"{URL}1", f"{URL}2")
    assert len(crawl.pages()) == 2  # its lease is in use
    crawl.finish(two)
    *_, done = crawl.pages()
    assert done == Settlement(
        "3", [], [], End.ACK, chain=[ChainLink("1"), ChainLink("2")]
    )
    assert crawl.duplicates == []


def test_chain_ends_where_pages_come_together(crawl, page):
    crawl.finish(page)
    leases = [Lease(n, f"{URL}{n}".encode()) for n in ("a", "b")]
    assert crawl.queues.accept(leases)
    first = crawl.begin()
    assert not crawl.leads_to(first, "1")


def test_page_beside_others_is_no_chain(crawl, page):
    crawl.lease()
    assert not crawl.leads_to(page, "1")


def test_hops_that_are_finished_take_no_place(crawl, page):
    """Else the worker would not ask for the next page when a leg is over."""
    crawl.queues.recent._limit = 1000
    for n in range(BATCH // 2):
        page = crawl.link(page, str(n))
    assert not crawl.leads_to(page, "last")
    assert crawl.queues.wanted() >= 15


def test_hops_of_another_lease_have_to_be_confirmed_first(crawl, page):
    crawl.queues.recent._limit = 1000
    for n in range(BATCH // 2):
        page = crawl.link(page, str(n))
    crawl.finish(page)
    crawl.pages()
    assert crawl.queues.accept([Lease("next", URL.encode())])
    following = crawl.begin()
    assert not crawl.leads_to(following, "too soon")
    crawl.queues.leases.close(["3"])
    assert crawl.leads_to(following, "confirmed")


def test_page_before_that_has_not_ended_yet_is_no_hindrance(crawl, page):
    """The pipelines may take longer than the exchange with what the page leads to."""
    crawl.finish(page)
    crawl.pages()
    assert crawl.queues.accept([Lease("next", URL.encode())])
    assert crawl.leads_to(crawl.begin(), "1")


def test_only_the_first_link_of_a_page_is_followed_at_once(crawl, page):
    assert crawl.leads_to(page, "1")
    assert not crawl.leads_to(page, "2")
    crawl.begin()
    assert not crawl.leads_to(page, "3")


@pytest.mark.parametrize(
    "change",
    [
        {"alone": False},
        {"pending": 1},
        {"seeds_left": 1},
        {"memory": Memory.FULL},
        {"paused": True},
    ],
    ids=str,
)
def test_worker_asks_redis_where_it_cannot_know(crawl, page, change):
    for name, value in change.items():
        setattr(crawl.queues.view, name, value)
    assert not crawl.leads_to(page, "1")


def test_request_that_is_not_filtered_goes_ahead_too(crawl, page):
    assert crawl.queues.go_ahead(Request(URL), "", crawl.origin(page))


@pytest.mark.parametrize("alone", [False, True])
def test_worker_beside_others_lets_no_time_pass_without_redis(crawl, page, alone):
    crawl.queues.view.alone = alone
    assert (crawl.queues.chain.lead_time() > 0) == alone
    assert crawl.queues.chain.may_have_finished(page) != alone


def test_worker_that_is_closing_starts_nothing(crawl, page):
    crawl.engine.is_closing = True
    assert not crawl.leads_to(page, "1")


def test_page_of_unknown_origin_is_left_to_redis(crawl, page):
    for origin in (None, (), crawl.origin(page) * 2):
        assert not crawl.queues.go_ahead(Request(URL), "1", origin)


def test_suspect_is_alone_with_its_lease(crawl, page):
    crawl.finish(page)
    assert not crawl.leads_to(crawl.lease(suspect=True), "1")


def test_worker_that_has_forgotten_fingerprints_asks_redis():
    crawl = Crawl(local_fingerprints=3)
    page = crawl.come_to_a_chain()
    assert not crawl.leads_to(crawl.link(page, "third"), "fourth")


def test_without_a_memory_of_fingerprints_nothing_is_known():
    crawl = Crawl(local_fingerprints=0)
    assert not crawl.leads_to(crawl.come_to_a_chain(), "1")


def test_hops_under_one_lease_are_limited(crawl, page, monkeypatch):
    monkeypatch.setattr(chain, "_LONGEST", 1000.0)
    crawl.queues.view.round_trip = 100.0
    crawl.queues.recent._limit = 1000
    for n in range(BATCH // 2):
        page = crawl.link(page, str(n))
    assert not crawl.leads_to(page, "last")


def test_what_waits_for_the_end_of_a_chain_is_limited(crawl, page):
    [record] = crawl.origin(page)
    for _ in range(50):
        record.add_item("s:items", b"x")
    page = crawl.link(page, "1")
    record.add_item("s:items", b"x")
    assert not crawl.leads_to(page, "2")

    record.drop_outputs()
    page = crawl.link(page, "3")
    record.add_item("s:items", b"x" * (1 << 21))
    page = crawl.link(page, "4")
    record.add_item("s:items", b"x")
    assert not crawl.leads_to(page, "5")


@pytest.mark.parametrize(
    ("round_trip", "seconds"), [(0.0001, 0.1), (0.01, 0.2), (3.0, 1.0)]
)
def test_time_without_redis_follows_the_distance(
    crawl, page, monkeypatch, round_trip, seconds
):
    crawl.queues.view.round_trip = round_trip
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    one = crawl.link(page, "1")
    now[0] += 0.99 * seconds
    two = crawl.link(one, "2")
    now[0] += 0.02 * seconds
    assert not crawl.leads_to(two, "3")


def test_hop_that_fails_is_a_dead_letter_and_not_its_page(crawl, page):
    one = crawl.link(page, "1")
    crawl.queues.chain.fail(one, "HTTP 404 is not handled")
    crawl.finish(one)
    *_, done = crawl.pages()
    failed = (
        "HTTP 404 is not handled",
        f"{URL}1".encode(),
        True,
        slot_number("a.invalid"),
    )
    link = ChainLink("1", *failed)
    assert (done.end, done.chain) == (End.ACK, [link])


def test_hop_that_cannot_be_stored_fails_with_its_page(crawl, page):
    one = crawl.link(page, "1")
    crawl.codec.encode = refuse
    crawl.queues.chain.fail(one, "it raised")
    crawl.finish(one)
    *_, done = crawl.pages()
    # Whoever retries that letter finds the way again.
    assert (done.reason, done.chain) == ("it raised", [])
    assert crawl.queues.recent.add("1")


def test_redirect_of_a_hop_is_known_without_a_claim_and_is_no_page_more(crawl, page):
    one = crawl.link(page, "1")
    crawl.queues.pinned.keep(Request(f"{URL}moved"), crawl.origin(one), "moved")
    crawl.finish(one)
    there = crawl.begin()
    assert crawl.queues.pinned.take_claims() == []
    crawl.finish(there)
    *_, done = crawl.pages()
    assert done.chain == [ChainLink("1"), ChainLink("moved", is_page=False)]


def test_redirect_of_a_hop_to_what_is_seen_is_a_duplicate(crawl, page):
    one = crawl.link(page, "1")
    crawl.queues.pinned.keep(Request(f"{URL}1"), crawl.origin(one), "1")
    assert [request.url for request in crawl.duplicates] == [f"{URL}1"]
    crawl.finish(one)
    *_, done = crawl.pages()
    assert done.chain == [ChainLink("1")]


def test_claimed_request_is_known_from_then_on(crawl, page):
    crawl.queues.pinned.keep(Request(f"{URL}moved"), crawl.origin(page), "moved")
    assert crawl.queues.pinned.take_claims() == [Claim("moved", ["3"])]
    crawl.queues.pinned.claimed([True])
    assert not crawl.queues.recent.add("moved")


def test_hops_of_a_lease_that_is_lost_are_not_seen(crawl, page):
    """Somebody else has that page now, and its links may come back to this worker."""
    one = crawl.link(page, "1")
    crawl.queues.lost(["3"])
    crawl.finish(one)
    assert len(crawl.pages()) == 2
    assert crawl.queues.recent.add("1")


def test_rollback_ends_it(crawl, page):
    one = crawl.link(page, "1")
    assert crawl.queues.rolled_back() == []
    assert not crawl.leads_to(one, "2")
    assert not crawl.queues.go_ahead(Request(URL), "", crawl.origin(one))
    crawl.queues.pinned.keep(Request(f"{URL}moved"), crawl.origin(one), "moved")
    there = crawl.begin()
    for request in (one, there):
        crawl.finish(request)
    assert len(crawl.pages()) == 2
    assert crawl.queues.outbox.releases == ["3"]
    assert crawl.queues.recent.add("moved")


def test_closing_in_the_middle_leaves_the_next_hop_to_others(crawl, page):
    one = crawl.link(page, "1")
    assert crawl.leads_to(one, "2")
    crawl.finish(one)
    crawl.queues.give_back()
    *_, done = crawl.pages()
    assert (done.lease, done.chain) == ("3", [ChainLink("1")])
    [new] = [new for n in crawl.queues.outbox.take(100) for new in n.commit.requests]
    assert (new.payload, new.fingerprint) == (f"{URL}2".encode(), "2")
    assert crawl.queues.outbox.releases == []


def test_closing_behind_a_hop_that_cannot_be_stored_gives_the_page_back(crawl, page):
    assert crawl.leads_to(page, "1")
    crawl.codec.encode = refuse
    crawl.queues.give_back()
    crawl.finish(page)
    assert len(crawl.pages()) == 2
    assert crawl.queues.outbox.releases == ["3"]


def test_claim_under_way_may_be_of_the_same_request(crawl, page):
    crawl.queues.pinned.keep(Request(f"{URL}1"), crawl.origin(page), "1")
    assert not crawl.leads_to(page, "1")


def test_request_that_is_yielded_again_as_it_is_leaves_its_lease_alone(crawl, page):
    assert not crawl.queues.go_ahead(page, "", crawl.origin(page))
    crawl.queues.pinned.keep(page, crawl.origin(page), "")
    again = crawl.begin()
    assert again is not page
    crawl.finish(page)
    assert len(crawl.pages()) == 2
    crawl.finish(again)
    assert len(crawl.pages()) == 3


@pytest.mark.parametrize("chain", [0, 1])
def test_what_stays_and_leads_in_a_circle_ends(crawl, page, chain):
    for n in range(chain):
        page = crawl.link(page, str(n))
    for name in ("a", "b", "a", "b"):
        crawl.queues.pinned.keep(Request(URL + name), crawl.origin(page), name)
    kept = len(crawl.queues) + len(crawl.queues.pinned.take_claims())
    assert kept == 2
    assert len(crawl.duplicates) == 2


def test_what_stays_behind_a_hop_and_cannot_be_stored_is_no_duplicate(crawl, page):
    one = crawl.link(page, "1")
    assert crawl.queues.recent.add("a lambda")  # by the scheduler, before it knew
    crawl.queues.pinned.keep(Request(URL), crawl.origin(one), "a lambda", is_new=True)
    assert len(crawl.queues) == 1


def test_retry_of_what_stays_fails_as_itself(crawl, page):
    one = crawl.link(page, "1")
    crawl.queues.pinned.keep(Request(f"{URL}again"), crawl.origin(one), "")
    crawl.finish(one)
    again = crawl.begin()
    crawl.queues.chain.fail(again, "why")
    crawl.finish(again)
    *_, done = crawl.pages()
    assert done.end == End.ACK
    assert [(link.reason, link.payload) for link in done.chain] == [
        ("", b""),
        ("why", f"{URL}again".encode()),
    ]


def test_what_one_of_several_pages_has_yielded_is_never_claimed(crawl, page):
    one = crawl.link(page, "1")
    origins = crawl.origin(one) + crawl.origin(crawl.lease())
    crawl.queues.pinned.keep(Request(f"{URL}local"), origins, "local")
    assert crawl.queues.pinned.take_claims() == []
    assert len(crawl.queues) == 1


def test_fingerprints_behind_a_hop_fit_in_one_commit(crawl, page):
    crawl.queues.recent._limit = 1000
    one = crawl.link(page, "1")
    for n in range(2 * BATCH):
        crawl.queues.pinned.keep(
            Request(f"{URL}local-{n}"), crawl.origin(one), f"local-{n}"
        )
    crawl.finish(one)
    while len(crawl.queues):
        crawl.finish(crawl.begin())
    *_, done = crawl.pages()
    assert len(done.chain) == BATCH


@pytest.mark.parametrize("is_chain", [False, True])
def test_flush_waits_for_the_end_of_a_chain_only(crawl, is_chain):
    page = crawl.come_to_a_chain() if is_chain else crawl.lease()
    queues = crawl.queues
    assert queues.chain.may_have_finished(page) != is_chain
    assert queues.chain.may_have_finished(None) != is_chain
    crawl.finish(page)
    assert queues.chain.may_have_finished(None)


def test_end_of_another_page_is_told_while_a_hop_is_under_way(crawl, page):
    one = crawl.link(page, "1")
    assert not crawl.queues.chain.may_have_finished(None)
    other = crawl.lease()
    crawl.finish(other)
    assert crawl.queues.chain.may_have_finished(None)
    crawl.finish(one)
    assert crawl.queues.chain.may_have_finished(None)
