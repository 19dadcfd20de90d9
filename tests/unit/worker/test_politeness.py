"""Which slots a worker of a polite crawl has, and when it may start something there."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from scrapy import Request

from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import Answer, Ask, Lease
from scrapy_dist.core.politeness import Grant, Granted, Renewal, Rules, Visit, Yield
from scrapy_dist.core.politeness_settings import PolitenessOptions
from scrapy_dist.core.slots import Slots, host_of, slot_number
from scrapy_dist.worker.politeness import Politeness
from scrapy_dist.worker.view import Downloads
from tests.support.engine import FakeEngine, make_queues

A, B = slot_number("a"), slot_number("b")
TTL, DELAY = 10.0, 2.0


class Crawl:
    """One worker; *now* is the time. It beats at the start."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        rules: Rules,
        *,
        is_gated: bool = True,
        **options: object,
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        self.engine = FakeEngine()
        #: Requests of each slot that wait in this worker.
        self.lines: dict[int, int] = {}
        self.rules = rules
        self.polite = Politeness(
            self.engine,
            PolitenessOptions(rules, **{"turn": 5.0, **options}),
            Slots(host_of),
            ttl=TTL,
            is_gated=is_gated,
        )
        self.polite.waiting = lambda number: self.lines.get(number, 0)
        self.polite.waiting_slots = self.lines.keys
        self.changes = self.unused = 0
        self.polite.changed = self._changed
        self.polite.unused = self._unused
        self.polite.beaten(self.now)

    def _changed(self) -> None:
        self.changes += 1

    def _unused(self) -> None:
        self.unused += 1

    # Exchanges

    def ask(self, want: int = 10) -> Ask:
        return Ask(leases=want, **self.polite.ask(self.now, want=want))

    def told(
        self, ask: Ask, *grants: Grant, visits: Iterable[Visit] = (), **granted: object
    ) -> None:
        answer = Answer(visits=list(visits))
        if ask.leases:
            answer.granted = Granted(grants, **granted)
        self.polite.answered(ask, answer, self.now)

    def grant(self, *numbers: int, rules: Rules | None = None, leases: int = 1) -> None:
        self.told(
            self.ask(), *(Grant(str(n), rules or self.rules, leases) for n in numbers)
        )

    # Requests

    def hand(self, url: str = "http://a/") -> Request:
        """Hand one out; it is in the downloader's middlewares then."""
        request = Request(url)
        self.polite.handed(slot_number(host_of(request)), request, self.now)
        return self.comes(request)

    def comes(self, request: Request) -> Request:
        self.engine.requests.add(request)
        self.engine.downloads.add(request)
        return request

    def starts(self, request: Request) -> bool:
        """Start it if it may: the gate, and the downloader behind it."""
        if self.polite.may_start(request, self.now) != 0.0:
            return False
        self.polite.start(request, self.now)
        self.polite.reached(request, self.now)
        self.polite.sent(request, self.now)
        return True

    def ends(self, request: Request) -> None:
        self.engine.downloads.discard(request)
        self.engine.requests.discard(request)
        self.polite.look()

    def is_connected(self, host: str) -> None:
        """A download of *host* was started not long ago."""
        self.engine.slots[host] = Downloads(3, DELAY, 0.0, 0, 10.0)

    def opens_in(self, number: int = A) -> float:
        return max(0.0, self.polite.opens_at(number, self.now) - self.now)


@pytest.fixture
def crawl(monkeypatch):
    return Crawl(monkeypatch, Rules(DELAY, 3))


@pytest.fixture
def places(monkeypatch):
    """A crawl without a delay, of three places."""
    return Crawl(monkeypatch, Rules(0.0, 3))


@pytest.fixture
def gateless(monkeypatch):
    return Crawl(monkeypatch, Rules(DELAY, 3), is_gated=False)


def renewal(number: int, most: int = 1, places: int = 3) -> Renewal:
    return Renewal(str(number), most, places)


