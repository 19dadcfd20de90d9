"""Check that a frontier in Redis is whole, and mend it.

What a torn file or a human hand breaks: see ``findings.KINDS``. A check goes through the
structures with cursors, some hundred entries at a time, while workers may be at work.
Whatever looks wrong is looked at once more inside one script, together with its mending:
what workers move under a check is no finding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import quote
from scrapy_dist.base.words import count, span
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.keys import SETTINGS
from scrapy_dist.brokers.redis.layout import (
    LEASED,
    LEASES,
    PLACES,
    RANK,
    REQUESTS,
    SUSPECTS,
    Entry,
    IdsSeen,
    batches,
    check_form,
    is_id,
    order_of,
    scan,
    scan_hash,
    scan_zset,
)
from scrapy_dist.brokers.redis.tools.check_tasks import wrong_tasks
from scrapy_dist.brokers.redis.tools.check_unreadable import Unreadable, import_command
from scrapy_dist.brokers.redis.types import OF_SEEDS, types_of
from scrapy_dist.brokers.redis.version import check_format, check_seal
from scrapy_dist.core.findings import KINDS, Counts, Finding, Report
from scrapy_dist.core.frontier import BATCH

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier

#: Members that prove an order id to be in use, in one script call.
_PROOFS = 10
#: Fields of S:state and S:control, in front of ``:`` and the number of a worker.
_TRACES = frozenset(
    b"worker commit since beat strange round process format stop busy".split()
)


async def check(
    frontier: Frontier,
    *,
    repair: bool = False,
    decode: Callable[[bytes], object] | None = None,
    spider: str = "SPIDER",
) -> Report:
    """Check, see `ports.Crawl.check`, a frontier that may be in use.

    *spider*: its name, for commands. Memory hardly grows with the frontier (100 bytes for
    the ids of a commit). About a second for 40,000 requests. Raises RedisUnavailable, and
    ConfigurationError for a format that this version does not know.
    """
    await check_format(frontier.client, frontier.keys)
    await check_seal(frontier.client, frontier.keys.state, frontier.seal)
    with asking("the check is not complete"):
        decode = decode or (lambda payload: check_form(frontier.seal.open(payload)))
        return await _Check(frontier, repair, decode, spider).run()


class _Check:
    """One run over one frontier."""

    def __init__(
        self,
        frontier: Frontier,
        repair: bool,
        decode: Callable[[bytes], object],
        spider: str,
    ) -> None:
        self._frontier = frontier
        self._client = frontier.client
        self._keys = frontier.keys
        self._repair = repair
        #: Whether fingerprints are in buckets (see buckets.py).
        self._is_compact = False
        self._report = Report({kind: Finding(kind) for kind in KINDS})
        self._spider = spider
        self._unreadable = Unreadable(frontier, self._report, decode, spider)
        #: What the order counter is known to be at least; as it was when it was behind.
        self._order = -1
        self._counter = ""
        #: Suspects that have failed, while there is no room for their letters.
        self._waiting = 0
        self._ids = IdsSeen()
        #: Order ids that more than one request seems to have.
        self._twice: set[bytes] = set()

    async def run(self) -> Report:
        if await self._check_types():
            await self._check_counter(0, [])
            async for batch in scan(self._client, self._keys, LEASED):
                await self._check_leased(batch)
            async for ids in scan_zset(self._client, self._keys.leases):
                await self._check_leases(ids)
            for place in (REQUESTS, SUSPECTS):
                async for batch in scan(self._client, self._keys, place):
                    await self._check_pending(place, batch)
            if self._twice:
                await self._check_twice()
            await self._check_slots()
            self._report.code_is_wrong = self._unreadable.is_code_wrong()
            if self._repair and not self._report.code_is_wrong:
                await self._unreadable.set_aside()
            async for task, there in wrong_tasks(self._frontier, mend=self._repair):
                told = f"{_show(task.id.encode())}: {task.open} to do, {there} there"
                self._found("wrong_task_count", told)
            await self._check_workers()
            self._report.counts = await self._count()
            self._add_notes(self._report.counts)
        found = self._report.findings.items()
        self._report.findings = {kind: each for kind, each in found if each.count}
        return self._report

    def _found(self, kind: str, example: str) -> None:
        self._report.findings[kind].add(example, mended=self._repair)

    async def _call(self, script: str, **values: Any) -> Any:
        return await self._frontier.run(script, mend=int(self._repair), **values)

    # Keys

    async def _check_types(self) -> bool:
        """Whether the rest can be checked."""
        types = await types_of(self._frontier)
        usable = True
        wrong = []
        for name, setting, needed in SETTINGS:
            key = getattr(self._keys, name)
            kind = types[key]
            if kind == "hash" and name == "dupefilter":
                self._is_compact = True
            elif kind not in ("none", needed):
                usable = usable and name in ("dupefilter", "started", "stats", "items")
                remedy = f"delete or rename it, or set {setting} to another name"
                if (name, kind) == ("requests", "list"):
                    # Of its FifoQueue or LifoQueue.
                    remedy = f"if it is of scrapy-redis, {import_command(self._spider)}"
                wrong.append(f"{key} is a {kind} and must be a {needed}: {remedy}")
        wrong += [
            f"{key} is a {types[key]}; seeds are read from a list, a set or a sorted set:"
            " delete or rename it, or name another key in redis_key or"
            " REDIS_START_URLS_KEY"
            for key in self._frontier.seed_keys
            if types[key] not in ("none", *OF_SEEDS)
        ]
        for example in wrong:
            self._report.findings["wrong_type"].add(example, mended=False)
        if not usable:
            self._report.note(
                "Nothing else was checked, because of the keys of a wrong type."
            )
        outlive = ("failed", "stats", "items")
        self._report.exists = any(
            types[key] != "none"
            for name, key in vars(self._keys).items()
            if name not in outlive
        )
        return usable

    # Leases

    async def _check_leased(self, batch: list[Entry]) -> None:
        readable = await self._unreadable.report_in(batch)
        owners = await self._owners(readable)
        ids = [e.id for e, owner in zip(readable, owners, strict=True) if owner is None]
        for at in await self._call("check_leased", ids=ids) if ids else []:
            self._found("payload_without_lease", ids[at].decode())

    async def _owners(self, entries: list[Entry]) -> list[float | None]:
        ids = [entry.id for entry in entries]
        return await self._client.zmscore(self._keys.leases, ids) if ids else []

    async def _check_leases(self, ids: list[bytes]) -> None:
        await self._check_counter(LEASES, [id_ for id_ in ids if is_id(id_)])
        found = await self._call("check_leases", ids=ids)
        kinds = {1: "lease_without_payload", 2: "lease_of_unknown_worker"}
        for at, kind, worker in zip(*[iter(found)] * 3, strict=True):
            self._found(kinds[kind], f"{_show(ids[at])} of {_show(worker)}")

    # Pending and suspects

    async def _check_pending(self, place: int, batch: list[Entry]) -> None:
        entries = await self._unreadable.report_in(batch)
        members = [entry.member for entry in entries]
        await self._check_counter(place, members)
        self._twice.update(e.id for e in entries if not self._ids.add(e.id))
        if place == REQUESTS:
            # Suspects are few, and each may be pending as well.
            owners = await self._owners(entries)
            members = [m for m, o in zip(members, owners, strict=True) if o is not None]
        if not members:
            return
        found = await self._call("check_pending", place=place, members=members)
        for at, kind in zip(*[iter(found)] * 2, strict=True):
            id_ = members[at][8:RANK]
            if kind == 1:
                self._found("in_two_places", f"{id_.decode()} in {PLACES[place]}")
            else:
                self._twice.add(id_)

    async def _check_twice(self) -> None:
        """Compare the requests behind order ids that were seen more than once."""
        first: dict[bytes, Entry] = {}
        for place in (LEASED, REQUESTS, SUSPECTS):
            async for batch in scan(self._client, self._keys, place):
                entries = [e for e in batch if not e.flaw and e.id in self._twice]
                # Copies are no clash: it moves, or comes twice, or _check_pending saw it.
                clashes = [
                    e for e in entries if first.setdefault(e.id, e).payload != e.payload
                ]
                args = [
                    part for e in clashes for part in (*_name(first[e.id]), *_name(e))
                ]
                for at in await self._call("check_twice", twins=args) if args else ():
                    self._found("order_id_twice", str(clashes[at]))

    async def _check_slots(self) -> None:
        after = b""
        while True:
            after, *found = await self._call("check_slots", after=after, most=BATCH)
            for slot, pending in zip(found[::2], found[1::2], strict=True):
                self._found("slot_without_turn", f"{_show(slot)}, {pending:,} pending")
            if not after:
                break
        at = 0
        while at >= 0:
            at, *found = await self._call("check_seats", at=at, most=BATCH)
            for name, owner in zip(found[::2], found[1::2], strict=True):
                example = f"{_show(name)} of {_show(owner)}"
                self._found("slot_of_unknown_worker", example)

    async def _check_counter(self, place: int, members: list[bytes]) -> None:
        """Compare the order counter with the ids of *members*."""
        ids = members if place == LEASES else [member[8:RANK] for member in members]
        orders = [*zip(map(order_of, ids), members, strict=True)]
        need = max((order for order, _ in orders), default=0)
        if need <= self._order:
            return
        k = self._keys
        # Workers may have raised it: it counts only if it is behind what it gave out.
        self._order = _number(await self._client.hget(k.state, "order"))
        if need <= self._order:
            return
        proofs = sorted(orders, reverse=True)[:_PROOFS]
        args = [arg for n, m in proofs if n > self._order for arg in (place, m)]
        behind, counter = await self._call("check_order", least=need, proofs=args)
        if behind:
            # Found again as higher ids come; mended each time, and one thing all the same.
            self._counter = self._counter or _show(counter) or "missing"
            self._report.findings["order_behind"] = Finding("order_behind")
            self._found("order_behind", f"it was {self._counter}, {need} is in use")
            self._order = need

    # Workers

    async def _check_workers(self) -> None:
        numbers: set[bytes] = set()
        for key in (self._keys.state, self._keys.control):
            async for batch in scan_hash(self._client, key):
                for name, _ in batch:
                    kind, colon, number = name.partition(b":")
                    if colon and kind in _TRACES:
                        numbers.add(number)
        async for names in scan_zset(self._client, self._keys.workers):
            numbers.update(names)
        for names in batches(sorted(numbers)):
            await self._check_numbers(names)

    async def _check_numbers(self, numbers: list[bytes]) -> list[int]:
        alive, silent, *found = await self._call("check_workers", numbers=numbers)
        for at in found:
            self._found("unknown_worker", _show(numbers[at]))
        return [alive, silent]

    # The end

    async def _count(self) -> Counts:
        k = self._keys
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(k.requests)
            pipeline.zcard(k.suspects)
            pipeline.zcard(k.leases)
            pipeline.xlen(k.failed)
            pipeline.zcount(k.suspects, "+inf", "+inf")
            if not self._report.findings["wrong_type"].count:
                if self._is_compact:
                    pipeline.hget(k.dupefilter, "count")
                else:
                    pipeline.scard(k.dupefilter)
            sizes = await pipeline.execute()
        seen = int(sizes[5] or 0) if len(sizes) > 5 else 0
        pending, suspect, leased, failed, waiting = sizes[:5]
        self._waiting = int(waiting) if failed >= self._frontier.failed_limit else 0
        alive_and_silent = await self._check_numbers([])
        return Counts(pending, suspect, leased, failed, seen, *alive_and_silent)

    def _add_notes(self, counts: Counts) -> None:
        if counts.silent:
            self._report.note(
                f"{count(counts.silent, 'worker has', 'workers have')} been silent"
                f" for more than {span(self._frontier.ttl_ms / 1000)}; a living one takes over"
                " what was leased."
            )
        waiting = self._waiting
        if waiting:
            self._report.note(
                f"{waiting:,} of the suspects have failed, and {self._keys.failed} is full"
                f" (FRONTIER_FAILED_LIMIT, {self._frontier.failed_limit}): retry or forget"
                " dead letters, or raise the limit."
            )
        # Beside what waits, there may be nothing for a worker to do.
        left = counts.pending + counts.suspect + counts.leased - waiting
        if left and not counts.alive and not self._report.code_is_wrong:
            self._report.note("No worker is alive: start one, and the crawl continues.")


def _name(entry: Entry) -> tuple[int, bytes]:
    """What check_twice.lua knows *entry* by."""
    if entry.place == LEASED:
        return LEASES, entry.id
    return entry.place, entry.member


def _number(value: bytes | str | None) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return -1


def _show(text: bytes) -> str:
    return quote(text[:40].decode("utf-8", "backslashreplace"))[1:-1]
