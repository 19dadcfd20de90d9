"""A commit as ``lua/commit.lua`` reads it: the only place that writes its marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1
from itertools import accumulate
from struct import pack
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy_dist.brokers.redis.layout import encode_score, with_task
from scrapy_dist.core.frontier import ChainLink, Commit, End, Outcome, Settlement

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.buckets import Shape

T = TypeVar("T")

#: In front of the fingerprint of a request of ``start()`` that is to be taken once.
_START = "!"
#: In front of the number of the lease, within its commit, that a request is part of.
_PART_OF = "#"
#: In front of a link of a chain: the number of its lease, the length of its fingerprint,
#: its slot.
_LINK_OF = "@"
#: What no fingerprint may begin with.
_MARKS = frozenset(("", _START, _PART_OF, _LINK_OF))

#: Characters of an order id; what has others is nobody's lease.
_ID = 16

#: How the script tells what has become of a commit.
OUTCOMES = {
    1: Outcome.STORED,
    2: Outcome.REPEATED,
    3: Outcome.FULL,
    4: Outcome.AGAIN,
    0: Outcome.UNKNOWN_WORKER,
    -1: Outcome.GAP,
}
#: The order of the ends within a commit.
_ORDER = {End.ACK: 0, End.EMPTY: 1, End.OPEN: 2, End.FAILED: 2}
_OPEN = "-"


def clear(fingerprint: str) -> str:
    """*fingerprint* as S:dupefilter holds it; not '', and clear of marks."""
    if fingerprint[:1] in _MARKS:
        return sha1(fingerprint.encode(), usedforsecurity=False).hexdigest()
    return fingerprint


def marked(fingerprint: str, start: int) -> str:
    """*fingerprint* as scripts read it; *start*: see ``NewRequest``."""
    if not start:
        return fingerprint
    if start == 1:
        return f"{_START}{fingerprint}"
    return f"{_START}{_START}{start} {fingerprint}"


def encode(
    commit: Commit, shape: Shape | None, *, apart: bool, keeps_results: bool = True
) -> dict[str, Any]:
    """The values of the script, but those of the buckets' *shape*.

    *apart*: payloads are arguments of their own, not one together. *keeps_results*:
    items of tasks are stored as their results, too.
    """
    settlements = sorted(commit.settlements, key=_order)
    numbers = {settled.lease: n for n, settled in enumerate(settlements, 1)}
    requests = [*commit.requests]
    names = [
        marked(r.fingerprint, r.start) if r.start else r.fingerprint for r in requests
    ]
    looked_up = [request.fingerprint for request in requests if request.start < 2]
    for settled in commit.settlements:  # requests in the order in which they came
        requests += settled.requests
        names += [f"{_PART_OF}{numbers[settled.lease]}"] * len(settled.requests)
    payloads = [request.payload for request in requests]
    words = "".join(_task_words(commit, settlements, keeps_results))
    if words:
        payloads = [with_task(*each) for each in _tasks_and_payloads(commit)]
    for settled in commit.settlements:  # behind all requests
        for link in settled.chain:
            names.append(_name_of_link(link, numbers[settled.lease]))
            payloads.append(with_task(settled.task * bool(link.reason), link.payload))
            looked_up.append(link.fingerprint)
    ends = [settled.end for settled in settlements]
    acks, bare = ends.count(End.ACK), ends.count(End.EMPTY)
    together, width = _plain(names) if len(names) == len(commit.requests) else ("", 0)
    in_one, places = ("", "") if apart else _in_one(payloads)
    return {
        "number": commit.number,
        "acks": acks,
        "bare_acks": bare,
        "scores": b"".join(map(encode_score, _one_or_all([r.score for r in requests]))),
        "slot_numbers": " ".join(map(str, _one_or_all([r.slot for r in requests]))),
        "extra": commit.crawled - len(commit.ended),
        "task_words": words,
        "payloads": in_one,
        "ends": places,
        "ids": "".join([s.lease.ljust(_ID)[:_ID] for s in settlements]),
        "fingerprints": together,
        "width": width,
        "verdicts": [*map(_verdict, settlements[acks + bare :])],
        "names": () if width else names,
        "apart": payloads if apart else (),
        **_buckets(looked_up, shape),
        **_items(commit, numbers),
    }


def _name_of_link(link: ChainLink, number: int) -> str:
    size = len(link.fingerprint.encode())
    return f"{_LINK_OF}{number} {size} {link.slot} {link.fingerprint}{link.reason}"


def _task_words(
    commit: Commit, settlements: Sequence[Settlement], keeps_results: bool
) -> Iterator[str]:
    """The tasks of leases and requests, as the script has them; nothing if there is none."""
    distinct = {request.task for request in commit.requests}
    if distinct <= {""} and not any(settled.task for settled in settlements):
        return
    yield str(int(keeps_results))
    for settled in settlements:
        pages = sum(link.is_page and not link.reason for link in settled.chain)
        pages += settled.counts and settled.end in (End.ACK, End.EMPTY)
        yield f" {settled.task}:{pages}" if settled.task else " -"
    requests = commit.requests[:1] if len(distinct) == 1 else commit.requests
    for request in requests:
        yield f" {request.task or '-'}"


def _tasks_and_payloads(commit: Commit) -> Iterator[tuple[str, bytes]]:
    for request in commit.requests:
        yield request.task, request.payload
    for settled in commit.settlements:
        for request in settled.requests:
            yield settled.task, request.payload


def _one_or_all(values: Sequence[T]) -> Sequence[T]:
    """All *values*, or one if they are equal."""
    return values if len({*values}) > 1 else values[:1]


def _items(commit: Commit, numbers: dict[str, int]) -> dict[str, Any]:
    keys: dict[str, int] = {}
    pushes: list[str | bytes | int] = []
    groups = [(0, commit.items)]
    groups += [(numbers[s.lease], s.items) for s in commit.settlements]
    for number, items in groups:
        for key, data in items:
            pushes += (keys.setdefault(key, 1 + len(keys)), number, data)
    return {"pushes": pushes, "item_keys": keys}


def _buckets(fingerprints: Iterable[str], shape: Shape | None) -> dict[str, Any]:
    """The buckets in which *fingerprints* are looked up; '' is in none."""
    if shape is None:
        return {"split": "", "buckets": ()}
    split: list[str] = []
    keys: list[str] = []
    for number in [shape.number(each) for each in fingerprints if each]:
        if number < shape.buckets:
            split.append("-")
            keys.append(shape.name(number))
        else:
            split.append(str(number))
            keys.extend(shape.keys(number))
    return {"split": " ".join(split), "buckets": keys}


def _in_one(payloads: Sequence[bytes]) -> tuple[bytes, bytes]:
    """All *payloads*, and where each begins and the last one ends: see ``payload_of``."""
    ends = accumulate(map(len, payloads))
    return b"".join(payloads), pack(f">{len(payloads) + 1}I", 0, *ends)


def _plain(names: Sequence[str]) -> tuple[str, int]:
    """All *names* in one, and their width: see the script. 0 if they differ in it."""
    sizes = {len(name) for name in names}
    together = "".join(names)
    are_plain = _MARKS.isdisjoint([name[:1] for name in names]) and together.isascii()
    if len(sizes) != 1 or not are_plain:
        return "", 0
    size = sizes.pop()
    return together, size if len({*names}) == len(names) else -size


def _verdict(settled: Settlement) -> str:
    return _OPEN if settled.end is End.OPEN else settled.reason


def _order(settled: Settlement) -> tuple[int, str]:
    """Acks by their ids, as Redis sorts them; what fails, in the order in which it did."""
    end = _ORDER[settled.end]
    return end, settled.lease if end < _ORDER[End.OPEN] else ""