def test_starts_of_a_slot_are_a_delay_apart(crawl):
    crawl.grant(A)
    first = crawl.hand()
    assert crawl.starts(first)
    second = crawl.hand()
    assert not crawl.starts(second)
    crawl.now += DELAY - 0.001
    assert not crawl.starts(second)
    crawl.now += 0.001
    assert crawl.starts(second)


def test_next_one_is_handed_out_just_before_its_time_and_alone(crawl):
    crawl.grant(A)
    assert crawl.opens_in() == 0
    request = crawl.hand()
    assert crawl.opens_in() == math.inf
    crawl.starts(request)
    assert DELAY - 0.05 < crawl.opens_in() < DELAY


def test_delay_counts_from_when_the_request_has_left(crawl):
    crawl.grant(A)
    request = crawl.hand()
    assert crawl.starts(request)
    crawl.now += 0.5  # another callback was at work
    crawl.polite.sent(request, crawl.now)
    assert crawl.polite.may_start(Request("http://a/2"), crawl.now) == DELAY


def test_delay_counts_from_the_end_of_what_is_not_known_to_have_left(crawl):
    """Its response is here in the turn of the loop in which it was sent."""
    crawl.is_connected("a")
    crawl.grant(A)
    request = crawl.hand()
    crawl.polite.start(request, crawl.now)
    crawl.polite.reached(request, crawl.now)
    crawl.now += 0.5
    crawl.ends(request)
    assert crawl.polite.may_start(Request("http://a/2"), crawl.now) == DELAY


def test_download_has_not_ended_before_it_has_reached_the_downloader(places):
    """Before Scrapy 2.14 there are turns of the loop between the gate and there."""
    places.grant(A)
    request = places.hand()
    places.engine.downloads.discard(request)
    places.polite.start(request, places.now)
    places.polite.look()
    assert places.polite.held[A].busy == 1
    places.comes(request)
    places.polite.reached(request, places.now)
    places.ends(request)
    assert places.polite.held[A].busy == 0


def test_jitter_is_that_of_the_downloader(crawl):
    crawl.engine.jitter = 0.5
    gaps = []
    for _ in range(50):
        crawl.grant(A)
        request = crawl.hand()
        assert crawl.starts(request)
        gaps.append(crawl.polite.held[A].next_start - crawl.now)
        crawl.now += 2 * DELAY
        crawl.ends(request)
        crawl.polite.beaten(crawl.now)
    assert 0.5 * DELAY <= min(gaps) < 0.8 * DELAY
    assert 1.2 * DELAY < max(gaps) <= 1.5 * DELAY


def test_slot_with_a_delay_has_no_more_downloads_at_once_than_places(crawl):
    crawl.polite.is_alone = True
    crawl.grant(A)
    requests = []
    for _ in range(3):
        requests.append(crawl.hand())
        assert crawl.starts(requests[-1])
        crawl.now += DELAY
    assert crawl.opens_in() == math.inf
    late = crawl.comes(Request("http://a/robots.txt"))
    assert not crawl.starts(late)
    crawl.ends(requests[0])
    assert crawl.opens_in() == 0
    assert crawl.starts(late)


def test_seats_share_the_places_of_a_slot(places):
    places.told(places.ask(), Grant(str(A), Rules(0, 1), 1))
    one = places.hand()
    assert places.starts(one)
    assert places.opens_in() == math.inf
    places.told(places.ask(), Grant(f"{A}.2", Rules(0, 2), 1))
    assert places.opens_in() == 0
    more = [places.hand(), places.hand()]
    assert [places.starts(each) for each in more] == [True, True]
    assert places.opens_in() == math.inf
    places.ends(one)
    assert places.opens_in() == 0


