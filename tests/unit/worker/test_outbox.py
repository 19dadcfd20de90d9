"""The outbox keeps the order that makes acks safe, and knows what a full Redis takes."""

from __future__ import annotations

import pytest

from scrapy_dist.core.frontier import BATCH, ChainLink, End, NewRequest, Settlement
from scrapy_dist.worker.outbox import (
    COMMIT_BYTES,
    OUTBOX_BYTES,
    Outbox,
    RecentFingerprints,
)


def request(name: str, size: int = 10) -> NewRequest:
    return NewRequest(name.encode().ljust(size), 0.0, name)


def add(outbox: Outbox, *names: str) -> None:
    for name in names:
        outbox.add_request(request(name), name)


def ids(numbered) -> list[str]:
    return [page.lease for page in numbered.commit.settlements]


def test_what_a_page_yields_stands_before_its_ack():
    outbox = Outbox()
    for page in range(30):
        add(outbox, *(f"{page}-{child}" for child in range(9)))
        outbox.add_settlement(Settlement(str(page)))
    commits = outbox.take(100)
    assert [n.commit.number for n in commits] == list(range(1, len(commits) + 1))

    seen: set[str] = set()
    for numbered in commits:
        assert len(numbered.commit.requests) <= BATCH
        seen |= {r.fingerprint for r in numbered.commit.requests}
        for page in ids(numbered):
            assert {f"{page}-{child}" for child in range(9)} <= seen
    assert len(outbox) == 300


def test_page_is_never_divided():
    outbox = Outbox()
    add(outbox, "a")
    big = Settlement("1", [request(str(n)) for n in range(700)], [("k", b"i")] * 40)
    outbox.add_settlement(big)
    add(outbox, "b")
    first, second, third = outbox.take(10)
    assert first.commit.settlements == []
    assert second.commit.settlements == [big]
    assert second.commit.requests == []
    assert third.requests == ["b"]
    assert len(outbox) == 1 + 741 + 1


def test_commit_is_not_larger_than_it_must():
    outbox = Outbox()
    for _ in range(3):
        outbox.add_item("k", b"x" * (COMMIT_BYTES // 2))
    outbox.add_item("k", b"x" * (3 * COMMIT_BYTES))
    assert [len(n.commit.items) for n in outbox.take(10)] == [2, 1, 1]


def test_outbox_is_full_by_number_or_by_bytes():
    outbox = Outbox()
    add(outbox, "a", "b")
    assert outbox.is_full(2)
    assert not outbox.is_full(3)
    for _ in range(16):
        outbox.add_item("k", b"x" * (OUTBOX_BYTES // 16))
    assert outbox.is_full(1000)
    for numbered in outbox.take(100):
        outbox.confirm(numbered)
    assert len(outbox) == 0
    assert not outbox.is_full(1)


def test_unconfirmed_commit_is_sent_again_as_it_was():
    outbox = Outbox()
    add(outbox, "a")
    [first] = outbox.take(4)
    add(outbox, "b")
    again, second = outbox.take(4)
    assert again is first
    assert second.requests == ["b"]
    with pytest.raises(AssertionError):
        outbox.confirm(second)


def test_full_redis_takes_bare_acks_and_those_behind_move_up():
    outbox = Outbox()
    add(outbox, *map(str, range(BATCH)))
    outbox.add_settlement(Settlement("free", end=End.EMPTY))
    outbox.add_settlement(Settlement("parent"))
    add(outbox, "next commit")
    outbox.add_settlement(Settlement("free 2", end=End.EMPTY))
    outbox.add_settlement(Settlement("parent 2", end=End.ACK))
    for n in range(BATCH):
        outbox.add_item("k", str(n).encode())
    add(outbox, *map(str, range(BATCH)))
    outbox.add_settlement(Settlement("free 3", end=End.EMPTY))
    before = len(outbox)
    first, *_ = outbox.take(2)

    assert outbox.only_empty_ends() == ["free"]
    assert outbox.has_empty_ends
    again, second = outbox.take(2)
    assert again.commit.number == first.commit.number
    assert again.commit.requests == first.commit.requests
    assert ids(again) == ["parent", "free 2", "free 3"]
    assert ids(second) == ["parent 2"]
    assert len(outbox) == before - 1

    assert sorted(outbox.only_empty_ends()) == ["free 2", "free 3"]
    assert not outbox.has_empty_ends
    for numbered in outbox.take(1000):
        outbox.confirm(numbered)
    assert len(outbox) == 0
    assert not outbox.is_full(1)


def test_rollback_drops_pages_and_keeps_what_travels_by_itself():
    outbox = Outbox()
    add(outbox, "a")
    outbox.add_settlement(Settlement("1", [request("x")], [("k", b"i")]))
    outbox.add_settlement(Settlement("2", [request("y")], end=End.OPEN))
    [sent] = outbox.take(4)
    outbox.add_item("k", b"loose")
    outbox.add_settlement(Settlement("3", end=End.FAILED, reason="it raised"))

    assert outbox.withdraw_settlements() == ["1", "3"]
    assert len(outbox) == 2
    [again] = outbox.take(4)
    assert again.commit.number == sent.commit.number + 1
    assert again.commit.settlements == []
    assert [r.fingerprint for r in again.commit.requests] == ["a"]
    assert again.commit.items == [("k", b"loose")]
    outbox.confirm(again)
    assert len(outbox) == 0


def test_recent_fingerprints_forget_the_oldest():
    recent = RecentFingerprints(2)
    assert recent.add("a")
    assert recent.add("b")
    assert not recent.add("a")
    assert recent.add("c")  # forgets b, which was used least recently
    assert not recent.add("a")
    assert recent.add("b")
    recent.forget()
    assert recent.add("a")


def test_no_recent_fingerprints():
    recent = RecentFingerprints(0)
    assert recent.add("a")
    assert recent.add("a")


def test_requests_that_were_crawled_ahead_take_room_in_a_commit():
    outbox = Outbox()
    for n in range(3):
        chain = [ChainLink(f"{n}-{i}") for i in range(BATCH // 2)]
        outbox.add_settlement(Settlement(str(n), chain=chain))
    assert [ids(numbered) for numbered in outbox.take(10)] == [["0", "1"], ["2"]]


def test_commits_after_a_rollback_go_on_with_the_next_number():
    """It is what Redis is told when the worker registers again."""
    outbox = Outbox()
    for n in range(3):
        add(outbox, str(n))
        outbox.take(n + 1)
    outbox.confirm(outbox.take(1)[0])
    outbox.withdraw_settlements()
    assert outbox.number == outbox.confirmed == 3
    [numbered] = outbox.take(10)
    assert numbered.commit.number == 4
    assert [r.fingerprint for r in numbered.commit.requests] == ["1", "2"]
    outbox.confirm(numbered)
    assert outbox.confirmed == 4
    assert len(outbox) == 0
