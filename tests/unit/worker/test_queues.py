"""The buffers of one worker: what becomes of seeds and of requests that stay here."""

from __future__ import annotations

import logging
import time
from dataclasses import astuple
from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgpack
import pytest
from scrapy import Request, Spider

from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import End, Lease, NewRequest, Reject
from scrapy_dist.exceptions import BadPayload
from scrapy_dist.worker.intake import Intake
from scrapy_dist.worker.seeds import SEED_MARK, SeedLease
from tests.support.engine import FakeEngine, make_queues

if TYPE_CHECKING:
    from scrapy_dist.worker.leases import HeldLease
    from scrapy_dist.worker.queues import Queues

URL = "http://a.invalid/"


@pytest.fixture
def queues():
    queues = make_queues(
        FakeEngine(), SimpleNamespace(shown=bytes), FRONTIER_SEED_MAX_SIZE=500
    )
    queues.seeds.most = 100
    queues.view.pause, queues.view.alone = 0.05, True
    return queues


def read_with(queues: Queues, codec: PayloadCodec) -> None:
    queues._codec = queues.inbox._codec = codec


def begin(queues: Queues) -> list[SeedLease]:
    """All seeds that wait; the spider begins with them."""
    return list(iter(lambda: queues.seeds.take(lambda call, *args: call(*args)), None))


def taken(queues: Queues) -> list[HeldLease]:
    return [seed._record for seed in begin(queues)]


def intake(queues: Queues) -> Intake:
    return Intake(
        queues._engine,
        queues._codec,
        queues,
        None,
        order=queues._order,
        seen=None,
        name="",
    )


def leased(*names: str) -> list[Lease]:
    return [Lease(n, URL.encode(), is_seed=True) for n in names]


def sow(queues: Queues, *names: str) -> list[Request]:
    """One kept request for each seed, as ``RedisMixin.next_requests`` makes them."""
    assert queues.accept(leased(*names), seeds=True)
    requests = []
    for seed in begin(queues):
        made = Request(seed.data.decode() + seed._record.id)
        for request in seed.requests([made]):
            assert queues.keep_only(request, request.meta[SEED_MARK])
        requests.append(made)
    return requests


def hand_out(queues: Queues) -> Request:
    found = queues.next()
    assert found is not None
    request, from_redis = found
    assert not from_redis
    queues._engine.requests.add(request)
    return request


def finish(queues: Queues, request: Request) -> None:
    queues._engine.requests.discard(request)
    queues.collect()


def settled(queues: Queues) -> list[tuple[str, str, bool]]:
    """Order id, end and counts of all pages in the outbox."""
    pages = [page for n in queues.outbox.take(100) for page in n.commit.settlements]
    return [(page.lease, page.end, page.counts) for page in pages]


def test_seed_is_acknowledged_as_a_page_when_its_only_request_is_finished(queues):
    [request] = sow(queues, "1")
    assert len(queues) == 1
    assert hand_out(queues) is request
    queues.collect()
    assert settled(queues) == []
    assert set(queues.leases.records) == {"1"}

    finish(queues, request)
    assert settled(queues) == [("1", End.ACK, True)]


def test_requests_of_seeds_are_handed_out_by_priority_and_else_in_their_order(queues):
    queues.accept(leased(*"12345"), seeds=True)
    priorities = dict(zip("12345", (0, 5, 0, -1, 5), strict=True))
    for record in taken(queues):
        record.single = True
        request = Request(URL + record.id, priority=priorities[record.id])
        assert queues.keep_only(request, record.id)
    assert [hand_out(queues).url[-1] for _ in range(5)] == list("25134")


def test_seed_of_several_requests_is_acknowledged_with_them_and_is_no_page(queues):
    queues.accept(leased("1"), seeds=True)
    [record] = taken(queues)
    for n in range(2):
        assert not queues.keep_only(Request(f"{URL}{n}"), "1")
        origin = queues.seeds.origin("1")
        assert origin == (record,)
        queues.outputs.add_request(NewRequest(b"x", 0.0), Request(f"{URL}{n}"), origin)
    assert settled(queues) == []
    queues.seeds.done(record)
    assert settled(queues) == [("1", End.ACK, False)]
    [numbered] = queues.outbox.take(100)
    assert len(numbered.commit.settlements[0].requests) == 2


