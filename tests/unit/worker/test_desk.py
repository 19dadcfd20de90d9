"""The buffers of one worker: what becomes of seeds and of requests that stay here."""

from __future__ import annotations

import logging
import time
from unittest.mock import MagicMock

import msgpack
import pytest
from scrapy import Request, Spider

from scrapy_dist.brokers.redis.frontier import ACK, BARE_ACK, SEED, Lease, NewRequest
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.exceptions import BadPayload
from scrapy_dist.worker.desk import Desk
from tests.support.engine import FakeEngine

URL = "http://a.invalid/"


@pytest.fixture
def desk():
    desk = Desk(
        FakeEngine(),
        MagicMock(),
        concurrency=16,
        local_fingerprints=100,
        outbox_limit=1000,
        commit_chunk=100,
        report_duplicate=lambda request: None,
        score=lambda request: 0.0,
    )
    desk.most_seeds = 100
    desk.view.pause, desk.view.alone = 0.05, True
    return desk


def leased(*names: str) -> list[Lease]:
    return [Lease(n, suspect=False, payload=SEED + URL.encode()) for n in names]


def sow(desk: Desk, *names: str) -> list[Request]:
    """One kept request for each seed, as ``RedisMixin.next_requests`` makes them."""
    assert desk.accept_seeds(leased(*names))
    requests = []
    for record, seed in desk.take_seeds():
        record.single = True
        requests.append(Request(seed.decode() + record.id))
        assert desk.keep_only(requests[-1], record.id)
        desk.done(record)
    return requests


def hand_out(desk: Desk) -> Request:
    found = desk.next()
    assert found is not None
    request, from_redis = found
    assert not from_redis
    desk._engine.requests.add(request)
    return request


def finish(desk: Desk, request: Request) -> None:
    desk._engine.requests.discard(request)
    desk.collect()


def settled(desk: Desk) -> list[tuple[str, str, bool]]:
    """Order id, verdict and counts of all pages in the outbox."""
    pages = [page for n in desk.outbox.take(100) for page in n.commit.pages]
    return [(page.id, page.verdict, page.counts) for page in pages]


def test_seed_is_acknowledged_as_a_page_when_its_only_request_is_finished(desk):
    [request] = sow(desk, "1")
    assert len(desk) == 1
    assert hand_out(desk) is request
    desk.collect()
    assert settled(desk) == []
    assert desk.held() == {"1"}

    finish(desk, request)
    assert settled(desk) == [("1", ACK, True)]


def test_requests_of_seeds_are_handed_out_by_priority_and_else_in_their_order(desk):
    desk.accept_seeds(leased(*"12345"))
    priorities = dict(zip("12345", (0, 5, 0, -1, 5), strict=True))
    for record, _ in desk.take_seeds():
        record.single = True
        request = Request(URL + record.id, priority=priorities[record.id])
        assert desk.keep_only(request, record.id)
    assert [hand_out(desk).url[-1] for _ in range(5)] == list("25134")


def test_seed_of_several_requests_is_acknowledged_with_them_and_is_no_page(desk):
    desk.accept_seeds(leased("1"))
    [(record, _)] = desk.take_seeds()
    for n in range(2):
        assert not desk.keep_only(Request(f"{URL}{n}"), "1")
        origin = desk.origin(Request(f"{URL}{n}"), "1")
        assert origin == (record,)
        desk.outputs.add_request(NewRequest(b"x", 0.0), Request(f"{URL}{n}"), origin)
    assert settled(desk) == []
    desk.done(record)
    assert settled(desk) == [("1", ACK, False)]
    [numbered] = desk.outbox.take(100)
    assert len(numbered.commit.pages[0].requests) == 2


@pytest.mark.parametrize("single", [False, True])
def test_seed_whose_requests_never_come_ends_when_they_are_all_made(desk, single):
    desk.accept_seeds(leased("1"))
    [(record, _)] = desk.take_seeds()
    record.single = single
    assert settled(desk) == []
    desk.done(record)
    assert settled(desk) == [("1", BARE_ACK, False)]
    # One that comes later goes its own way, and belongs to nothing.
    assert not desk.keep_only(Request(URL), "1")
    assert desk.origin(Request(URL), "1") == ()


