"""Moments as Redis keeps them, and as programs and people read them.

They are kept in UTC, for workers may be anywhere; whoever looks reads them by the clock of
this machine.
"""

from __future__ import annotations

from datetime import datetime, timezone


def from_ms(ms: float | None) -> datetime | None:
    """The moment *ms* milliseconds after 1970; None: nobody knows, or it is no time."""
    if not ms or ms < 0:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, timezone.utc)
    except (OSError, OverflowError, ValueError):
        return None


def iso(time: datetime | None) -> str | None:
    """ISO 8601 for programs, in UTC to the millisecond: 2026-11-21T09:15:02.123Z."""
    if time is None:
        return None
    text = time.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def shown(time: datetime | None, now: datetime | None = None) -> str:
    """For people who look *now*, by the clock of this machine, to the second.

    ``09:15:02`` is today, ``2026-11-20 09:15:02`` another day, ``-`` nobody knows when.
    """
    if time is None:
        return "-"
    try:
        here = time.astimezone()
        today = (now or datetime.now(timezone.utc)).astimezone().date()
    except (OSError, OverflowError, ValueError):  # the ends of the calendar
        return logged(time)
    return f"{here:%H:%M:%S}" if here.date() == today else f"{here:%Y-%m-%d %H:%M:%S}"


def logged(time: datetime | None) -> str:
    """For lines that are read later, elsewhere: in UTC, 2026-11-21 09:15:02Z, or -."""
    if time is None:
        return "-"
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}Z"
