"""Whether requests that cannot be read are bad data, or the code that reads them is wrong.

One request that cannot be read is a dead letter. When it is most of them (a callback
that was renamed, pickles of scrapy-redis, another serializer), they are sound, and they
are not to be thrown away. So an unreadable request is held aside until this is told:

* A count begins with an unreadable request, and takes in all that are read after it.
* The *commonest cause* is the one that most of the counted are unreadable for. When
  those are ten more than all others counted, the code is wrong.
* When the others are ten more, it is the data, and the count is over.
* When nothing else is left to read, the code is wrong if those of the commonest cause
  are ten or more, and more than all others. Else it is the data; the count goes on.

It is never told by less than ten unreadable requests that the code is wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import quote
from scrapy_dist.codec.request import fields_of

if TYPE_CHECKING:
    from scrapy_dist.exceptions import BadPayload
    from scrapy_dist.worker.leases import HeldLease

__all__ = ["Doubtful", "Doubts", "Verdict"]

#: By how many requests one side has to lead.
_LEAD = 10
#: Most requests held aside; then the majority decides.
_MOST = 100
#: Reasons that are told.
_REASONS = 3


class Verdict(Enum):
    """What is wrong."""

    DATA = "data"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A leased request that cannot be read."""

    record: HeldLease
    payload: bytes
    error: BadPayload


class Doubts:
    """The requests of this worker that cannot be read, until it is told why."""

    def __init__(self) -> None:
        self.held: list[Doubtful] = []
        self._read = 0
        self._causes: Counter[str] = Counter()
        self._reasons: Counter[tuple[str, str]] = Counter()
        self._example = b""

    @property
    def counting(self) -> bool:
        """Whether ``readable`` is to be told."""
        return self._read > 0

    def hold(self, doubtful: Doubtful) -> Verdict | None:
        """One that cannot be read; None: nothing is told yet."""
        self.held.append(doubtful)
        error = doubtful.error
        self._read += 1
        self._causes[error.cause] += 1
        # What a stranger wrote may differ each time.
        if (str(error), error.remedy) in self._reasons or len(self._reasons) < _MOST:
            self._reasons[str(error), error.remedy] += 1
        self._example = doubtful.payload
        return self._judge()

    def readable(self) -> Verdict | None:
        """One was read, while ``counting``."""
        self._read += 1
        return self._judge()

    def judge_rest(self) -> Verdict | None:
        """Nothing else is left to read."""
        if not self.held:
            return None
        commonest = self._commonest()
        wrong = commonest >= _LEAD and 2 * commonest > self._read
        return Verdict.CODE if wrong else Verdict.DATA

    def take(self) -> list[Doubtful]:
        """Those held aside; they are no longer."""
        held, self.held = self.held, []
        return held

    def forget(self) -> None:
        """The count is over."""
        self._read = 0
        self._causes.clear()
        self._reasons.clear()
        self._example = b""

    def drop(self, ids: set[str]) -> list[HeldLease]:
        """Those with these order ids are no longer this worker's; returns theirs."""
        dropped = [d.record for d in self.held if d.record.id in ids]
        self.held = [d for d in self.held if d.record.id not in ids]
        return dropped

    def _judge(self) -> Verdict | None:
        commonest = self._commonest()
        lead = 2 * commonest - self._read
        if lead >= _LEAD:
            return Verdict.CODE
        if lead <= -_LEAD:
            return Verdict.DATA
        if len(self.held) >= _MOST:
            return Verdict.CODE if lead > 0 else Verdict.DATA
        return None

    def _commonest(self) -> int:
        return max(self._causes.values(), default=0)

    def explain(self) -> str:
        """What was found, and what to do: some sentences."""
        unreadable = self._causes.total()
        reasons = self._reasons.most_common(_REASONS)
        found = "; ".join(f"{reason} ({count})" for (reason, _), count in reasons)
        remedies = dict.fromkeys(remedy for (_, remedy), _ in reasons if remedy)
        return (
            f"{unreadable} of {self._read} requests that were read last cannot be decoded:"
            f" {found}. {' '.join(remedies)} Example: {_show(self._example)}."
        )


def _show(payload: bytes) -> str:
    """*payload* for a message: its URL, or its beginning; escaped, no password."""
    try:
        url = fields_of(payload).get("url")
    except ValueError:
        url = None
    return ascii(quote(url, 200)[1:-1]) if isinstance(url, str) else quote(payload[:80])
