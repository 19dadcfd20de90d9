"""How the hosts of a crawl stand, or what else FRONTIER_SLOT lets take turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: By what hosts can be sorted, the largest first.
SORTS = ("pending", "delay", "errors")


@dataclass(frozen=True)
class Host:
    """One slot, by the *name* that FRONTIER_SLOT gives it; '#' and its number if unknown.

    *leased* requests are in the hands of workers, *errors* are dead letters. In a polite
    crawl *owners* are the workers that may ask it now; elsewhere all may, and there are
    none. *delay*: seconds between two starts, for all workers together; None: each worker
    has its own. *wait*: seconds until a worker may get it; None: when its owners let it go.
    """

    name: str
    slot: float
    pending: int = 0
    leased: int = 0
    owners: tuple[str, ...] = ()
    delay: float | None = None
    wait: float | None = 0.0
    errors: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "host": self.name,
            "pending": self.pending,
            "leased": self.leased,
            "owners": list(self.owners),
            "delay": self.delay,
            "next_start": None if self.wait is None else round(self.wait, 3),
            "errors": self.errors,
        }


@dataclass(frozen=True)
class Hosts:
    """The first *hosts* of those that were *looked_at*.

    *slots* have requests that wait, or an owner: of these some are *waiting* for a time,
    others are *owned*. *pending*: requests of all of them. *polite*: delays and places
    hold for all workers together.
    """

    hosts: tuple[Host, ...]
    slots: int
    looked_at: int
    waiting: int
    owned: int
    pending: int
    polite: bool

    @property
    def rest(self) -> int:
        """Pending requests of other hosts."""
        return max(0, self.pending - sum(host.pending for host in self.hosts))

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "hosts": [host.as_json() for host in self.hosts]}


#: Those of a crawl that has no requests.
NO_HOSTS = Hosts((), 0, 0, 0, 0, 0, polite=False)
