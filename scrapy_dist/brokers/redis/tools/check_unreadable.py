"""What nobody can read in a frontier, and whether it is the code that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.layout import LEASED, REQUESTS, SUSPECTS, Entry, scan
from scrapy_dist.codec.envelope import PICKLE, SEED
from scrapy_dist.codec.policy import POLICY
from scrapy_dist.core.findings import UNREADABLE, Finding, Report
from scrapy_dist.exceptions import BadPayload

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier

#: Requests unreadable for one reason from which on it may be the code that is wrong.
_LEAST = 10
#: The worker that dead letters of a check name.
_WHO = "scrapy frontier check"


def import_command(spider: str) -> str:
    """What takes over the requests of scrapy-redis."""
    return (
        f"scrapy frontier import {spider} --from-scrapy-redis {spider} --allow-pickle"
    )


class Unreadable:
    """Counts in *report* what cannot be read of *frontier*; *decode* raises BadPayload."""

    def __init__(
        self,
        frontier: Frontier,
        report: Report,
        decode: Callable[[bytes], object],
        spider: str,
    ) -> None:
        self._frontier = frontier
        self._report = report
        self._decode = decode
        self._spider = spider
        self._decoded = 0
        #: Why requests cannot be read: how often, and what helps then.
        self._causes: Counter[str] = Counter()
        self._remedies: dict[str, str] = {}

    async def report_in(self, entries: list[Entry]) -> list[Entry]:
        """Those of the right form; the others are reported.

        They are mended at the end, when it is known how many there are.
        """
        for kind, bad in self._of(entries).items():
            await self._set_some_aside(kind, bad, mend=False)
        return [entry for entry in entries if not entry.flaw]

    def _of(self, entries: list[Entry]) -> dict[str, list[tuple[Entry, str]]]:
        """Those of *entries* that nobody can read, and why, by kind."""
        flawed = [(entry, entry.flaw) for entry in entries if entry.flaw]
        for entry, _ in flawed:
            self._count_cause(entry, BadPayload(cause="form"))
        undecodable = []
        for entry in entries:
            if entry.flaw or entry.payload[:1] == SEED:
                continue
            try:
                self._decode(entry.payload)
            except BadPayload as e:
                undecodable.append((entry, str(e)))
                self._count_cause(entry, e)
            else:
                self._decoded += 1
        found = {"unreadable_member": flawed, "unreadable_payload": undecodable}
        return {kind: bad for kind, bad in found.items() if bad}

    def _count_cause(self, entry: Entry, error: BadPayload) -> None:
        cause, remedy = error.cause, error.remedy
        if entry.flaw and entry.place == REQUESTS and entry.whole[:1] == PICKLE:
            cause = "scrapy-redis"
            remedy = (
                "They are of scrapy-redis. Stop the workers and import them:"
                f" {import_command(self._spider)}."
            )
        self._causes[cause] += 1
        self._remedies.setdefault(cause, remedy)

    def is_code_wrong(self) -> bool:
        """Whether one mistake in the code or the settings explains most of it.

        As workers judge, see worker/doubts.py; a note says then what helps.
        """
        causes = [(n, cause) for cause, n in self._causes.items() if cause != POLICY]
        number, cause = max(causes, default=(0, ""))
        seen = self._decoded + self._causes.total()
        if number < _LEAST or 2 * number <= seen:
            return False
        remedy = self._remedies[cause] or (
            "See SCHEDULER_SERIALIZER, FRONTIER_REQUEST_CLASSES and the names of the"
            " spider's callbacks, or check it in its project."
        )
        self._report.note(
            f"{number:,} of {seen:,} requests cannot be read for one and the same reason,"
            " so it is the code or a setting that is wrong, and the requests are sound:"
            f" they stay where they are. {remedy}"
        )
        return True

    async def _set_some_aside(
        self, kind: str, entries: Sequence[tuple[Entry, str]], *, mend: bool
    ) -> None:
        args: list[str | bytes | int] = []
        for entry, reason in entries:
            digest = sha1(entry.whole, usedforsecurity=False).hexdigest()
            args += (entry.place, entry.member, digest)
            args += (entry.stored_at + 1, entry.deliveries, reason)
        reply = await self._frontier.run(
            "check_unreadable",
            mend=int(mend),
            worker_name=_WHO,
            max_payload=self._frontier.max_payload,
            entries=args,
        )
        for (entry, reason), state in zip(entries, reply, strict=True):
            if state:
                is_mended = mend and state == 1
                self._report.findings[kind].add(f"{entry}: {reason}", mended=is_mended)
            if state == 2:
                self._report.note(
                    f"{self._frontier.keys.failed} is full, so entries that cannot be read stay"
                    f" where they are. Look through it and empty it, or raise"
                    f" FRONTIER_FAILED_LIMIT ({self._frontier.failed_limit})."
                )

    async def set_aside(self) -> None:
        """Look through all once more, and make dead letters of it."""
        if not self._causes:
            return
        for kind in UNREADABLE:
            self._report.findings[kind] = Finding(kind)
        for place in (REQUESTS, SUSPECTS, LEASED):
            async for batch in scan(self._frontier.client, self._frontier.keys, place):
                for kind, bad in self._of(batch).items():
                    await self._set_some_aside(kind, bad, mend=True)
