"""Hosts as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base import words

if TYPE_CHECKING:
    from scrapy_dist.core.hosts import Host, Hosts

COLUMNS = ("HOST", "PENDING", "IN FLIGHT", "OWNER", "DELAY", "NEXT", "ERRORS")
#: Those with names, to the left.
LEFT = ("HOST", "OWNER")

#: Seconds below which a worker may get a host now.
_NOW = 0.05


def cells(host: Host) -> tuple[str, ...]:
    """What each column has of *host*."""
    return (
        words.clean(host.name, 80) or words.UNKNOWN,
        words.number(host.pending),
        words.number(host.leased),
        " ".join(words.clean(owner, 60) for owner in host.owners),
        words.span(host.delay),
        _next_start(host),
        words.number(host.errors),
    )


def _next_start(host: Host) -> str:
    if host.wait is None:
        return words.UNKNOWN
    return "now" if host.wait < _NOW else words.age(host.wait)


def summary(found: Hosts) -> str:
    """How many there are, and how they stand."""
    said = f"{words.number(len(found.hosts))} of {words.count(found.looked_at, 'host')}"
    if found.slots > found.looked_at:
        said += f" that were looked at, of {words.number(found.slots)}"
    said += f", {words.count(found.pending, 'pending request')}"
    if found.polite:
        said += f"; {found.owned:,} owned, {found.waiting:,} wait for their delay"
    return said