def test_nothing_starts_when_redis_may_count_the_worker_as_dead(crawl):
    crawl.grant(A, B)
    request = crawl.hand()
    crawl.now += 0.99 * TTL
    assert crawl.polite.may_start(request, crawl.now) == 0
    crawl.now += 0.001
    assert not crawl.starts(request)
    assert crawl.opens_in(B) == math.inf
    changes, woken = crawl.changes, crawl.engine.woken
    crawl.polite.beaten(crawl.now - 1)
    assert (crawl.changes, crawl.engine.woken) == (changes + 1, woken + 1)
    assert crawl.starts(request)


def test_beat_counts_from_when_it_was_sent_and_an_old_one_changes_nothing(crawl):
    crawl.polite.beaten(crawl.now - TTL)
    assert not crawl.polite.is_fenced(crawl.now + 0.98 * TTL)
    assert crawl.polite.is_fenced(crawl.now + 1.0 * TTL)


def test_delay_behind_the_first_start_counts_from_its_end(crawl):
    """It makes the connection: it may come to the site as late as that."""
    crawl.grant(A)
    crawl.lines[A] = 5
    first = crawl.hand()
    assert crawl.starts(first)
    crawl.now += 0.5
    crawl.ends(first)
    assert crawl.polite.held[A].next_start == crawl.now + DELAY
    crawl.now += DELAY
    crawl.is_connected("a")
    second = crawl.hand()
    assert crawl.starts(second)
    crawl.now += 0.5
    crawl.ends(second)
    assert crawl.polite.held[A].next_start == crawl.now + DELAY - 0.5


def test_first_start_that_takes_longer_than_the_delay_holds_nothing_up(crawl):
    crawl.grant(A)
    crawl.lines[A] = 5
    first = crawl.hand()
    assert crawl.starts(first)
    crawl.now += DELAY
    crawl.is_connected("a")
    second = crawl.hand()
    assert crawl.starts(second)
    crawl.ends(first)
    assert crawl.polite.held[A].next_start == crawl.now + DELAY


# Getting seats and giving them back


def test_slot_is_kept_while_it_brings_requests_and_given_back_with_what_it_rests(crawl):
    crawl.is_connected("a")
    crawl.grant(A)
    assert crawl.ask().manners.renewals == [renewal(A)]
    request = crawl.hand()
    assert crawl.starts(request)
    crawl.now += 0.5
    crawl.ends(request)
    ask = crawl.ask()
    assert (ask.yields, ask.manners.renewals) == ([], [renewal(A)])
    crawl.told(ask, Grant(str(A), Rules(DELAY, 3), 0))
    ask = crawl.ask()
    assert ask.manners.renewals == []
    assert ask.yields == [Yield(str(A), DELAY - 0.5)]
    assert A not in crawl.polite.held
    crawl.told(ask)
    assert crawl.ask().yields == []


def test_as_many_are_wanted_as_come_with_slots_for_all_places(monkeypatch):
    crawl = Crawl(monkeypatch, Rules(0.25, 3))
    codec = PayloadCodec(crawl.engine.spider)
    queues = make_queues(crawl.engine, codec, politeness=crawl.polite)
    assert queues.wanted() == 16 * 3
    crawl.grant(A)
    queues.accept(
        [
            Lease(str(n), codec.encode(Request(f"http://a/{n}")), slot=A)
            for n in range(3)
        ]
    )
    crawl.comes(queues.next()[0])
    assert queues.next() is None
    # Those that wait for the delay take no place, and there is a bound for them.
    assert queues.wanted() == 16 * 3
    monkeypatch.setattr(type(queues.prefetch), "most_held", 30)
    assert queues.wanted() == 28


def test_slot_in_use_is_not_given_back(crawl):
    crawl.grant(A)
    crawl.told(crawl.ask(), Grant(str(A), Rules(DELAY, 3), 0))
    request = crawl.hand()
    assert crawl.ask().yields == []
    assert crawl.starts(request)
    assert crawl.ask().yields == []
    crawl.ends(request)
    crawl.lines[A] = 1
    assert crawl.ask().yields == []
    crawl.lines[A] = 0
    assert [seat.name for seat in crawl.ask().yields] == [str(A)]


