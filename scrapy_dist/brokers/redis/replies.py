"""What scripts reply, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scrapy_dist.brokers.redis.layout import RANK, split_task
from scrapy_dist.codec.envelope import SEED, TASK
from scrapy_dist.core.frontier import (
    CommitReply,
    Heartbeat,
    JoinOutcome,
    Lease,
    LeaveOutcome,
    Left,
    Outcome,
)
from scrapy_dist.core.politeness import Grant, Granted, Rules, Visit
from scrapy_dist.core.tasks import Beginning

#: How ``register`` replies, where it does not refuse.
JOINED = {
    0: JoinOutcome.JOINED,
    1: JoinOutcome.FLUSHED,
    2: JoinOutcome.NOT_FLUSHED,
    4: JoinOutcome.NOT_NOW,
    5: JoinOutcome.MISSED,
    7: JoinOutcome.LATE,
}
#: Why it refuses: this version cannot read the frontier; a worker of another version is at
#: work that cannot read what this one would write; its requests are signed with another
#: secret, or with none; it is to be converted first; the other workers have another
#: FRONTIER_POLITENESS.
WRONG_FORMAT, MIXED_FORMATS, OTHER_SECRET, OLDER, OTHER_MANNERS = 3, 4, 6, 8, 9
#: How ``leave`` and ``begin`` reply.
LEFT = (LeaveOutcome.LEFT, LeaveOutcome.DELETED, LeaveOutcome.KEPT)
BEGUN = (
    Beginning.NOT_OWNED,
    Beginning.BEGUN,
    Beginning.REFUSED,
    Beginning.CANCELLED,
)


@dataclass(frozen=True, slots=True)
class LeaseReply:
    """What ``lease`` has handed out, and what is left; *known*: it knows this worker."""

    known: bool
    leases: Sequence[Lease]
    left: Left


@dataclass(frozen=True, slots=True)
class SeedsReply:
    """Leased seeds as they were pushed; *left* is how many still wait."""

    known: bool
    leases: Sequence[Lease]
    left: int


def parse_heartbeat(raw: list[Any]) -> Heartbeat:
    known, commit, held, alive, silent, paused, stop, met = raw
    flags = {"paused": bool(paused), "stop": bool(stop)}
    return Heartbeat(bool(known), commit, held, alive, silent, met=met, **flags)


def parse_meet(raw: list[Any]) -> tuple[int, list[tuple[str, str]]]:
    words = [word.decode("utf-8", "replace") for word in raw[1:]]
    return raw[0], list(zip(words[::2], words[1::2], strict=True))


def parse_leases(raw: list[Any]) -> LeaseReply:
    known, pending, suspects_left, suspects, *rest = raw
    waiting, alone, too_large, of_slots, *ranked = rest
    slots: list[int] = []
    for word in of_slots.split():
        slot, _, count = word.partition(b":")
        slots += [int(slot) if slot.isdigit() else 0] * int(count)
    sizes = {}
    for word in too_large.split():
        number, _, size = word.partition(b":")
        sizes[int(number) - 1] = int(size)
    leases = []
    for n, (entry, slot) in enumerate(zip(ranked, slots, strict=True)):
        id_, at, task = entry[8:24].decode("latin-1"), RANK, ""
        if entry[RANK : RANK + 1] == TASK:
            task, at = split_task(entry, RANK)
        is_seed = entry[at : at + 1] == SEED
        payload = entry[at + is_seed :]
        size = max(0, sizes.get(n, 0) - (at - RANK))
        leases.append(
            Lease(id_, payload, n < suspects, bool(alone), is_seed, size, slot, task)
        )
    left = Left(pending, suspects_left, waiting, bool(alone))
    return LeaseReply(bool(known), leases, left)


def parse_granted(raw: list[Any]) -> tuple[LeaseReply, Granted]:
    *raw, seats, wait, ready = raw
    grants, taken, wanted = [], [], []
    for word in seats.decode("latin-1").split():
        name, delay, places, leases = word.split(":")
        if leases == "-1":
            taken.append(name)
        elif leases == "-2":
            wanted.append(name)
        else:
            rules = Rules(int(delay) / 1000, int(places))
            grants.append(Grant(name, rules, int(leases)))
    granted = Granted(grants, taken, wanted, _seconds(wait), ready)
    return parse_leases(raw), granted


def parse_visit(raw: list[int]) -> Visit | None:
    outcome, wait, delay, places = raw
    if outcome < 0:
        return None
    return Visit(outcome > 0, _seconds(wait), Rules(delay / 1000, places))


def _seconds(ms: int) -> float | None:
    return ms / 1000 if ms >= 0 else None


def parse_seeds(raw: list[Any]) -> SeedsReply:
    leases = []
    for id_, found in zip(raw[2::2], raw[3::2], strict=True):
        # Of one that is too large there is its size.
        seed, size = (b"", found) if type(found) is int else (found, 0)
        leases.append(Lease(id_.decode("latin-1"), seed, is_seed=True, too_large=size))
    return SeedsReply(bool(raw[0]), leases, raw[1])


def parse_stored(outcome: Outcome, raw: list[Any]) -> CommitReply:
    """The reply to a commit that was taken."""
    filtered = raw[4:]
    if not filtered or min(filtered) >= 0:
        return CommitReply(outcome, raw[1], filtered)
    dropped = [-1 - at for at in filtered if at < 0]
    filtered = [at for at in filtered if at >= 0]
    return CommitReply(outcome, raw[1], filtered, dropped=dropped)