@pytest.mark.parametrize("single", [False, True])
def test_seed_whose_requests_never_come_ends_when_they_are_all_made(queues, single):
    queues.accept(leased("1"), seeds=True)
    [record] = taken(queues)
    record.single = single
    assert settled(queues) == []
    queues.seeds.done(record)
    assert settled(queues) == [("1", End.EMPTY, False)]
    # One that comes later goes its own way, and belongs to nothing.
    assert not queues.keep_only(Request(URL), "1")
    assert queues.seeds.origin("1") == ()


def test_two_copies_of_the_only_request_are_both_waited_for(queues):
    queues.accept(leased("1"), seeds=True)
    [record] = taken(queues)
    record.single = True
    requests = [Request(f"{URL}{n}") for n in range(2)]
    assert all(queues.keep_only(request, "1") for request in requests)
    queues.seeds.done(record)
    for request in requests:
        assert hand_out(queues) is request
    finish(queues, requests[0])
    assert settled(queues) == []
    finish(queues, requests[1])
    assert settled(queues) == [("1", End.ACK, True)]


def test_closing_worker_gives_back_what_was_not_started(queues):
    [first, *_] = sow(queues, "1", "2")
    queues.accept(leased("3", "4"), seeds=True)
    record = queues.seeds.take(
        None
    )._record  # the spider is making several requests of it
    queues.outputs.add_request(NewRequest(b"x", 0.0), Request(URL), (record,))
    assert hand_out(queues) is first
    finish(queues, first)

    queues.give_back()
    queues.seeds.done(record)
    assert sorted(queues.outbox.releases) == ["2", "3", "4"]
    assert settled(queues) == [("1", End.ACK, True)]
    [numbered] = queues.outbox.take(100)
    assert numbered.requests == []


def test_seed_whose_lease_is_gone_is_not_crawled_here(queues):
    _, second, _ = sow(queues, "1", "2", "3")
    queues.lost(["1", "3"])
    assert len(queues) == 1
    assert hand_out(queues) is second
    finish(queues, second)
    assert settled(queues) == [("2", End.ACK, True)]
    assert queues.outbox.releases == []


def test_rollback_gives_back_seeds_that_are_not_started_and_taints_the_rest(queues):
    [first, *_] = sow(queues, "1", "2", "3")
    assert hand_out(queues) is first
    assert sorted(queues.rolled_back()) == ["2", "3"]
    assert queues.next() is None
    finish(queues, first)
    assert queues.outbox.releases == ["1"]
    assert settled(queues) == []


def test_rollback_leaves_what_belongs_to_no_lease_or_to_one_at_work(queues):
    [page] = sow(queues, "1")
    assert hand_out(queues) is page
    own, child = Request(f"{URL}own"), Request(f"{URL}child")
    queues.pinned.keep(own, (), "")
    queues.pinned.keep(child, queues.leases.handed[page], "")
    assert queues.rolled_back() == []
    assert hand_out(queues) is own  # the child will be made again
    assert queues.next() is None
    finish(queues, page)
    assert queues.outbox.releases == ["1"]


@pytest.mark.parametrize(
    ("pending", "suspects", "alive", "most", "wanted"),
    [
        (0, 0, 1, 100, 16),
        (0, 0, 1, 5, 5),
        (0, 0, 1, 0, 0),
        (10, 0, 1, 100, 6),
        (16, 0, 1, 100, 0),
        (500, 0, 1, 100, 0),
        (16, 0, 4, 100, 12),
        (20, 20, 1, 100, 16),  # nobody waits for suspects
    ],
)
def test_seeds_fill_the_places_that_pending_requests_leave(
    queues, pending, suspects, alive, most, wanted
):
    queues.seeds.most = most
    queues.view.pending = pending
    queues.view.suspects = suspects
    queues.view.alive = alive
    assert queues.seeds_wanted() == wanted