def test_worker_that_wants_nothing_gives_back_what_it_does_not_use(crawl):
    crawl.grant(A, B)
    crawl.lines[B] = 1
    ask = crawl.ask(want=0)
    assert [seat.name for seat in ask.yields] == [str(A)]
    assert ask.manners.renewals == []


def test_grants_are_for_the_starts_of_half_a_second(monkeypatch):
    for delay, most in ((2.0, 1), (0.25, 3), (0.01, 16)):
        crawl = Crawl(monkeypatch, Rules(delay, 8))
        crawl.grant(A)
        assert crawl.ask().manners.renewals == [renewal(A, most, 8)]
        crawl.lines[A] = most
        assert crawl.ask().manners.renewals == []


def test_renewal_tells_how_many_downloads_may_be_under_way(crawl):
    """What this worker goes by, or has, if that is more: the delay is no more then."""
    crawl.grant(A)
    for _ in range(2):
        assert crawl.starts(crawl.hand())
        crawl.now += DELAY
    assert crawl.ask().manners.renewals == [renewal(A, 1, 3)]
    crawl.grant(A, rules=Rules(0.0, 1))
    assert crawl.ask().manners.renewals == [renewal(A, 1, 2)]
    crawl.ends(next(iter(crawl.polite.held[A].active)))
    assert crawl.ask().manners.renewals == [renewal(A, 1, 1)]


def test_slot_that_a_visitor_waits_for_is_not_renewed(crawl):
    crawl.grant(A, B)
    crawl.lines |= {A: 0, B: 0}
    crawl.told(crawl.ask(), wanted=[str(A)])
    crawl.polite.held[B].in_vain = False
    ask = crawl.ask()
    assert ask.manners.renewals == [renewal(B)]
    assert [seat.name for seat in ask.yields] == [str(A)]


def test_slot_is_kept_for_a_turn_if_others_wait(crawl):
    crawl.grant(A)
    crawl.lines[A] = 0
    request = crawl.hand()
    crawl.starts(request)
    crawl.told(crawl.ask(), Grant(str(A), Rules(DELAY, 3), 1), ready=1)
    crawl.now += 4.9
    assert crawl.ask().manners.renewals == [renewal(A)]
    crawl.now += 0.2
    assert crawl.ask().manners.renewals == []
    crawl.told(crawl.ask(), Grant(str(A), Rules(DELAY, 3), 1), ready=0)
    assert crawl.ask().manners.renewals == [renewal(A)]


def test_seat_that_is_not_this_workers_any_more_is_lost_but_not_its_rest(crawl):
    crawl.grant(A)
    request = crawl.hand()
    assert crawl.starts(request)
    crawl.told(crawl.ask(), taken=[str(A)])
    assert crawl.polite.may_start(Request("http://a/2"), crawl.now) is None
    crawl.grant(A)
    assert crawl.polite.may_start(Request("http://a/2"), crawl.now) == DELAY


def test_answer_that_was_lost_is_found_again_by_comparing(crawl):
    crawl.grant(A)
    lost = crawl.ask()
    assert lost.manners.renewals
    crawl.polite.is_unsure = True
    crawl.polite.compare({str(A), str(B)})
    assert not crawl.polite.is_unsure
    assert A in crawl.polite.held
    ask = crawl.ask()
    # What it has started there before it was given back may be as young as can be.
    assert ask.yields == [Yield(str(B), DELAY)]
    crawl.told(ask)
    crawl.polite.compare(())
    assert not crawl.polite.held


def test_seat_is_given_back_until_redis_has_heard_of_it(crawl):
    crawl.grant(A)
    ask = crawl.ask(want=0)
    assert ask.yields
    assert crawl.ask(want=0).yields == ask.yields  # the first one was lost
    crawl.polite.compare({str(A)})
    assert [seat.name for seat in crawl.ask(want=0).yields] == [str(A)]
    crawl.polite.compare(())
    assert crawl.ask(want=0).yields == []


