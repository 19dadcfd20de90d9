"""What a worker and a broker say about who may ask a slot, and when.

In a polite crawl delays and places hold for all workers together. A worker asks a slot only
while it has a *seat* of it: it is granted with leases, or for a visit, and given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Rules:
    """How a slot may be asked, by all workers together.

    *delay*: seconds between two starts; one worker at a time has the slot then. Without a
    delay, *places* downloads may run at once, and seats share them.
    """

    delay: float = 0.0
    places: int = 8


@dataclass(frozen=True, slots=True)
class Grant:
    """A seat, by its *name*: this worker may ask its slot until it gives the seat back.

    *rules*: the delay of the slot, and the places of this seat. *leases* came with it.
    """

    name: str
    rules: Rules
    leases: int = 0

    @property
    def slot(self) -> int:
        return slot_of_seat(self.name)


def slot_of_seat(name: str) -> int:
    """The number of the slot of a seat: the first one has its name, others 'slot.1' …"""
    return int(name.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Yield:
    """A seat is given back; it may be taken after *rest* seconds.

    *rules*: those of the slot from now on; None: as before; without *places*: as many
    as before.
    """

    name: str
    rest: float = 0.0
    rules: Rules | None = None


class Renewal(NamedTuple):
    """A worker wants *most* more requests of a seat that it has, by its *name*.

    *places*: the most downloads that it may have under way there when this is carried
    out. While they are more than a seat without a delay has, no other seat is opened.
    """

    name: str
    most: int
    places: int = 0


@dataclass(frozen=True, slots=True)
class Manners:
    """What a worker of a polite crawl asks for.

    *rules* are those of slots that have none of their own. A grant is for the starts of
    *horizon* seconds, *portion* requests at most; a slot without delay has *seats* at the
    most. *renewals*: the seats that this worker has and wants more requests of.
    """

    rules: Rules
    horizon: float = 0.3
    portion: int = 8
    seats: int = 8
    renewals: Sequence[Renewal] = ()


@dataclass(frozen=True, slots=True)
class Granted:
    """What came of `Manners`.

    *taken* away are seats that this worker has not any more, *wanted* those that another
    one waits for. *wait*: seconds until a slot may be asked, None: nothing waits. *ready*:
    how many slots may be asked now, and nobody has them; or 1 where this worker has more
    than its share of those that are taken, and another one has none.
    """

    grants: Sequence[Grant] = ()
    taken: Sequence[str] = ()
    wanted: Sequence[str] = ()
    wait: float | None = None
    ready: int = 0


@dataclass(frozen=True, slots=True)
class Visit:
    """Whether a worker may ask a slot that it was handed nothing of; it gets its first seat.

    While the answer is no, this worker is waited for: who has the slot gets no more of it,
    and nobody else gets it, for two seconds. *wait*: seconds until it may ask again, None: another worker has the slot.
    """

    granted: bool
    wait: float | None = None
    rules: Rules = Rules()


def differ_in_manners(ours: str, theirs: str) -> str:
    """Why a worker does not join others that have another FRONTIER_POLITENESS.

    Both are FRONTIER_WORKER_TTL in ms if it is True, else ''.
    """
    if ours and theirs:
        return (
            f"FRONTIER_WORKER_TTL is {int(ours) / 1000:g}, and the workers that are at this"
            f" crawl have {_seconds(theirs)}. Where delays hold for all workers together"
            " (FRONTIER_POLITENESS = True) it must be the same for all: let them have the"
            " same settings, or start this one when the others have stopped."
        )
    here, there = (True, False) if ours else (False, True)
    return (
        f"FRONTIER_POLITENESS is {here}, and the workers that are at this crawl have"
        f" {there}: delays could not hold for all of them together. Let them have the same"
        " settings, or start this one when the others have stopped (one that was killed"
        " counts for half of FRONTIER_WORKER_TTL)."
    )


def _seconds(text: str) -> str:
    return f"{int(text) / 1000:g}" if text.isdigit() and len(text) < 20 else repr(text)
