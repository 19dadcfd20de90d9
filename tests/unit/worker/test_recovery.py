"""The states of a worker in trouble: each event in each state, and what the log says."""

from __future__ import annotations

import logging
import re

import pytest

from scrapy_dist.core.frontier import Deaths, Heartbeat
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.worker.recovery import Ending, Link, Recovery
from scrapy_dist.worker.view import Account, Memory, View
from tests.support.engine import Closer, FakeEngine
from tests.support.worker import Clock

AWAY = RedisUnavailable("no route")


class Case:
    """A `Recovery` and its surroundings."""

    def __init__(self, caplog, patience=0.0):
        caplog.set_level(logging.DEBUG, "scrapy_dist")
        self.view, self.closer, self._caplog = View(), Closer(), caplog
        spider = FakeEngine().spider
        self.recovery = Recovery(self.view, spider, self.closer, patience=patience)
        caplog.clear()  # what Scrapy says of the crawler

    @property
    def said(self):
        """Level and first words of each new line."""
        found = [
            (r.levelname, re.split(r"[.:;,(]", r.getMessage())[0].strip())
            for r in self._caplog.records
        ]
        assert all(hasattr(r, "spider") for r in self._caplog.records)
        self._caplog.clear()
        return found


@pytest.fixture
def case(caplog):
    return Case(caplog)


def beat(**changes):
    fields = {"paused": False, "stop": False} | changes
    return Heartbeat(known=True, commit=0, alive=1, silent=0, held=0, met=0, **fields)


# Whether Redis answers

NO_EXCHANGE = ("WARNING", "No exchange with Redis")
BACK = ("INFO", "Redis is back")


@pytest.mark.parametrize(
    ("before", "event", "after", "said"),
    [
        (Link.ANSWERED, "away", Link.AWAY, [NO_EXCHANGE]),
        (Link.ANSWERED, "failed", Link.FAILED, []),
        (Link.ANSWERED, "answered", Link.ANSWERED, []),
        (Link.ANSWERED, "rolled_back", Link.ANSWERED, []),
        (Link.FAILED, "away", Link.AWAY, [NO_EXCHANGE]),
        (Link.FAILED, "failed", Link.FAILED, []),
        (Link.FAILED, "answered", Link.ANSWERED, []),
        (Link.FAILED, "rolled_back", Link.FAILED, []),
        (Link.AWAY, "away", Link.AWAY, []),
        (Link.AWAY, "failed", Link.AWAY, []),
        (Link.AWAY, "answered", Link.ANSWERED, [BACK]),
        # Said when it has registered again.
        (Link.AWAY, "rolled_back", Link.FAILED, []),
    ],
)
def test_link(case, before, event, after, said):
    case.recovery.link = before
    {
        "away": lambda: case.recovery.failed(AWAY, 3),
        "failed": lambda: case.recovery.failed(None, 3),
        "answered": case.recovery.answered,
        "rolled_back": lambda: case.recovery.rolled_back("It went back"),
    }[event]()
    assert case.recovery.link is after
    assert case.said == said


def test_it_is_told_why_there_was_no_exchange_and_what_is_kept(case, caplog):
    case.recovery.failed(AWAY, 3)
    assert "(no route). This worker keeps 3 requests" in caplog.text


def test_one_line_says_that_redis_is_back_and_went_back(case):
    case.recovery.failed(AWAY, 3)
    case.recovery.rolled_back("It has lost commits")
    case.recovery.answered()
    assert case.said == [NO_EXCHANGE]
    case.recovery.rejoined(3)
    assert case.said == [("WARNING", "Redis is back")]


def test_patience_begins_anew_with_each_answer_and_ends_once(caplog, monkeypatch):
    clock, case = Clock(monkeypatch), Case(caplog, patience=30.0)
    for _ in range(3):
        clock.leap(29)
        case.recovery.failed(AWAY, 1)
        case.recovery.answered()
    assert case.closer.reasons == []
    for _ in range(3):
        clock.leap(31)
        case.recovery.failed(None, 1)
    assert case.closer.reasons == [Ending.AWAY]
    [line] = [text for level, text in case.said if level == "ERROR"]
    assert line == "Redis has not answered for 30 s"