def test_no_more_seeds_are_taken_than_there_are_free_places(queues):
    queues.accept(leased(*(str(n) for n in range(8))), seeds=True)
    assert queues.seeds_wanted() == 8  # the spider has not read those yet
    for record in taken(queues):
        record.single = True
        assert queues.keep_only(Request(URL + record.id), record.id)
        queues.seeds.done(record)
    assert queues.seeds_wanted() == 8
    for _ in range(8):
        hand_out(queues)
    ahead = queues.wanted() - 8
    assert 0 < ahead <= 32
    assert queues.seeds_wanted() == 8 + ahead


@pytest.mark.parametrize(("handed", "wanted"), [(0, 16), (16, 0), (32, 0), (40, 0)])
def test_what_waits_for_the_spider_is_not_leased_without_end(queues, handed, wanted):
    """With nothing handed out lately there is no look-ahead: only free places count."""
    queues.leases.handed = dict.fromkeys(range(handed))
    assert queues.wanted() == wanted


def test_worker_is_low_while_two_round_trips_of_requests_are_left(queues):
    """A busy loop starts 16 downloads in one turn and reads the reply in the next."""
    queues.prefetch.rate.value = lambda: 100.0
    queues.view.round_trip = 0.04
    names = [str(n) for n in range(9)]
    queues.accept(leased(*names), seeds=True)
    assert not queues.is_low
    queues.seeds.take(None)
    assert queues.is_low


def unreadable(queues: Queues, *names: str) -> None:
    """Requests named 'bad…' cannot be read."""

    def decode(payload: bytes) -> Request:
        if payload.startswith(b"bad"):
            raise BadPayload("gone", cause="callback")
        return Request(URL + payload.decode())

    queues._codec.decode = decode
    assert queues.accept([Lease(name, name.encode()) for name in names])


def test_unreadable_request_is_set_aside_when_nothing_else_comes(queues):
    unreadable(queues, "bad1", "good", "bad2")
    request, _ = queues.next()
    assert request.url == f"{URL}good"
    queues._engine.requests.add(request)
    assert queues.next() is None
    queues.nothing_came()
    assert queues.outbox.rejects == []  # the page at work may lead to more
    finish(queues, request)
    queues.nothing_came()
    assert [each.lease for each in queues.outbox.rejects] == ["bad1", "bad2"]
    assert queues.is_empty()


def test_paused_worker_does_not_judge(queues):
    queues.view.paused = True
    unreadable(queues, "bad1")
    assert queues.next() is None
    queues.nothing_came()
    assert queues.outbox.rejects == []
    assert not queues.is_empty()


def test_worker_that_reads_nothing_but_rubbish_closes_and_gives_all_back(queues):
    names = [f"bad{n}" for n in range(30)]
    unreadable(queues, *names)
    assert queues.next() is None
    assert queues._engine.asked_to_close == ["error: unreadable"]
    assert queues.wanted() == queues.seeds_wanted() == 0
    unreadable(queues, "good")
    assert queues.next() is None
    queues.give_back()
    assert sorted(queues.outbox.releases) == sorted([*names, "good"])
    assert queues.outbox.rejects == []
    assert queues._engine.asked_to_close == ["error: unreadable"]


def test_seed_among_the_requests_of_a_spider_that_reads_none_cannot_be_read(queues):
    queues.seeds.most = 0
    assert queues.accept(leased("1"))
    assert queues.next() is None
    queues.nothing_came()
    assert [each.lease for each in queues.outbox.rejects] == ["1"]


def test_unreadable_request_whose_lease_is_gone_is_forgotten(queues):
    unreadable(queues, "bad1", "bad2")
    assert queues.next() is None
    queues.lost(["bad1"])
    queues.nothing_came()
    assert [each.lease for each in queues.outbox.rejects] == ["bad2"]


