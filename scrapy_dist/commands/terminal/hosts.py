"""Hosts as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.commands.terminal import text

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
        text.clean(host.name, 80) or text.UNKNOWN,
        text.number(host.pending),
        text.number(host.leased),
        " ".join(text.clean(owner, 60) for owner in host.owners),
        text.span(host.delay),
        _next_start(host),
        text.number(host.errors),
    )


def _next_start(host: Host) -> str:
    if host.wait is None:
        return text.UNKNOWN
    return "now" if host.wait < _NOW else text.age(host.wait)


def summary(found: Hosts) -> str:
    """How many there are, and how they stand."""
    said = f"{text.number(len(found.hosts))} of {text.count(found.looked_at, 'host')}"
    if found.slots > found.looked_at:
        said += f" that were looked at, of {text.number(found.slots)}"
    said += f", {text.count(found.pending, 'pending request')}"
    if found.polite:
        said += f"; {found.owned:,} owned, {found.waiting:,} wait for their delay"
    return said
