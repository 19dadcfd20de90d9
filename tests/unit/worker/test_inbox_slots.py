"""What waits in a worker, by slot: whose turn it is, and of what there is enough."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from scrapy import Request

from scrapy_dist.core.frontier import Lease
from scrapy_dist.core.slots import slot_number
from scrapy_dist.worker.view import Downloads
from tests.support.engine import FakeEngine, make_queues

FLAT = "scrapy_dist.queue.PriorityQueue"


class Crawl:
    """A worker's queues and the downloader; a request is named "host/path"."""

    def __init__(self, **settings: object) -> None:
        self.engine = FakeEngine()
        codec = SimpleNamespace(
            decode=lambda payload: Request(f"http://{payload.decode()}"), shown=bytes
        )
        self.queues = make_queues(self.engine, codec, **settings)
        self.count = 0

    def leases(self, *names: str) -> None:
        leases = []
        for name in names:
            self.count += 1
            slot = slot_number(name.partition("/")[0])
            leases.append(Lease(str(self.count), name.encode(), slot=slot))
        assert self.queues.accept(leases)

    def next(self) -> str | None:
        """Hand one out, and let the downloader have it."""
        found = self.queues.next()
        if found is None:
            return None
        request, _ = found
        self.engine.requests.add(request)
        self.engine.downloads.add(request)
        return request.url.removeprefix("http://")

    def all(self) -> list[str]:
        return list(iter(self.next, None))

    def ends(self, name: str) -> None:
        """A download is over, and its page with it."""
        request = self.request(name)
        self.engine.downloads.discard(request)
        self.engine.requests.discard(request)

    def request(self, name: str) -> Request:
        [request] = [r for r in self.engine.downloads if r.url == f"http://{name}"]
        return request

    def slot(
        self,
        host: str,
        *,
        since: float,
        transferring: int,
        rests: float | None = None,
    ) -> None:
        engine = self.engine
        self.engine.slots[host] = Downloads(
            engine.places, engine.delay, engine.jitter, transferring, since, rests
        )

    def look_again(self) -> None:
        """Forget how long slots rest, as if it were over."""
        for line in self.queues.lines:
            line.rests_until = 0.0
        self.queues.stock._at = 0.0


@pytest.fixture
def crawl() -> Crawl:
    return Crawl()


def test_the_slot_with_the_fewest_downloads_is_next(crawl):
    crawl.leases("a/1", "a/2", "a/3", "b/1", "b/2", "c/1")
    assert crawl.all() == ["a/1", "b/1", "c/1", "a/2", "b/2", "a/3"]
    crawl.leases("a/4", "b/3", "c/2")
    assert crawl.next() == "c/2"
    crawl.ends("a/1"), crawl.ends("a/2"), crawl.ends("a/3")
    assert crawl.all() == ["a/4", "b/3"]


def test_equal_slots_take_turns(crawl):
    crawl.leases(*[f"{host}/{n}" for host in "abc" for n in range(3)])
    order = []
    for _ in range(9):
        name = crawl.next()
        order.append(name)
        crawl.ends(name)
    assert order == [f"{host}/{n}" for n in range(3) for host in "abc"]


def test_flat_is_in_the_order_of_its_leases():
    crawl = Crawl(SCHEDULER_QUEUE_CLASS=FLAT)
    crawl.engine.delay = 60.0
    names = ["a/1", "a/2", "b/1", "a/3", *[f"a/{n}" for n in range(4, 40)]]
    crawl.leases(*names)
    assert crawl.all() == names
    assert crawl.engine.alarms == []
    assert crawl.queues.enough() == []


def test_a_slot_gets_what_its_places_take(crawl):
    crawl.leases(*[f"a/{n}" for n in range(20)])
    assert len(crawl.all()) == crawl.engine.places
    crawl.leases("b/1")
    assert crawl.next() == "b/1"
    crawl.ends("a/0")
    assert crawl.next() == f"a/{crawl.engine.places}"
    assert crawl.next() is None


def test_one_more_waits_in_the_downloader_when_all_places_are_taken(crawl):
    """Several that begin in one turn of the loop would be more than the places."""
    places = crawl.engine.places
    crawl.leases(*[f"a/{n}" for n in range(20)])
    assert len(crawl.all()) == places
    crawl.slot("a", since=0.0, transferring=places - 1)
    assert crawl.next() is None
    crawl.slot("a", since=0.0, transferring=places)
    assert crawl.all() == [f"a/{places}"]


def test_what_others_download_counts(crawl):
    crawl.leases("a/1", "b/1")
    crawl.engine.downloads.add(Request("http://a/robots.txt"))
    assert crawl.next() == "b/1"


def test_it_counts_where_it_is_downloaded(crawl):
    crawl.leases("a/1", "b/1")
    crawl.engine.downloads.add(Request("http://c/", meta={"download_slot": "a"}))
    assert crawl.next() == "b/1"