def test_worker_that_waits_for_claims_is_not_empty(queues):
    """Also while they are under way: they may lead to a request."""
    queues.pinned.keep(Request(URL), (), "fp")
    assert not queues.is_empty()
    assert len(queues.pinned.take_claims()) == 1
    assert not queues.is_empty()
    queues.pinned.claimed([False])
    assert queues.is_empty()


@pytest.mark.parametrize("fingerprint", ["", "fp"])
@pytest.mark.parametrize(("lost", "stays"), [(["1"], True), (["1", "2"], False)])
def test_pinned_request_of_two_pages_goes_only_with_both(
    queues, fingerprint, lost, stays
):
    assert queues.accept([Lease(n, b"") for n in "12"])
    queues.pinned.keep(Request(URL), tuple(queues.leases.records.values()), fingerprint)
    queues.lost(lost)
    assert (queues.pinned.is_claiming or len(queues) > 0) is stays


def test_what_is_set_aside_does_not_flood_the_log(queues, caplog):
    for n in range(200):
        [record] = [queues.leases.open(lease) for lease in leased(str(n))]
        queues.seeds.reject(record, f"reason {n}")
    queues.give_back()
    assert [r.getMessage().split(" aside")[0] for r in caplog.records] == [
        "Set a seed",
        "Set 199 more",
    ]


def test_seeds_that_nobody_waits_for_take_no_place_and_go_back(queues, monkeypatch):
    queues.accept(leased("a", "b"), seeds=True)
    assert queues.wanted() == 14
    queues.seeds.awaited = lambda: False
    assert queues.wanted() == 16
    assert queues.seeds_wanted() == 0
    queues.collect()
    assert len(queues.seeds) == 2  # it is alone
    queues.view.alive = 2
    queues.collect()
    assert not queues.seeds
    assert queues.outbox.releases == ["a", "b"]
    # The others come first.
    assert queues.wanted() == 0
    later = time.monotonic() + 1
    monkeypatch.setattr("time.monotonic", lambda: later)
    assert queues.wanted() == 16


def test_seed_whose_requests_are_not_taken_goes_back_and_the_second_time_aside(queues):
    for time_, (releases, rejects) in enumerate([(["a"], 0), (["a"], 1)]):
        queues.accept(leased("a"), seeds=True)
        [record] = taken(queues)
        record.single = True
        queues.seeds.broken_off(record, 0)
        assert queues.outbox.releases == releases
        assert len(queues.outbox.rejects) == rejects, time_
        queues.leases.close(["a"])


def test_seed_whose_reader_is_broken_off_behind_it_is_not_affected(queues):
    queues.accept(leased("a", "b"), seeds=True)
    one, several = taken(queues)
    one.single = True
    assert queues.keep_only(Request(URL), one.id)
    queues.seeds.broken_off(one, 0)
    queues.seeds.broken_off(several, 0)  # the last of its requests was taken
    assert queues.outbox.releases == []
    assert [r.settled for r in (one, several)] == [False, True]


@pytest.mark.parametrize("in_callback", [False, True])
def test_retry_of_a_seed_stays_under_its_lease(queues, in_callback):
    sow(queues, "a")
    request = hand_out(queues)
    queues._engine.requests = {request}
    active = {request} if in_callback else set()
    queues._engine.scraping = active
    retry = request.copy()
    retry.meta["retry_times"] = 1
    assert intake(queues)._replaced(retry) == (request, True)


@pytest.mark.parametrize("again", ["on the way back", "in the callback", "no retry"])
def test_page_that_is_tried_again_under_another_lease_does_not_count(queues, again):
    queues._codec.decode = lambda payload: Request(URL, meta={"retry_times": 1})
    queues.accept([Lease("a", b"a")])
    request, _ = queues.next()
    queues._engine.requests = {request}
    in_callback = {request} if again == "in the callback" else set()
    queues._engine.scraping = in_callback
    retry = request.copy()
    if again != "no retry":
        retry.meta["retry_times"] = 2
    other = None if again == "no retry" else request
    assert intake(queues)._replaced(retry) == (other, False)
    if other is not None:
        intake(queues)._goes_again(other)
    finish(queues, request)
    [(_, _, counts)] = settled(queues)
    assert counts == (again == "no retry")