def test_no_patience_is_endless(case, monkeypatch):
    Clock(monkeypatch).leap(1e6)
    case.recovery.failed(AWAY, 1)
    assert case.closer.reasons == []


# Defects


def here(error):
    raise error


def elsewhere(error):
    raise error


def fail(recovery, error, place=here):
    try:
        place(error)
    except Exception as e:
        recovery.defective(e)
    recovery.failed(None, 1)


def test_defect_of_one_place_closes_when_it_has_come_eight_times(case):
    for _ in range(7):
        fail(case.recovery, KeyError("x"))
    assert case.said == [("ERROR", "The exchange with Redis failed")]
    assert case.closer.reasons == []
    for _ in range(3):
        fail(case.recovery, KeyError("x"))
    assert case.closer.reasons == [Ending.DEFECT]
    text = "The exchange with Redis failed 8 times in a row at the same place"
    assert case.said == [("ERROR", text)]
    assert case.recovery.defects == 10


@pytest.mark.parametrize("other", ["kind", "place", "answer", "away"])
def test_defects_count_only_in_a_row_at_one_place(case, other):
    for _ in range(7):
        fail(case.recovery, KeyError("x"))
    if other == "kind":
        fail(case.recovery, ValueError("x"))
    elif other == "place":
        fail(case.recovery, KeyError("x"), place=elsewhere)
    elif other == "answer":
        case.recovery.answered()
    if other == "away":  # Redis could not be asked
        case.recovery.failed(AWAY, 1)
        fail(case.recovery, KeyError("x"))
        assert case.closer.reasons == [Ending.DEFECT]
        return
    for _ in range(7):
        fail(case.recovery, KeyError("x"))
    assert case.closer.reasons == []


# Whether both agree on what this worker holds

JOINED, RECONCILING = Account.JOINED, Account.RECONCILING
REJOINING, OVER = Account.REJOINING, Account.OVER
REGISTERS = ("WARNING", "It went back")
MISSED = (
    "WARNING",
    "The others have finished this crawl while this worker was cut off",
)


@pytest.mark.parametrize(
    ("event", "after"),
    [  # of JOINED, RECONCILING, REJOINING, OVER
        ("doubt", [RECONCILING, RECONCILING, REJOINING, OVER]),
        ("compared", [JOINED, JOINED, REJOINING, OVER]),
        ("rolled_back", [REJOINING, REJOINING, REJOINING, OVER]),
        ("rejoined", [JOINED, RECONCILING, RECONCILING, OVER]),
        ("missed_end", [OVER, OVER, OVER, OVER]),
        ("came_late", [OVER, OVER, OVER, OVER]),
        ("refused", [RECONCILING, RECONCILING, REJOINING, OVER]),
        ("shut_out", [JOINED, RECONCILING, REJOINING, OVER]),
        ("answered", [JOINED, RECONCILING, REJOINING, OVER]),
        ("failed", [JOINED, RECONCILING, REJOINING, OVER]),
    ],
)
def test_account(caplog, event, after):
    for before, then in zip(Account, after, strict=True):
        case = Case(caplog)
        case.view.account, case.view.alone = before, True
        recovery = case.recovery
        {
            "doubt": recovery.doubt,
            "compared": recovery.compared,
            "rolled_back": lambda r=recovery: r.rolled_back("It went back"),
            "rejoined": lambda r=recovery: r.rejoined(1),
            "missed_end": lambda r=recovery: r.missed_end(1),
            "came_late": recovery.came_late,
            "refused": lambda r=recovery: r.refused("wrong"),
            "shut_out": lambda r=recovery: r.shut_out("another format"),
            "answered": recovery.answered,
            "failed": lambda r=recovery: r.failed(None, 1),
        }[event]()
        assert case.view.account is then
        # It knows no longer what others have seen.
        assert case.view.alone == (event != "rolled_back" or before is OVER)


def test_first_that_was_found_is_told_when_it_has_registered_again(case, caplog):
    case.recovery.rolled_back("It went back")
    case.recovery.rolled_back("Something else")
    assert case.said == []
    case.recovery.rejoined(7)
    assert "and 7 requests of its own will be crawled again" in caplog.text
    assert case.said == [REGISTERS]
    case.recovery.compared()
    case.recovery.rolled_back("Once more")
    case.recovery.rejoined(7)
    assert case.said == [("WARNING", "Once more")]


