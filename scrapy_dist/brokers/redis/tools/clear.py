"""What people change in a frontier: requests queued once more, parts of it deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis import fingerprints
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import batches, encode_score
from scrapy_dist.brokers.redis.version import check_seal
from scrapy_dist.core.crawl import FRONTIER, Cleared
from scrapy_dist.core.frontier import BATCH

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.core.frontier import NewRequest

#: Parts of a frontier that can be cleared, and the keys (fields of ``Keys``) of each;
#: the fingerprints and the seeds go with ``dupefilter`` and ``seeds``.
_KEYS: dict[str, tuple[str, ...]] = {
    "requests": ("requests", "suspects", "leases", "leased", "slots"),
    "dupefilter": ("started",),
    "failed": ("failed",),
    "items": ("items",),
    "stats": ("stats",),
    "seeds": (),
    "history": ("history",),
    "tasks": ("tasks", "results", "tasks_ended"),
}
#: Of which tasks all is deleted with a part: the letters of their states.
_TASKS = {FRONTIER: "r", "requests": "r", "seeds": "q"}
#: Of what a worker with SCHEDULER_FLUSH_ON_START deletes.
_FRONTIER_KEYS = (
    *_KEYS["requests"],
    *("resting", "politeness", "workers", "state", "stats", "started", "control"),
)


async def clear(
    frontier: Frontier, parts: Sequence[str], *, force: bool = False
) -> Cleared:
    """Delete, see `ports.Crawl.clear`; Redis frees the memory in the background."""
    names = [n for part in parts for n in _KEYS.get(part, _FRONTIER_KEYS)]
    keys = [getattr(frontier.keys, name) for name in dict.fromkeys(names)]
    if "seeds" in parts:
        keys += frontier.seed_keys
    seen = FRONTIER in parts or "dupefilter" in parts
    with asking():
        alive, done, now = await frontier.run(
            "clear",
            parts=keys,
            force=int(force),
            seen=int(seen),
            rests=int("requests" in parts and FRONTIER not in parts),
        )
        states = "".join({_TASKS.get(part, "") for part in parts})
        # Those of which there was something only before now.
        at = 0 if done and states else -1
        while at >= 0:
            at, _ = await frontier.run(
                "cancel_living", states=states, until_ms=now, at=at, most=BATCH
            )
        if done and seen:
            await fingerprints.sweep(frontier)
    return Cleared(alive, bool(done))


async def recrawl(frontier: Frontier, requests: Sequence[NewRequest]) -> None:
    """Queue again, see `ports.Crawl.recrawl`."""
    await check_seal(frontier.client, frontier.keys.state, frontier.seal, writes=True)
    k = frontier.keys
    with asking():
        compacted = await fingerprints.shape_of(frontier) is not None
    for some in batches(requests):
        args: list[str | bytes | float] = []
        for request in some:
            # Compact ones need their bucket: they come behind, at worst too late.
            name = "" if compacted else request.fingerprint
            args += (name, encode_score(request.score), request.slot, request.payload)
        seen = k.started if compacted else k.dupefilter
        with asking():
            await frontier.run("recrawl", seen=seen, new=args)
            if compacted:
                names = [request.fingerprint for request in some if request.fingerprint]
                await fingerprints.add(frontier, names)