def test_worker_that_redis_has_forgotten_has_nothing_but_its_delays(crawl):
    crawl.grant(A)
    request = crawl.hand()
    assert crawl.starts(request)
    crawl.polite.forget()
    assert crawl.polite.is_unsure
    assert not crawl.polite.held
    assert crawl.polite.may_start(Request("http://a/2"), crawl.now) is None
    crawl.polite.compare(())
    crawl.now += 0.5
    crawl.grant(A)
    assert crawl.polite.may_start(Request("http://a/2"), crawl.now) == DELAY - 0.5


def test_what_has_rested_is_forgotten(crawl):
    for n in range(1, 50):
        crawl.grant(n)
        crawl.polite.held[n].next_start = crawl.now + DELAY
    crawl.polite.forget()
    assert len(crawl.polite._rests) == 49
    crawl.now += DELAY
    crawl.ask()
    assert not crawl.polite._rests


def test_at_most_a_hundred_seats_are_named_in_one_exchange(crawl):
    crawl.grant(*range(1, 251))
    ask = crawl.ask()
    assert len(ask.manners.renewals) == len(ask.yields) == 100
    crawl.told(ask, *(Grant(name, crawl.rules, 1) for name, *_ in ask.manners.renewals))
    assert len(crawl.ask().yields) == 50


# Downloads


def test_answer_of_a_cache_costs_no_delay(crawl):
    crawl.grant(A)
    request = crawl.hand()
    assert crawl.opens_in() == math.inf
    crawl.engine.downloads.discard(request)
    crawl.engine.scraping.add(request)
    crawl.polite.look()
    assert crawl.opens_in() == 0


def test_request_that_is_given_up_before_it_starts_frees_its_slot(crawl):
    crawl.grant(A)
    request = crawl.hand()
    crawl.polite.look()
    crawl.ends(request)  # robots.txt forbids it
    assert crawl.opens_in() == 0
    assert not crawl.polite._where
    assert not crawl.polite._arrived


def test_request_that_is_on_its_way_to_the_downloader_is_waited_for(crawl):
    crawl.grant(A)
    request = Request("http://a/")
    crawl.polite.handed(A, request, crawl.now)
    crawl.engine.requests.add(request)
    crawl.polite.look()
    assert crawl.opens_in() == math.inf


def test_request_may_turn_to_another_slot_on_its_way(crawl):
    crawl.grant(A, B)
    request = crawl.hand("http://a/")
    request.meta["download_slot"] = "b"
    assert crawl.starts(request)
    assert crawl.opens_in(A) == 0
    assert crawl.opens_in(B) > DELAY / 2


def test_end_of_the_last_download_of_a_slot_is_told(crawl):
    crawl.grant(A)
    first = crawl.hand()
    crawl.starts(first)
    crawl.lines[A] = 1
    crawl.ends(first)
    assert crawl.unused == 0
    crawl.now += DELAY
    second = crawl.hand()
    crawl.lines[A] = 0
    crawl.starts(second)
    crawl.ends(second)
    assert crawl.unused == 1


def test_delay_of_autothrottle_goes_with_the_slot(monkeypatch):
    crawl = Crawl(monkeypatch, Rules(DELAY, 3), learns=True)
    crawl.grant(A, rules=Rules(7.0, 3))
    request = crawl.hand()
    assert crawl.starts(request)
    assert crawl.engine.delays == {"a": 7.0}
    crawl.engine.slots["a"] = Downloads(3, 4.0, 0.0, 1, 0.0)
    crawl.ends(request)
    assert crawl.polite.held[A].delay == 4.0
    # Redis has the old one until the slot is given back.
    crawl.told(crawl.ask(), Grant(str(A), Rules(7.0, 3), 0))
    [seat] = crawl.ask().yields
    assert seat == Yield(str(A), 7.0, Rules(4.0, 0))