def test_two_copies_of_the_only_request_are_both_waited_for(desk):
    desk.accept_seeds(leased("1"))
    [(record, _)] = desk.take_seeds()
    record.single = True
    requests = [Request(f"{URL}{n}") for n in range(2)]
    assert all(desk.keep_only(request, "1") for request in requests)
    desk.done(record)
    for request in requests:
        assert hand_out(desk) is request
    finish(desk, requests[0])
    assert settled(desk) == []
    finish(desk, requests[1])
    assert settled(desk) == [("1", ACK, True)]


def test_closing_worker_gives_back_what_was_not_started(desk):
    [first, *_] = sow(desk, "1", "2")
    desk.accept_seeds(leased("3", "4"))
    seeds = desk.take_seeds()
    record, _ = next(seeds)  # the spider is making several requests of it
    desk.outputs.add_request(NewRequest(b"x", 0.0), Request(URL), (record,))
    assert hand_out(desk) is first
    finish(desk, first)

    desk.give_back()
    desk.done(record)
    assert sorted(desk.outbox.releases) == ["2", "3", "4"]
    assert settled(desk) == [("1", ACK, True)]
    [numbered] = desk.outbox.take(100)
    assert numbered.requests == []


def test_seed_whose_lease_is_gone_is_not_crawled_here(desk):
    _, second, _ = sow(desk, "1", "2", "3")
    desk.lost(["1", "3"])
    assert len(desk) == 1
    assert hand_out(desk) is second
    finish(desk, second)
    assert settled(desk) == [("2", ACK, True)]
    assert desk.outbox.releases == []


def test_rollback_gives_back_seeds_that_are_not_started_and_taints_the_rest(desk):
    [first, *_] = sow(desk, "1", "2", "3")
    assert hand_out(desk) is first
    assert sorted(desk.rolled_back()) == ["2", "3"]
    assert desk.next() is None
    finish(desk, first)
    assert desk.outbox.releases == ["1"]
    assert settled(desk) == []


def test_rollback_leaves_what_belongs_to_no_lease_or_to_one_at_work(desk):
    [page] = sow(desk, "1")
    assert hand_out(desk) is page
    own, child = Request(f"{URL}own"), Request(f"{URL}child")
    desk.keep(own, (), "")
    desk.keep(child, desk.leases.handed[page], "")
    assert desk.rolled_back() == []
    assert hand_out(desk) is own  # the child will be made again
    assert desk.next() is None
    finish(desk, page)
    assert desk.outbox.releases == ["1"]


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
    desk, pending, suspects, alive, most, wanted
):
    desk.most_seeds = most
    desk.view.pending = pending
    desk.view.suspects = suspects
    desk.view.alive = alive
    assert desk.seeds_wanted() == wanted


def test_no_more_seeds_are_taken_than_there_are_free_places(desk):
    desk.accept_seeds(leased(*(str(n) for n in range(10))))
    assert desk.seeds_wanted() == 6  # the spider has not read those yet
    for record, _ in desk.take_seeds():
        record.single = True
        assert desk.keep_only(Request(URL + record.id), record.id)
        desk.done(record)
    assert desk.seeds_wanted() == 6
    for _ in range(10):
        hand_out(desk)
    ahead = desk.wanted() - 6
    assert 0 < ahead <= 32
    assert desk.seeds_wanted() == 6 + ahead


@pytest.mark.parametrize(("handed", "wanted"), [(0, 16), (16, 0), (32, 0), (40, 0)])
def test_what_waits_for_the_spider_is_not_leased_without_end(desk, handed, wanted):
    """With nothing handed out lately there is no look-ahead: only free places count."""
    desk.leases.handed = dict.fromkeys(range(handed))
    assert desk.wanted() == wanted


def test_worker_is_low_while_two_round_trips_of_requests_are_left(desk):
    """A busy loop starts 16 downloads in one turn and reads the reply in the next."""
    desk._prefetch.rate.value = lambda: 100.0
    desk.view.round_trip = 0.04
    names = [str(n) for n in range(9)]
    desk.accept_seeds(leased(*names))
    assert not desk.is_low
    next(desk.take_seeds())
    assert desk.is_low


def unreadable(desk: Desk, *names: str) -> None:
    """Requests named 'bad…' cannot be read."""

    def decode(payload: bytes) -> Request:
        if payload.startswith(b"bad"):
            raise BadPayload("gone", cause="callback")
        return Request(URL + payload.decode())

    desk._codec.decode = decode
    assert desk.accept(
        [Lease(name, suspect=False, payload=name.encode()) for name in names]
    )