def test_a_slot_with_a_delay_gets_one_at_a_time_and_the_others_go_on(crawl):
    crawl.engine.delay = 60.0
    crawl.leases("a/1", "a/2", "b/1", "b/2", "c/1")
    assert crawl.all() == ["a/1", "b/1", "c/1"]
    [after] = crawl.engine.alarms
    assert 0 < after <= 60
    # It has started; the next one may go when the delay is over, or almost.
    crawl.slot("a", since=10.0, transferring=1)
    crawl.slot("b", since=59.99, transferring=1)
    for line in crawl.queues.lines:
        line.rests_until = 0.0
    assert crawl.all() == ["b/2"]
    [line] = crawl.queues.lines
    assert 48 < line.rests_until - time.monotonic() < 50


def has_many_slots(crawl: Crawl) -> None:
    """More than places of the downloader, each has started one, and another one waits."""
    crawl.engine.delay, crawl.engine.jitter = 60.0, 0.5
    for n in range(20):
        crawl.slot(f"h{n}", since=40.0, transferring=0, rests=20.0)
    crawl.leases(*[f"h{n}/1" for n in range(20)])


def test_no_place_is_kept_for_a_delay_that_is_drawn_where_slots_are_many(crawl):
    has_many_slots(crawl)
    assert crawl.all() == []
    rests = [line.rests_until - time.monotonic() for line in crawl.queues.lines]
    assert all(19 < each <= 20 for each in rests)
    # The downloader has looked again, and drawn a longer one.
    crawl.slot("h3", since=60.0, transferring=0, rests=10.0)
    crawl.slot("h4", since=60.0, transferring=0, rests=0.0)
    crawl.look_again()
    assert crawl.all() == ["h4/1"]
    # It is to start, and not to wait for one more.
    assert crawl.engine.ended == ["h4"]


def test_a_delay_that_has_grown_is_not_over(crawl):
    has_many_slots(crawl)
    crawl.slot("h4", since=29.0, transferring=0, rests=0.0)
    assert crawl.all() == []
    assert crawl.engine.ended == []


def test_a_place_may_be_kept_where_slots_are_few(crawl):
    crawl.engine.delay, crawl.engine.jitter = 60.0, 0.5
    crawl.slot("a", since=29.0, transferring=0, rests=20.0)
    crawl.slot("b", since=29.99, transferring=0, rests=20.0)
    crawl.leases("a/1", "b/1")
    assert crawl.all() == ["b/1"]
    assert crawl.engine.ended == []


def test_a_downloader_that_does_not_tell_how_long_it_rests_has_it_before(crawl):
    has_many_slots(crawl)
    crawl.slot("h4", since=40.0, transferring=0)
    assert crawl.all() == ["h4/1"]
    assert crawl.engine.ended == []


def test_what_starts_later_does_not_fill_places_that_are_free(crawl):
    has_many_slots(crawl)
    queues = crawl.queues
    queues.view.pause, queues.view.round_trip = 0.03, 0.001
    assert crawl.all() == []
    assert queues.wanted() == queues._options.concurrency
    for n in range(20):
        crawl.slot(f"h{n}", since=40.0, transferring=0, rests=0.01)
    crawl.look_again()
    assert crawl.all() == []
    assert queues.wanted() == queues._options.concurrency
    for n in range(20):
        crawl.slot(f"h{n}", since=40.0, transferring=0, rests=0.0)
    crawl.look_again()
    assert queues.wanted() == 0


def test_where_redis_has_no_other_slots_no_more_is_leased_than_they_lack(crawl):
    has_many_slots(crawl)
    queues = crawl.queues
    queues.view.pause, queues.view.round_trip = 0.03, 0.001
    crawl.slot("h4", since=40.0, transferring=0, rests=0.01)
    crawl.slot("h5", since=40.0, transferring=0, rests=0.01)
    assert crawl.all() == []
    assert queues.wanted() > 10
    crawl.leases("h6/2")
    assert crawl.all() == []
    assert queues.wanted() == 3  # one of h4, one of h5, one of a slot that is new
    crawl.leases("new/1")
    assert queues.wanted() > 10
    assert crawl.next() == "new/1"
    queues.nothing_came()
    queues.stock._at = 0.0
    assert queues.wanted() == 3
    # Nobody knows what slots without a delay could use.
    crawl.engine.slots["c"] = Downloads(8, 0.0, 0.0, 0, 1e9)
    crawl.leases("c/1")
    queues.nothing_came()
    queues.stock._at = 0.0
    crawl.all()
    crawl.leases("c/2")
    queues.nothing_came()
    assert queues.wanted() > 10


def test_an_alarm_is_set_once_for_the_slot_that_is_first(crawl):
    crawl.engine.delay = 60.0
    crawl.leases("a/1", "a/2")
    crawl.slot("a", since=30.0, transferring=1)
    assert crawl.all() == []
    assert crawl.all() == []
    assert len(crawl.engine.alarms) == 1
    crawl.leases("b/1")
    crawl.slot("b", since=50.0, transferring=1)
    assert crawl.all() == []
    assert len(crawl.engine.alarms) == 2
    assert crawl.engine.alarms[1] < crawl.engine.alarms[0]