def test_delay_that_nobody_learns_is_that_of_redis(crawl):
    crawl.grant(A)
    request = crawl.hand()
    crawl.starts(request)
    crawl.engine.slots["a"] = Downloads(3, 4.0, 0.0, 1, 0.0)
    crawl.ends(request)
    assert (crawl.engine.delays, crawl.polite.held[A].learned) == ({}, None)
    crawl.grant(A, rules=Rules(9.0, 3))
    assert crawl.polite.held[A].delay == 9.0


def test_several_hosts_may_be_one_slot(monkeypatch):
    crawl = Crawl(monkeypatch, Rules(DELAY, 3))
    crawl.polite._slots = Slots(lambda request: "all")
    number = slot_number("all")
    crawl.grant(number)
    requests = [Request(f"http://{name}/") for name in "abc"]
    for request in requests:
        crawl.comes(request)
    assert [crawl.starts(request) for request in requests] == [True, False, False]
    crawl.now += DELAY
    assert crawl.starts(requests[1])


# Visits


def test_slot_that_the_worker_has_not_is_for_one_request_at_a_time_to_ask_for(crawl):
    assert crawl.opens_in(B) == 0
    request = crawl.hand("http://b/")
    assert crawl.opens_in(B) == math.inf
    crawl.ends(request)
    assert crawl.opens_in(B) == 0


def test_visit_brings_the_slot_and_it_is_given_back_when_nobody_needs_it(crawl):
    request = crawl.comes(Request("http://b/robots.txt"))
    assert crawl.polite.may_start(request, crawl.now) is None
    crawl.polite.wishes.add(B)
    assert crawl.polite.wishes.next_look(crawl.now) == 0
    ask = crawl.ask(want=0)
    assert ask.visits == [B]
    crawl.told(ask, visits=[Visit(True, 0.0, Rules(DELAY, 3))])
    assert crawl.polite.wishes.next_look(crawl.now) is None
    assert crawl.ask(want=0).yields == []
    assert crawl.starts(request)
    crawl.polite.wishes.add(B, -1)
    crawl.ends(request)
    assert crawl.ask(want=0).yields == [Yield(str(B), DELAY)]


def test_slot_of_another_worker_is_asked_for_again_but_less_and_less_often(crawl):
    crawl.polite.wishes.add(B)
    waits = []
    for _ in range(6):
        ask = crawl.ask(want=0)
        assert ask.visits == [B]
        crawl.told(ask, visits=[Visit(False)])
        assert crawl.ask(want=0).visits == []
        waits.append(round(crawl.polite.wishes.next_look(crawl.now), 3))
        crawl.now += waits[-1] + 0.001
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


def test_slot_that_rests_is_asked_for_when_it_has_rested(crawl):
    crawl.polite.wishes.add(B)
    for wait, until in ((0.3, 0.3), (5.0, 1.0)):
        crawl.told(crawl.ask(want=0), visits=[Visit(False, wait)])
        assert crawl.polite.wishes.next_look(crawl.now) == pytest.approx(until)
        crawl.now += until + 0.001


def test_nothing_is_asked_for_when_nobody_waits_any_more(crawl):
    crawl.polite.wishes.add(B)
    crawl.polite.wishes.add(B)
    crawl.polite.wishes.add(B, -1)
    ask = crawl.ask(want=0)
    assert ask.visits == [B]
    crawl.polite.wishes.add(B, -1)
    crawl.told(ask, visits=[Visit(False)])
    assert crawl.polite.wishes.next_look(crawl.now) is None
    assert not crawl.polite.wishes