def test_retry_that_stays_counts_as_the_page_of_its_lease(queues):
    queues._codec.decode = lambda payload: Request(URL)
    queues.accept([Lease("a", b"a")])
    request, _ = queues.next()
    queues._engine.requests = {request}
    queues._engine.scraping = set()
    retry = request.replace(meta={"retry_times": 1})
    records = queues.leases.handed[request]
    intake(queues)._goes_again(request)
    queues.pinned.keep(retry, records, "")
    finish(queues, request)
    assert settled(queues) == []
    finish(queues, hand_out(queues))
    assert [counts for _, _, counts in settled(queues)] == [True]


def test_login_comes_first_but_one_without_an_end_starves_nobody(
    queues, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "scrapy_dist")
    now = 1000.0
    monkeypatch.setattr("scrapy_dist.worker.pinned.time.monotonic", lambda: now)
    monkeypatch.setattr(queues.prefetch, "in_hand", lambda *_: 16)
    assert queues.wanted() == 16
    queues.pinned.keep(Request(URL), (), "")
    assert queues.wanted() == queues.seeds_wanted() == 0
    form = hand_out(queues)
    now += 170
    assert queues.wanted() == 0
    queues.pinned.keep(Request(URL + "step"), (), "")  # the next step of the same login
    finish(queues, form)
    now += 20
    assert queues.pinned.is_busy
    assert [queues.wanted(), queues.wanted()] == [15, 15]
    assert caplog.text.count("kept it busy for 3 min") == 1
    finish(queues, hand_out(queues))
    assert queues.wanted() == 16
    queues.pinned.keep(Request(URL), (), "")
    assert queues.wanted() == 0  # another one


def suspects(queues: Queues, *names: str, alone: bool = False) -> None:
    leases = [Lease(name, name.encode(), True, alone) for name in names]
    queues._codec.decode = lambda payload: Request(URL + payload.decode())
    assert queues.accept(leases)


def test_eight_suspects_are_in_hand_at_the_most(queues):
    assert queues.leases.suspects_wanted == 8
    suspects(queues, *"abcdef")
    assert queues.leases.suspects_wanted == 2
    queues.leases.close(["a", "b", "c"])
    assert queues.leases.suspects_wanted == 5
    assert queues.leases.suspects


def test_nothing_is_leased_beside_a_suspect_that_is_alone(queues):
    suspects(queues, "a", alone=True)
    request, _ = queues.next()
    assert queues.wanted() == queues.seeds_wanted() == 0
    queues._engine.requests.add(request)
    finish(queues, request)
    assert queues.wanted() == 0  # Redis does not know yet that it is over
    queues.leases.close(["a"])
    assert queues.wanted() >= 16


def test_no_seed_is_taken_while_the_hand_is_emptied(queues):
    assert queues.seeds_wanted() == 16
    queues.view.to_be_alone = True
    assert queues.seeds_wanted() == 0


def test_suspect_that_cannot_be_read_is_no_danger(queues):
    unreadable(queues, "good")
    assert queues.accept([Lease("bad", b"bad", True, True)])
    assert queues.wanted() == 0
    assert queues.next()
    assert queues.next() is None
    assert queues.wanted() > 0
    assert queues.leases.suspects_wanted == 8
    queues.leases.close(["bad"])
    assert queues.leases.suspects_wanted == 8


def planted(queues: Queues, urls: list[str], **fields: object) -> list[Request]:
    """The requests that are handed out of what somebody wrote to Redis."""
    read_with(queues, PayloadCodec(Spider("s")))
    payloads = [b"\x01" + msgpack.packb({"url": url, **fields}) for url in urls]
    leases = [Lease(f"{n:016x}", data) for n, data in enumerate(payloads)]
    queues.accept(leases)
    found = []
    while handed := queues.next():
        found.append(handed[0])
    return found