def test_places_hold_beside_a_delay(crawl):
    crawl.engine.places, crawl.engine.delay = 1, 1.0
    crawl.leases("a/1", "a/2")
    assert crawl.next() == "a/1"
    crawl.slot("a", since=100.0, transferring=1)
    for line in crawl.queues.lines:
        line.rests_until = 0.0
    assert crawl.next() is None
    crawl.slot("a", since=100.0, transferring=0)
    crawl.ends("a/1")
    assert crawl.next() == "a/2"


def test_pinned_requests_take_part(crawl):
    crawl.leases("a/1", "a/2", "b/1")
    for url in ("http://a/own", "http://c/own"):
        crawl.queues.pinned.keep(Request(url), (), "")
    # Of one slot, what stays here goes first among equal priorities.
    assert crawl.all() == ["a/own", "b/1", "c/own", "a/1", "a/2"]


def test_pinned_request_of_lower_priority_waits_in_its_slot(crawl):
    crawl.leases("a/1")
    crawl.queues.pinned.keep(Request("http://a/own", priority=-1), (), "")
    assert crawl.all() == ["a/1", "a/own"]


def test_what_waits_for_its_slot_is_not_in_hand(crawl):
    crawl.engine.delay = 60.0
    queues = crawl.queues
    queues.view.pause, queues.view.round_trip = 0.03, 0.001
    wanted = queues.wanted()
    crawl.leases(*[f"a/{n}" for n in range(5)])
    assert crawl.next() == "a/0"
    queues.collect()
    assert crawl.next() is None
    assert queues.wanted() >= wanted - 1
    assert queues.enough() == [slot_number("a")]
    # It is in hand as soon as it may start.
    crawl.slot("a", since=60.0, transferring=0)
    crawl.ends("a/0")
    queues.stock._at = 0.0
    assert queues.wanted() == wanted - 1
    assert queues.stock.held_back == 3


def test_a_slow_host_that_is_full_is_not_in_hand(crawl):
    crawl.leases(*[f"a/{n}" for n in range(30)])
    assert len(crawl.all()) == crawl.engine.places
    assert crawl.queues.wanted() > 0
    assert crawl.queues.enough() == [slot_number("a")]


def test_what_is_held_for_slots_is_bounded(crawl):
    crawl.engine.delay = 60.0
    queues = crawl.queues
    for n in range(40):
        crawl.engine.slots[f"h{n}"] = Downloads(8, 60.0, 0.0, 1, 1.0)
    crawl.leases(*[f"h{n}/{k}" for k in range(10) for n in range(40)])
    assert crawl.next() is None
    assert queues.wanted() == 0


def test_leases_that_are_lost_leave_their_lines(crawl):
    crawl.leases("a/1", "a/2", "b/1")
    crawl.queues.lost(["1", "3"])
    assert len(crawl.queues) == 1
    assert crawl.all() == ["a/2"]
    assert list(crawl.queues.lines) == []


def test_all_is_given_back(crawl):
    crawl.leases("a/1", "a/2", "b/1")
    assert crawl.next() == "a/1"
    crawl.queues.give_back()
    assert sorted(crawl.queues.outbox.releases) == ["2", "3"]
    assert len(crawl.queues) == 0
    assert crawl.next() is None


def test_a_look_at_many_slots_that_rest_is_cheap(crawl):
    crawl.engine.delay = 60.0
    crawl.leases(*[f"h{n}/1" for n in range(200)])
    assert len(crawl.all()) == 200
    crawl.leases(*[f"h{n}/2" for n in range(200)])
    assert crawl.next() is None
    looked: list[str] = []
    state = crawl.engine.download_state
    crawl.engine.download_state = lambda key, first: (
        looked.append(key) or state(key, first)
    )
    begin = time.monotonic()
    assert crawl.next() is None
    if time.monotonic() - begin < 10:
        assert looked == []


def test_what_came_without_a_slot_goes_where_it_belongs(crawl):
    names = ["a/1", "a/2", "b/1", "a/3", "c/1"]
    leases = [Lease(name, name.encode(), slot=0) for name in names]
    assert crawl.queues.accept(leases)
    assert crawl.all() == ["a/1", "b/1", "c/1", "a/2", "a/3"]
    assert len(crawl.queues) == 0


def test_what_was_moved_is_given_back_as_it_was(crawl):
    leases = [Lease(name, name.encode(), slot=0) for name in ("a/1", "b/1", "c/1")]
    assert crawl.queues.accept(leases)
    assert crawl.queues.next()[1] is True
    crawl.queues.lost(["b/1"])
    assert len(crawl.queues) == 1
    crawl.queues.give_back()
    assert crawl.queues.outbox.releases == ["c/1"]
