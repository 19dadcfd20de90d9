"""How hosts stand. Only reads, a hundred at a time, and a bounded number of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import LEASED, REQUESTS, batches, parse
from scrapy_dist.brokers.redis.views.dead_letters import list_failed
from scrapy_dist.codec.request import fields_of
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.core.hosts import Host, Hosts
from scrapy_dist.exceptions import BadPayload

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.core.slots import Slots

#: Leases that are looked at, at the most.
_LEASES = 10_000
#: Requests that are read at once for the names of their hosts.
_NAMES = 10
#: Largest request that is decoded, in bytes.
_MAX_SHOWN = 65_536
#: Fields of the reply of ``hosts.lua`` in front of the hosts.
_HEAD = 5


async def read_hosts(
    frontier: Frontier,
    slots: Slots,
    count: int,
    *,
    sort: str = "pending",
    look: int,
    letters: int,
    delay_of: Callable[[int], float | None],
) -> Hosts:
    """See `ports.Crawl.hosts`."""
    looked = _Looked(frontier, delay_of)
    with asking():
        await looked.read_slots(look)
        in_turn = list(looked.hosts.values())
        await looked.read_leases()
        if letters:
            await looked.read_letters(slots, letters)
        missing = (looked.leased.keys() | looked.errors.keys()) - looked.hosts.keys()
        for some in batches(sorted(missing)):
            await looked.read(more=some)
        everywhere = looked.hosts.keys() | missing
        hosts = sorted(map(looked.whole, everywhere), key=_SORTS[sort])
        hosts = [h for h in hosts if h.pending or h.leased or h.errors or h.owners]
        shown = await looked.named(slots, hosts[:count])
    total, waiting, owned, pending, polite = looked.head
    # A seat counts like a slot where they are too many to be told apart.
    if total <= look:
        total = len(in_turn)
        owned = sum(bool(host.owners) for host in in_turn)
        waiting = sum(bool(host.wait) and not host.owners for host in in_turn)
    return Hosts(
        hosts=tuple(shown),
        slots=total,
        looked_at=len(hosts),
        waiting=waiting,
        owned=owned,
        pending=pending,
        polite=bool(polite),
    )


_SORTS: dict[str, Callable[[Host], tuple[float, ...]]] = {
    "pending": lambda host: (-host.pending, -host.leased, host.slot),
    "delay": lambda host: (-(host.delay or 0), -(host.wait or 0), -host.pending),
    "errors": lambda host: (-host.errors, -host.pending, host.slot),
}


async def read_host(
    frontier: Frontier, slot: float, delay_of: Callable[[int], float | None]
) -> tuple[Host, int, int]:
    """The slot itself, without its name; how many there are, and those that are ready.

    Those may be asked now, and no worker has them.
    """
    looked = _Looked(frontier, delay_of)
    await looked.read(more=[slot])
    await looked.read_leases()
    total, waiting, owned, _, _ = looked.head
    return looked.whole(slot), total, max(0, total - waiting - owned)


@dataclass
class _Looked:
    """What was seen so far: hosts by the numbers of their slots."""

    frontier: Frontier
    delay_of: Callable[[int], float | None]
    hosts: dict[float, Host] = field(default_factory=dict)
    leased: Counter[float] = field(default_factory=Counter)
    errors: Counter[float] = field(default_factory=Counter)
    #: Order ids of leases, and fields of dead letters, one of each slot.
    ids: dict[float, bytes] = field(default_factory=dict)
    fields: dict[float, dict[Any, Any]] = field(default_factory=dict)
    head: Sequence[int] = (0,) * _HEAD

    def whole(self, slot: float) -> Host:
        host = self.hosts.get(slot) or Host(f"#{_number(slot)}", slot)
        return replace(host, leased=self.leased[slot], errors=self.errors[slot])

    async def read_slots(self, look: int) -> None:
        """All slots; of more than *look* the last half, and those of requests at random.

        A host of many requests is among the latter, and those that are worked on now are
        the last ones.
        """
        await self.read(most=min(BATCH, look))
        total = self.head[0]
        first, most = BATCH, min(look, total)
        if total > look:
            first, most = max(BATCH, total - look // 2), total
            for done in range(0, look // 2, BATCH):
                await self.read(random=min(BATCH, look // 2 - done))
        for at in range(first, most, BATCH):
            await self.read(at=at, most=min(BATCH, most - at))

    async def read(
        self, *, at: int = 0, most: int = 0, random: int = 0, more: Iterable[float] = ()
    ) -> None:
        raw = await self.frontier.run(
            "hosts", at=at, most=most, random=random, more=[*map(_number, more)]
        )
        self.head = raw[:_HEAD]
        for number, pending, delay, wait, *owners in raw[_HEAD:]:
            slot = float(number)
            usual = self.delay_of(int(slot)) if slot.is_integer() else None
            self.hosts[slot] = Host(
                name=f"#{_number(slot)}",
                slot=slot,
                pending=pending,
                owners=tuple(
                    dict.fromkeys(o.decode("utf-8", "replace") for o in owners)
                ),
                delay=int(delay) / 1000 if delay else usual,
                wait=None if wait < 0 else wait / 1000,
            )

    async def read_leases(self) -> None:
        for at in range(0, _LEASES, BATCH):
            total, *found = await self.frontier.run("hosts_leased", at=at, most=BATCH)
            for slot, id_ in zip(map(float, found[::2]), found[1::2], strict=True):
                self.leased[slot] += 1
                self.ids[slot] = id_
            # Seeds are left out, so a page may be short.
            if at + BATCH >= total:
                return

    async def read_letters(self, slots: Slots, most: int) -> None:
        done = 0
        async for letter in list_failed(self.frontier):
            fields: dict[Any, Any] = {"url": letter.url}
            if letter.kind == "request":
                fields = _fields(letter.opened) or fields
            slot = float(slots.number_of_fields(fields))
            self.errors[slot] += 1
            self.fields[slot] = fields
            done += 1
            if done == most:
                return

    async def named(self, slots: Slots, hosts: Sequence[Host]) -> list[Host]:
        """*hosts* by their names, as their first requests tell them."""
        found = []
        for some in batches(hosts, _NAMES):
            numbers = [_number(host.slot) for host in some]
            firsts = await self.frontier.run("peek", at=0, most=1, slots=numbers)
            for host, first in zip(some, firsts, strict=True):
                payload = await self._payload(host, first)
                fields = _fields(self.frontier.seal.shown(payload))
                name = slots.name_in(host.slot, fields)
                if name is None:
                    name = slots.name_in(host.slot, self.fields.get(host.slot, {}))
                found.append(host if name is None else replace(host, name=name))
        return found

    async def _payload(self, host: Host, first: Sequence[bytes]) -> bytes:
        if first:
            return parse(REQUESTS, first[0]).payload
        id_ = self.ids.get(host.slot)
        key, client = self.frontier.keys.leased, self.frontier.client
        if id_ is None or await client.hstrlen(key, id_) > _MAX_SHOWN:
            return b""
        value = await client.hget(key, id_)
        return parse(LEASED, id_, value).payload if value else b""


def _number(slot: float) -> str:
    return f"{slot:.0f}" if slot.is_integer() else repr(slot)


def _fields(payload: bytes) -> dict[Any, Any]:
    if len(payload) > _MAX_SHOWN:
        return {}
    try:
        return fields_of(payload)
    except BadPayload:
        return {}