def test_unreadable_request_is_set_aside_when_nothing_else_comes(desk):
    unreadable(desk, "bad1", "good", "bad2")
    request, _ = desk.next()
    assert request.url == f"{URL}good"
    desk._engine.requests.add(request)
    assert desk.next() is None
    desk.nothing_came()
    assert desk.outbox.rejects == []  # the page at work may lead to more
    finish(desk, request)
    desk.nothing_came()
    assert [each[0] for each in desk.outbox.rejects] == ["bad1", "bad2"]
    assert desk.is_empty()


def test_paused_worker_does_not_judge(desk):
    desk.view.paused = True
    unreadable(desk, "bad1")
    assert desk.next() is None
    desk.nothing_came()
    assert desk.outbox.rejects == []
    assert not desk.is_empty()


def test_worker_that_reads_nothing_but_rubbish_closes_and_gives_all_back(desk):
    closed = []
    desk.on_unreadable = lambda: closed.append(True)
    names = [f"bad{n}" for n in range(30)]
    unreadable(desk, *names)
    assert desk.next() is None
    assert closed == [True]
    assert desk.wanted() == desk.seeds_wanted() == 0
    unreadable(desk, "good")
    assert desk.next() is None
    desk.give_back()
    assert sorted(desk.outbox.releases) == sorted([*names, "good"])
    assert desk.outbox.rejects == []
    assert closed == [True]


def test_seed_among_the_requests_of_a_spider_that_reads_none_cannot_be_read(desk):
    desk.most_seeds = 0
    assert desk.accept(leased("1"))
    assert desk.next() is None
    desk.nothing_came()
    assert [each[0] for each in desk.outbox.rejects] == ["1"]


def test_unreadable_request_whose_lease_is_gone_is_forgotten(desk):
    unreadable(desk, "bad1", "bad2")
    assert desk.next() is None
    desk.lost(["bad1"])
    desk.nothing_came()
    assert [each[0] for each in desk.outbox.rejects] == ["bad2"]


def test_what_is_set_aside_does_not_flood_the_log(desk, caplog):
    for n in range(200):
        [record] = [desk.leases.open(lease) for lease in leased(str(n))]
        desk.reject(record, f"reason {n}", "seed")
    desk.give_back()
    assert [r.getMessage().split(" aside")[0] for r in caplog.records] == [
        "Set a seed",
        "Set 199 more",
    ]


def test_seeds_that_nobody_waits_for_take_no_place_and_go_back(desk, monkeypatch):
    desk.accept_seeds(leased("a", "b"))
    assert desk.wanted() == 14
    desk.seeds_awaited = lambda: False
    assert desk.wanted() == 16
    assert desk.seeds_wanted() == 0
    desk.collect()
    assert len(desk.seeds) == 2  # it is alone
    desk.view.alive = 2
    desk.collect()
    assert not desk.seeds
    assert desk.outbox.releases == ["a", "b"]
    # The others come first.
    assert desk.wanted() == 0
    later = time.monotonic() + 1
    monkeypatch.setattr("time.monotonic", lambda: later)
    assert desk.wanted() == 16


def test_seed_whose_requests_are_not_taken_goes_back_and_the_second_time_aside(desk):
    for time_, (releases, rejects) in enumerate([(["a"], 0), (["a"], 1)]):
        desk.accept_seeds(leased("a"))
        [(record, _)] = desk.take_seeds()
        record.single = True
        desk.broken_off(record, 0)
        assert desk.outbox.releases == releases
        assert len(desk.outbox.rejects) == rejects, time_
        desk.released(["a"])


def test_seed_whose_reader_is_broken_off_behind_it_is_not_affected(desk):
    desk.accept_seeds(leased("a", "b"))
    one, several = [record for record, _ in desk.take_seeds()]
    one.single = True
    assert desk.keep_only(Request(URL), one.id)
    desk.broken_off(one, 0)
    desk.broken_off(several, 0)  # the last of its requests was taken
    assert desk.outbox.releases == []
    assert [r.settled for r in (one, several)] == [False, True]


@pytest.mark.parametrize("in_callback", [False, True])
def test_retry_of_a_seed_stays_under_its_lease(desk, in_callback):
    sow(desk, "a")
    request = hand_out(desk)
    desk._engine.requests = {request}
    active = {request} if in_callback else set()
    desk._engine.scraping = active
    retry = request.copy()
    retry.meta["retry_times"] = 1
    records, stays = desk.replaced(retry)
    assert [record.id for record in records] == ["a"]
    assert stays


