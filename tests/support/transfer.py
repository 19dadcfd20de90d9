"""Frontiers that become lines of JSON, and come out of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.codec import compact
from scrapy_dist.codec.dump_lines import dump
from scrapy_dist.core.crawl import Exported, Imported

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier


def request(name: object, **fields: Any) -> bytes:
    return b"\x01" + compact.dumps({"url": f"http://site/{name}", **fields})


async def export(frontier: Frontier, **options: Any) -> list[bytes]:
    exported = Exported()
    lines = export_lines(frontier, exported, spider="s", **options)
    found = [line async for some in lines for line in some]
    assert exported.is_whole
    return [f"{dump(line)}\n".encode() for line in found]


async def bring_in(frontier: Frontier, lines: Iterable[bytes], **more: Any) -> Imported:
    imported = Imported()
    async for _ in import_lines(frontier, lines, imported, **more):
        pass
    return imported


def kinds(lines: Iterable[bytes]) -> list[str]:
    return [json.loads(line)["type"] for line in lines]
