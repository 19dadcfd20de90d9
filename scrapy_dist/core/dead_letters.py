"""Dead letters: requests and seeds that were set aside, with the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from scrapy_dist.codec.request import fields_of
from scrapy_dist.codec.request_fields import MAX_PRIORITY
from scrapy_dist.codec.seal import NO_SEAL, Seal
from scrapy_dist.exceptions import BadPayload

_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


def is_letter_id(text: str) -> bool:
    """Whether a dead letter can have *text* as its id: two numbers of 64 bits."""
    found = _ID.fullmatch(text)
    return found is not None and max(int(found[1]), int(found[2])) < 1 << 64


@dataclass(frozen=True)
class DeadLetter:
    """A request or seed that was set aside. All of it is input from strangers."""

    id: str
    #: ``request`` or ``seed``.
    kind: str
    #: When, in ms of Redis' clock; 0: unknown.
    time_ms: int
    #: How often it had been handed out.
    deliveries: int
    #: ``host:pid`` of who set it aside.
    worker: str
    reason: str
    payload: bytes
    #: The id of its task, where that was asked for and is still known.
    task: str = ""
    #: What requests of its frontier are signed with.
    seal: Seal = field(default=NO_SEAL, repr=False, compare=False)

    @property
    def opened(self) -> bytes:
        """The payload without signature, or what nobody can decode."""
        return self.payload if self.kind == "seed" else self.seal.shown(self.payload)

    @property
    def url(self) -> str:
        """Its URL; '' if only a project's own serializer, or a pickle, could tell."""
        found = self._read().get("url")
        if type(found) is str:
            return found.strip()
        if self.kind == "seed" and self.payload.lstrip()[:1] not in (b"{", b"["):
            return self.payload.decode("utf-8", "replace").strip()
        return ""

    @property
    def priority(self) -> int:
        """Its priority as far as `url` can be read, else 0."""
        found = self._read().get("priority")
        if type(found) is int and abs(found) <= MAX_PRIORITY:
            return found
        return 0

    def _read(self) -> dict[Any, Any]:
        is_seed = self.kind == "seed"
        try:
            return fields_of(self.payload.lstrip() if is_seed else self.opened)
        except BadPayload:
            return {}


@dataclass
class Retried:
    """What `retry` did."""

    #: Put back to the pending requests, and to the seeds.
    requests: int = 0
    seeds: int = 0
    #: Letters that cannot be put back, and stay.
    unreadable: int = 0
    #: Ids of which there is no letter, or not any more.
    missing: int = 0
    #: Some of the unreadable: id and why.
    examples: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Forgotten:
    """What `forget` did."""

    deleted: int = 0
    #: Ids of which there is no letter, or not any more.
    missing: int = 0