@pytest.mark.parametrize("again", ["on the way back", "in the callback", "no retry"])
def test_page_that_is_tried_again_under_another_lease_does_not_count(desk, again):
    desk._codec.decode = lambda payload: Request(URL, meta={"retry_times": 1})
    desk.accept([Lease("a", False, b"a")])
    request, _ = desk.next()
    desk._engine.requests = {request}
    in_callback = {request} if again == "in the callback" else set()
    desk._engine.scraping = in_callback
    retry = request.copy()
    if again != "no retry":
        retry.meta["retry_times"] = 2
    assert desk.replaced(retry)[1] is False
    desk.goes_again(retry)
    finish(desk, request)
    [(_, _, counts)] = settled(desk)
    assert counts == (again == "no retry")


def test_retry_that_stays_counts_as_the_page_of_its_lease(desk):
    desk._codec.decode = lambda payload: Request(URL)
    desk.accept([Lease("a", False, b"a")])
    request, _ = desk.next()
    desk._engine.requests = {request}
    desk._engine.scraping = set()
    retry = request.replace(meta={"retry_times": 1})
    records = desk.leases_of(request)
    desk.goes_again(retry)
    desk.keep(retry, records, "")
    finish(desk, request)
    assert settled(desk) == []
    finish(desk, hand_out(desk))
    assert [counts for _, _, counts in settled(desk)] == [True]


def test_login_comes_first_but_one_without_an_end_starves_nobody(
    desk, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "scrapy_dist")
    now = 1000.0
    monkeypatch.setattr("scrapy_dist.worker.desk.time.monotonic", lambda: now)
    monkeypatch.setattr(desk._prefetch, "in_hand", lambda *_: 16)
    assert desk.wanted() == 16
    desk.keep(Request(URL), (), "")
    assert desk.wanted() == desk.seeds_wanted() == 0
    form = hand_out(desk)
    now += 170
    assert desk.wanted() == 0
    desk.keep(Request(URL + "step"), (), "")  # the next step of the same login
    finish(desk, form)
    now += 20
    assert desk.is_busy
    assert [desk.wanted(), desk.wanted()] == [15, 15]
    assert caplog.text.count("kept it busy for 180 seconds") == 1
    finish(desk, hand_out(desk))
    assert desk.wanted() == 16
    desk.keep(Request(URL), (), "")
    assert desk.wanted() == 0  # another one


def suspects(desk: Desk, *names: str, alone: bool = False) -> None:
    leases = [Lease(name, True, name.encode(), alone) for name in names]
    desk._codec.decode = lambda payload: Request(URL + payload.decode())
    assert desk.accept(leases)


def test_eight_suspects_are_in_hand_at_the_most(desk):
    assert desk.suspects_wanted() == 8
    suspects(desk, *"abcdef")
    assert desk.suspects_wanted() == 2
    desk.released(["a", "b", "c"])
    assert desk.suspects_wanted() == 5
    assert desk.leases.holds_suspect


def test_nothing_is_leased_beside_a_suspect_that_is_alone(desk):
    suspects(desk, "a", alone=True)
    request, _ = desk.next()
    assert desk.wanted() == desk.seeds_wanted() == 0
    desk._engine.requests.add(request)
    finish(desk, request)
    assert desk.wanted() == 0  # Redis does not know yet that it is over
    desk.released(["a"])
    assert desk.wanted() >= 16


def test_no_seed_is_taken_while_the_hand_is_emptied(desk):
    assert desk.seeds_wanted() == 16
    desk.view.to_be_alone = True
    assert desk.seeds_wanted() == 0


def test_suspect_that_cannot_be_read_is_no_danger(desk):
    unreadable(desk, "good")
    assert desk.accept([Lease("bad", True, b"bad", True)])
    assert desk.wanted() == 0
    assert desk.next()
    assert desk.next() is None
    assert desk.wanted() > 0
    assert desk.suspects_wanted() == 8
    desk.released(["bad"])
    assert desk.suspects_wanted() == 8


