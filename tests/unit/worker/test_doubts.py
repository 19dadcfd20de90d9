"""Whether unreadable requests are bad data, or the code that reads them is wrong."""

from __future__ import annotations

import random

import pytest

from scrapy_dist.core.frontier import Lease
from scrapy_dist.exceptions import BadPayload
from scrapy_dist.worker.doubts import Doubtful, Doubts, Verdict
from scrapy_dist.worker.leases import Leases

REMEDY = "Give it back."


def doubtful(
    n: int = 0, cause: str = "callback", reason: str = "gone", payload: bytes = b"x"
) -> Doubtful:
    record = Leases().open(Lease(str(n), payload))
    return Doubtful(record, payload, BadPayload(reason, cause=cause, remedy=REMEDY))


def feed(doubts: Doubts, reads: str) -> Verdict | None:
    """'-' was readable; any other letter is the cause that it was not for."""
    for n, cause in enumerate(reads):
        if cause != "-":
            verdict = doubts.hold(doubtful(n, cause))
        elif doubts.counting:
            verdict = doubts.readable()
        else:
            continue
        if verdict is not None:
            return verdict
    return None


@pytest.mark.parametrize(
    ("reads", "verdict"),
    [
        ("-" * 500, None),
        ("a" * 9, None),
        ("a" * 10, Verdict.CODE),
        ("-" * 500 + "a" * 10, Verdict.CODE),  # the code has changed meanwhile
        ("a" + "-" * 11, Verdict.DATA),
        ("aaaaa" + "-" * 15, Verdict.DATA),
        ("aaa--" * 10, Verdict.CODE),
        ("aa---" * 10, Verdict.DATA),
        ("ab" * 40, None),
        ("abc" * 40, Verdict.DATA),  # no one mistake makes all of them unreadable
        ("aaab" * 10, Verdict.CODE),
    ],
)
def test_whichever_side_leads_by_ten_decides(reads, verdict):
    assert feed(Doubts(), reads) is verdict


@pytest.mark.parametrize(
    ("reads", "verdict"),
    [
        ("a", Verdict.DATA),
        ("a" * 9, Verdict.DATA),
        ("a" * 9 + "-" * 3, Verdict.DATA),
        ("a" * 5 + "--" + "a" * 5, Verdict.CODE),
        ("-a" * 9 + "aa", Verdict.CODE),
        ("ab" * 15, Verdict.DATA),
        ("-" * 9, None),
    ],
)
def test_majority_of_ten_or_more_decides_when_nothing_else_is_left(reads, verdict):
    doubts = Doubts()
    assert feed(doubts, reads) is None
    assert doubts.judge_rest() is verdict


def test_those_that_come_in_small_portions_are_counted_together():
    doubts = Doubts()
    given_up = 0
    for _ in range(20):
        if feed(doubts, "aaa") is Verdict.CODE:
            break
        assert doubts.judge_rest() is Verdict.DATA
        given_up += len(doubts.take())
    else:
        pytest.fail("never told")
    assert given_up == 9


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.6, 0.8, 1.0])
def test_it_is_told_soon_whatever_the_share_of_the_unreadable(share):
    source = random.Random(7)
    verdicts = []
    for _ in range(300):
        doubts = Doubts()
        reads = "a" + "".join(
            "a" if source.random() < share else "-" for _ in range(2000)
        )
        verdicts.append(feed(doubts, reads))
        assert len(doubts.held) <= 100
    assert None not in verdicts
    if share <= 0.3:
        assert verdicts.count(Verdict.DATA) >= 295
    if share >= 0.6:
        assert verdicts.count(Verdict.CODE) >= 290


def test_lost_leases_are_no_longer_held():
    doubts = Doubts()
    for n in range(3):
        doubts.hold(doubtful(n))
    assert [record.id for record in doubts.drop({"1", "9"})] == ["1"]
    assert [each.record.id for each in doubts.take()] == ["0", "2"]
    assert doubts.take() == []


def test_message_counts_and_names_the_reasons_and_hides_passwords():
    doubts = Doubts()
    doubts.hold(doubtful(1, reason="no parse_b"))
    for n in range(3):
        doubts.hold(
            doubtful(
                n + 2,
                reason="no parse_a",
                payload=b'{"url": "http://u:secret@a.invalid/\\u001b[31m\\n"}',
            )
        )
    doubts.readable()
    text = doubts.explain()
    assert "4 of 5 requests" in text
    assert text.index("no parse_a (3)") < text.index("no parse_b (1)")
    assert text.count(REMEDY) == 1
    assert "a.invalid" in text
    assert "secret" not in text
    assert text.isprintable()
    doubts.hold(doubtful(9, payload=b"\x80\x04\x1b[31m\n"))
    assert doubts.explain().isprintable()