def test_slot_that_is_only_visited_is_given_back_after_a_turn(crawl):
    crawl.polite.wishes.add(B)
    crawl.told(crawl.ask(want=0), visits=[Visit(True, 0.0, Rules(DELAY, 3))])
    crawl.polite.wishes.add(B, 5)  # images, say
    first, second = (crawl.comes(Request(f"http://b/{n}")) for n in range(2))
    assert crawl.starts(first)
    crawl.now += 5.1
    crawl.polite.beaten(crawl.now)
    assert not crawl.starts(second)
    assert crawl.ask(want=0).yields == []
    crawl.ends(first)
    ask = crawl.ask(want=0)
    assert (ask.yields, ask.visits) == ([Yield(str(B), 0.0)], [B])
    crawl.told(ask, visits=[Visit(True, 0.0, Rules(DELAY, 3))])
    assert crawl.starts(second)


def test_slot_is_visited_for_longer_if_nobody_else_is_there(crawl):
    crawl.polite.is_alone = True
    crawl.polite.wishes.add(B)
    crawl.told(crawl.ask(want=0), visits=[Visit(True, 0.0, Rules(DELAY, 3))])
    crawl.now += 6
    crawl.polite.beaten(crawl.now)
    assert crawl.ask(want=0).yields == []
    assert crawl.starts(crawl.comes(Request("http://b/")))


def test_slot_that_is_not_used_is_given_back_by_who_waits_for_another(crawl):
    """Its owner may be waiting for this one: neither would ever go on."""
    crawl.grant(A)
    crawl.lines[A] = 2
    crawl.now += 1
    assert crawl.ask(want=0).yields == []
    crawl.polite.wishes.add(B)  # files, say, which take all places of this worker
    ask = crawl.ask(want=0)
    assert (ask.yields, ask.visits) == ([Yield(str(A), 0.0)], [B])
    crawl.told(ask, visits=[Visit(False)])
    # What waits here of it goes to the gate when there is a place, and asks for it.
    assert crawl.opens_in(A) == 0


def test_slot_that_rests_or_is_in_use_is_kept_meanwhile(crawl):
    crawl.is_connected("a")
    crawl.grant(A)
    crawl.lines[A] = 2
    crawl.polite.wishes.add(B)
    assert crawl.ask(want=0).yields == []  # it has come just now
    request = crawl.hand()
    crawl.now += 1
    assert crawl.ask(want=0).yields == []
    assert crawl.starts(request)
    crawl.ends(request)
    crawl.now += DELAY + 0.1
    assert crawl.ask(want=0).yields == []
    crawl.now += 0.2
    assert crawl.ask().yields == [Yield(str(A), 0.0)]


@pytest.mark.parametrize("is_alone", [True, False])
def test_slot_that_is_waited_for_or_of_a_single_worker_is_kept(crawl, is_alone):
    crawl.polite.is_alone = is_alone
    crawl.grant(A)
    crawl.lines[A] = 2
    crawl.polite.wishes.add(B)
    if not is_alone:
        crawl.polite.wishes.add(A)
    crawl.now += 1
    assert crawl.ask(want=0).yields == []


# Without the gate


def test_without_the_gate_what_is_handed_out_waits_for_its_slot(gateless):
    assert gateless.opens_in() == math.inf
    gateless.grant(A)
    assert gateless.opens_in() == 0
    request = gateless.hand()
    assert gateless.opens_in() == math.inf
    gateless.now += 0.1  # in the middlewares
    gateless.polite.reached(request, gateless.now)
    assert gateless.engine.started == [request]
    assert gateless.opens_in() == DELAY
    gateless.now += 0.1
    gateless.polite.sent(request, gateless.now)
    assert gateless.opens_in() == DELAY
    assert gateless.engine.started == [request]


def test_without_the_gate_other_requests_of_a_slot_count(gateless):
    gateless.grant(A)
    robots = gateless.comes(Request("http://a/robots.txt"))
    gateless.polite.reached(robots, gateless.now)
    assert gateless.opens_in() == DELAY
    gateless.polite.reached(gateless.comes(Request("http://b/")), gateless.now)
    assert B not in gateless.polite.held


