"""How requests looked in the formats 1 to 3: see ``lua/lib/older.lua``."""

from __future__ import annotations

import re
from typing import NamedTuple

from scrapy_dist.brokers.redis.layout import LEASED, REQUESTS, is_id

_RANK = re.compile(rb"(?s:.{8})[0-9a-fA-F]{16}")
_MEMBER = re.compile(rb"[0-9a-fA-F]{16}")
_SUSPECT = re.compile(rb"[0-9a-fA-F]{16}\d{1,15} \S+ ")
_LEASED = re.compile(rb" ([-+]?(?:inf|\d+(?:\.\d+)?(?:e[-+]?\d+)?)) \d{1,15} \S+ ")


class Older(NamedTuple):
    """A request of an older format: what its place knows it by, its score, its payload."""

    member: bytes
    score: float
    payload: bytes


def is_older_member(member: bytes) -> bool:
    """Whether *member* of S:requests or S:suspects is of an older format."""
    return not _RANK.match(member) and _MEMBER.match(member) is not None


def parse_older(
    place: int, member: bytes, value: bytes = b"", score: float = 0.0
) -> Older | None:
    """What `layout.parse` would be given, if it is of an older format; else None."""
    if place != LEASED:
        if not is_older_member(member):
            return None
        found = None if place == REQUESTS else _SUSPECT.match(member)
        at = 16 if place == REQUESTS else found.end() if found else 0
        return Older(member, score, member[at:]) if at else None
    found = _LEASED.match(value)
    at = found.end() if found else 0
    if not is_id(member) or not value.startswith(member, at):
        return None
    return Older(member, float(found[1]) if found else 0.0, value[at + 16 :])