def test_a_setting_that_is_missing_sets_no_request_aside(queues):
    assert planted(queues, [f"ftp://host.invalid/{n}" for n in range(30)]) == []

    assert queues._engine.asked_to_close == ["error: unreadable"]
    assert queues.outbox.rejects == []


def test_hostile_requests_are_no_reason_to_close(queues):
    meta = {"ftp_local_filename": "/tmp/x"}

    assert planted(queues, [URL + str(n) for n in range(30)], meta=meta) == []

    assert queues._engine.asked_to_close == []
    assert len(queues.outbox.rejects) == 30
    assert not queues.inbox._doubts.counting


def test_one_file_among_pages_is_set_aside(queues):
    urls = ["file:///etc/passwd", *(URL + str(n) for n in range(20))]
    found = planted(queues, urls)

    assert [request.url for request in found] == urls[1:]
    assert queues._engine.asked_to_close == []
    [(id_, kind, reason)] = map(astuple, queues.outbox.rejects)
    assert (id_, kind) == (f"{0:016x}", "request")
    assert "its scheme 'file' is not allowed" in reason


def test_what_is_too_large_is_set_aside_by_its_length(queues):
    large = Lease("a", b"", is_seed=True, too_large=900)
    assert queues.accept([large], seeds=True)
    assert queues.accept([Lease("b", b"", suspect=True, is_seed=True, too_large=901)])
    assert queues.outbox.rejects == [
        Reject(
            "a", "seed", "the seed has 900 bytes; FRONTIER_SEED_MAX_SIZE allows 500"
        ),
        Reject(
            "b", "seed", "the seed has 901 bytes; FRONTIER_SEED_MAX_SIZE allows 500"
        ),
    ]
    assert not queues.seeds


def test_a_request_that_is_too_large_is_held_until_the_reason_is_clear(queues):
    read_with(queues, PayloadCodec(Spider("s"), max_size=100))
    assert queues.accept([Lease("a", b"\x01", too_large=900)])
    assert queues.outbox.rejects == []
    queues.nothing_came()
    [(id_, kind, reason)] = map(astuple, queues.outbox.rejects)
    assert (id_, kind) == ("a", "request")
    assert reason == "the payload has 900 bytes; FRONTIER_MAX_PAYLOAD allows 100"


def test_what_waits_here_is_bounded_in_bytes(queues):
    assert queues.wanted() > 3
    payload = b"\x01" + b"x" * (1 << 20)
    for n in range(8):
        assert queues.wanted() > 0
        queues.accept([Lease(str(n), payload)])
    assert queues.wanted() == 0
    queues.inbox.drop({"0"})
    assert queues.wanted() > 0
    queues.inbox.close()
    assert queues.wanted() > 3


def test_large_requests_are_under_way_some_at_a_time(queues):
    read_with(queues, PayloadCodec(Spider("s"), max_size=4 << 20))
    body = b"x" * (3 << 20)
    payload = queues._codec.encode(Request(URL, method="POST", body=body))
    small = queues._codec.encode(Request(URL))
    for n, each in enumerate([payload] * 3 + [small]):
        queues.accept([Lease(str(n), each)])
    first, second = queues.next()[0], queues.next()[0]
    assert queues.next() is None
    assert len(queues) == 2  # there is something, so that Scrapy asks again
    for request in (first, second):
        records = queues.leases.handed.pop(request)
        queues.outputs.let_go(records)
    assert queues.next()[0].body == body
    assert queues.next()[0].body == b""


def test_the_reason_of_a_dead_letter_can_be_shown(queues):
    [lease] = leased("a")
    queues.accept([lease], seeds=True)
    [seed] = begin(queues)
    seed.reject("it raised: \x1b[2J\n" + "x" * 9000)
    [(_, _, reason)] = map(astuple, queues.outbox.rejects)
    assert reason.startswith("it raised: \\x1b[2J\\nxxx")
    assert len(reason) == 2000