def test_without_the_gate_the_downloader_spaces_what_was_not_handed_out(gateless):
    gateless.grant(A)
    first = gateless.hand()
    gateless.polite.reached(first, gateless.now)
    for _ in range(2):
        gateless.polite.reached(gateless.comes(Request("http://a/")), gateless.now)
    assert gateless.engine.started == [first]
    gateless.lines[A] = 1
    assert gateless.opens_in() == math.inf  # all places are taken
    for request in list(gateless.engine.downloads):
        gateless.ends(request)
    assert gateless.opens_in() == pytest.approx(3 * DELAY)


def test_without_the_gate_the_downloader_spaces_what_has_got_another_slot(gateless):
    gateless.grant(A)
    request = gateless.hand()
    request.meta["download_slot"] = "b"
    gateless.polite.reached(request, gateless.now)
    assert gateless.engine.started == []
    assert gateless.opens_in() == 0


def test_delay_that_a_project_raises_in_the_downloader_is_kept(crawl):
    crawl.grant(A)
    crawl.is_connected("a")
    crawl.engine.slots["a"] = crawl.engine.slots["a"]._replace(delay=3 * DELAY)
    assert crawl.starts(crawl.hand())
    crawl.now += 3 * DELAY - 0.001
    assert not crawl.starts(crawl.hand())


def test_delay_that_a_project_gives_a_slot_without_one_is_the_downloaders(places):
    places.grant(A, rules=Rules(0.0, 3))
    first = places.hand()
    assert places.starts(first)
    places.is_connected("a")
    assert places.starts(places.hand())
    assert places.engine.started == [first]


def test_without_the_gate_slots_of_what_stays_in_the_worker_are_asked_for(gateless):
    gateless.lines |= {B: 1, 0: 1}
    ask = gateless.ask(want=0)
    assert ask.visits == [B]
    gateless.told(ask, visits=[Visit(False)])
    assert 0 < gateless.polite.wishes.next_look(gateless.now) < 0.1
    gateless.now += 0.1
    woken = gateless.engine.woken
    ask = gateless.ask(want=0)
    gateless.told(ask, visits=[Visit(True, 0.0, Rules(DELAY, 3))])
    assert gateless.engine.woken == woken + 1
    assert gateless.opens_in(B) == 0
    gateless.hand("http://b/")
    del gateless.lines[B]
    gateless.ask(want=0)
    assert not gateless.polite.wishes


# When to ask


def test_worker_that_was_given_nothing_asks_when_a_slot_opens(monkeypatch):
    crawl = Crawl(monkeypatch, Rules(0.0, 3))
    assert crawl.polite.next_opening(crawl.now) is None
    crawl.told(crawl.ask(), wait=0.3)
    assert crawl.polite.next_opening(crawl.now) == pytest.approx(0.3)
    crawl.now += 0.31
    assert crawl.polite.next_opening(crawl.now) is None
    crawl.told(crawl.ask(), wait=60.0)
    assert crawl.polite.next_opening(crawl.now) < 1
    crawl.told(crawl.ask(), wait=None)
    assert crawl.polite.next_opening(crawl.now) is None
    # Some may be asked at once: not by this worker, which has had its part.
    crawl.told(crawl.ask(), Grant(str(A), Rules(DELAY, 3), 1), wait=0.0, ready=3)
    assert crawl.polite.next_opening(crawl.now) is None
    assert crawl.polite.wishes.next_look(crawl.now) is None


def test_worker_that_waits_for_others_asks_some_times_in_a_delay(monkeypatch):
    for delay, pause in ((0.01, 0.05), (0.3, 0.1), (10.0, 0.5)):
        crawl = Crawl(monkeypatch, Rules(delay, 3))
        crawl.told(crawl.ask(), wait=None)
        assert crawl.polite.next_opening(crawl.now) == pytest.approx(pause)