def test_crawl_that_ended_without_this_worker_closes_it(case, caplog):
    case.recovery.rolled_back("It went back")
    case.recovery.missed_end(4)
    assert "; 4 results of it are not stored" in caplog.text
    assert case.said == [MISSED]
    assert case.closer.reasons == [Ending.MISSED]
    assert case.view.is_over


def test_worker_that_came_late_is_told_by_whoever_joins(case):
    case.recovery.came_late()
    assert case.view.is_over
    assert (case.said, case.closer.reasons) == ([], [])


def test_crawl_of_another_format_closes_once(case):
    for _ in range(3):
        case.recovery.shut_out("Its format is newer")
    assert case.said == [("ERROR", "Its format is newer")]
    assert case.closer.reasons == [Ending.FORMAT]


# Whether Redis takes results

FULL = ("WARNING", "Redis is full")
ROOM = ("INFO", "Redis has memory again")


@pytest.mark.parametrize(
    ("event", "after", "said"),
    [  # of ENOUGH, FULL, DRAINING
        ("full", [Memory.FULL] * 3, [[FULL], [], []]),
        ("stored", [Memory.ENOUGH, Memory.DRAINING, Memory.DRAINING], [[], [], []]),
        ("taken, more waits", list(Memory), [[], [], []]),
        ("all taken", [Memory.ENOUGH, Memory.FULL, Memory.ENOUGH], [[], [], [ROOM]]),
    ],
)
def test_memory(caplog, event, after, said):
    for before, then, lines in zip(Memory, after, said, strict=True):
        case = Case(caplog)
        case.view.memory = before
        if event == "full":
            # Only then pages have to be looked through.
            assert case.recovery.full(9) == (before is not Memory.FULL)
        elif event == "stored":
            case.recovery.stored()
        else:
            case.recovery.taken(0 if event == "all taken" else 1)
        assert case.view.memory is then
        assert case.view.is_full == (then is Memory.FULL)
        assert case.said == lines


def test_refusal_is_told_once_for_each_reason_and_so_is_its_end(case):
    refused, again = (
        "Redis refuses what this worker produced",
        "Redis takes results again",
    )
    for reason in ("WRONGTYPE", "WRONGTYPE", "NOPERM"):
        case.recovery.refused(reason)
        assert case.recovery.refusal == reason
    assert case.said == [("WARNING", refused)] * 2
    case.recovery.taken(1)
    case.recovery.taken(0)
    assert case.recovery.refusal == ""
    assert case.said == [("INFO", again)]
    case.recovery.refused("NOPERM")
    assert case.said == [("WARNING", refused)]


# What a beat tells


def test_pause_and_its_end_are_told(case):
    for paused, said in ((True, "Paused"), (True, ""), (False, "Resumed"), (False, "")):
        case.recovery.heard(beat(paused=paused))
        assert case.view.paused is paused
        assert case.said == ([("INFO", said)] if said else [])


def test_worker_that_is_asked_to_stop_closes_once(case):
    for _ in range(3):
        case.recovery.heard(beat(stop=True))
    assert case.said == [("INFO", "Asked to stop")]
    assert case.closer.reasons == [Ending.STOPPED]


def test_what_was_taken_from_the_dead_is_told_when_they_have_nothing_left(case, caplog):
    case.recovery.took_over(Deaths(suspects=100, failed=1, ended=0))
    assert case.said == []
    case.recovery.took_over(Deaths(suspects=20, failed=2, ended=1))
    assert "120 requests are suspects now, and 3 are dead letters" in caplog.text
    caplog.clear()
    case.recovery.took_over(Deaths(suspects=1, failed=0, ended=2))
    assert "1 request is a suspect now, and 0 are dead letters" in caplog.text


def test_dead_letters_without_room_are_told_once_and_so_is_room(case):
    for waiting, said in (
        (0, []),
        (3, [("WARNING", "s")]),
        (5, []),
        (0, [("INFO", "s")]),
        (0, []),
        (1, [("WARNING", "s")]),
    ):
        case.view.waiting = waiting
        case.recovery.look_at_room("s:failed")
        assert case.said == said