def planted(desk: Desk, urls: list[str], **fields: object) -> list[Request]:
    """The requests that are handed out of what somebody wrote to Redis."""
    desk._codec = PayloadCodec(Spider("s"))
    payloads = [b"\x01" + msgpack.packb({"url": url, **fields}) for url in urls]
    leases = [Lease(f"{n:016x}", False, data) for n, data in enumerate(payloads)]
    desk.accept(leases)
    found = []
    while handed := desk.next():
        found.append(handed[0])
    return found


def test_a_setting_that_is_missing_sets_no_request_aside(desk):
    desk.on_unreadable = MagicMock()

    assert planted(desk, [f"ftp://host.invalid/{n}" for n in range(30)]) == []

    desk.on_unreadable.assert_called_once()
    assert desk.outbox.rejects == []


def test_hostile_requests_are_no_reason_to_close(desk):
    desk.on_unreadable = MagicMock()
    meta = {"ftp_local_filename": "/tmp/x"}

    assert planted(desk, [URL + str(n) for n in range(30)], meta=meta) == []

    desk.on_unreadable.assert_not_called()
    assert len(desk.outbox.rejects) == 30
    assert not desk._doubts.counting


def test_one_file_among_pages_is_set_aside(desk):
    desk.on_unreadable = MagicMock()

    urls = ["file:///etc/passwd", *(URL + str(n) for n in range(20))]
    found = planted(desk, urls)

    assert [request.url for request in found] == urls[1:]
    desk.on_unreadable.assert_not_called()
    ((id_, kind, reason),) = desk.outbox.rejects
    assert (id_, kind) == (f"{0:016x}", "request")
    assert "its scheme 'file' is not allowed" in reason


def test_what_is_too_large_is_set_aside_by_its_length(desk):
    desk._max_seed = 500
    large = Lease("a", suspect=False, payload=SEED, too_large=900)
    assert desk.accept_seeds([large])
    assert desk.accept([Lease("b", suspect=True, payload=SEED, too_large=901)])
    assert desk.outbox.rejects == [
        ("a", "seed", "the seed has 900 bytes; FRONTIER_SEED_MAX_SIZE allows 500"),
        ("b", "seed", "the seed has 901 bytes; FRONTIER_SEED_MAX_SIZE allows 500"),
    ]
    assert not desk.seeds


def test_a_request_that_is_too_large_is_held_until_the_reason_is_clear(desk):
    desk._codec = PayloadCodec(Spider("s"), max_size=100)
    assert desk.accept([Lease("a", suspect=False, payload=b"\x01", too_large=900)])
    assert desk.outbox.rejects == []
    desk.nothing_came()
    [(id_, kind, reason)] = desk.outbox.rejects
    assert (id_, kind) == ("a", "request")
    assert reason == "the payload has 900 bytes; FRONTIER_MAX_PAYLOAD allows 100"


def test_what_waits_here_is_bounded_in_bytes(desk):
    assert desk.wanted() > 3
    payload = b"\x01" + b"x" * (1 << 20)
    for n in range(8):
        assert desk.wanted() > 0
        desk.accept([Lease(str(n), suspect=False, payload=payload)])
    assert desk.wanted() == 0
    desk._inbox.popleft()
    assert desk.wanted() > 0
    desk._inbox.clear()
    assert desk.wanted() > 3


def test_large_requests_are_under_way_some_at_a_time(desk):
    desk._codec = PayloadCodec(Spider("s"), max_size=4 << 20)
    body = b"x" * (3 << 20)
    payload = desk._codec.encode(Request(URL, method="POST", body=body))
    small = desk._codec.encode(Request(URL))
    for n, each in enumerate([payload] * 3 + [small]):
        desk.accept([Lease(str(n), suspect=False, payload=each)])
    first, second = desk.next()[0], desk.next()[0]
    assert desk.next() is None
    assert len(desk) == 2  # there is something, so that Scrapy asks again
    for request in (first, second):
        records = desk.leases.handed.pop(request)
        desk.let_go(records)
    assert desk.next()[0].body == body
    assert desk.next()[0].body == b""


def test_the_reason_of_a_dead_letter_can_be_shown(desk):
    [lease] = leased("a")
    desk.accept_seeds([lease])
    [(record, _)] = desk.seeds
    desk.reject(record, "it raised: \x1b[2J\n" + "x" * 9000, "seed")
    [(_, _, reason)] = desk.outbox.rejects
    assert reason.startswith("it raised: \\x1b[2J\\nxxx")
    assert len(reason) == 2000
