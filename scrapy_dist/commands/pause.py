"""``scrapy frontier pause`` and ``resume``."""

from __future__ import annotations

from functools import partial

from scrapy_dist.base import words
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common

_PAUSE = """\
Let the workers of SPIDER take no more requests and no seeds, within a second, until
"scrapy frontier resume". They finish what they hold, stay, and keep their sessions;
nothing is lost. Workers that start meanwhile wait too. It may be said twice.

Exit code: 0 done, 2 not."""

_RESUME = """\
Let the workers of SPIDER go on after "scrapy frontier pause". It may be said twice.

Exit code: 0 done, 2 not."""


async def _run(crawl: project.Crawl, opts: base.Namespace, *, pause: bool) -> int:
    done = await crawl.pause(pause)
    value = {
        "spider": crawl.spider,
        "job": crawl.job,
        "redis": crawl.where,
        "paused": pause,
        "paused_before": done.before,
        "workers_alive": done.alive,
    }
    base.tell(
        opts, value, sentence(crawl.name, done.alive, pause=pause, before=done.before)
    )
    return base.OK


def sentence(name: str, alive: int, *, pause: bool, before: bool) -> str:
    """What a pause, or its end, means for the crawl *name* with *alive* workers."""
    who, verbs = words.count(alive, "worker"), "finish what they hold and take no more"
    if alive == 1:
        verbs = "finishes what it holds and takes no more"
    elif not alive:
        who, verbs = "nobody works on it", "now; workers that start will wait"
    if pause:
        return (
            f"{name} {'was paused already' if before else 'is paused'}: {who} {verbs}."
        )
    return f"{name} {'goes on' if before else 'was not paused'}: {who}."


def _subcommand(name: str, summary: str, description: str) -> base.Subcommand:
    return base.Subcommand(
        name=name,
        summary=summary,
        description=description,
        example=f"scrapy frontier {name} myspider",
        topic="watching",
        options=common(),
        run=project.of_crawl(partial(_run, pause=name == "pause"), changes=True),
    )


PAUSE = _subcommand("pause", "let the workers take no more requests", _PAUSE)
RESUME = _subcommand("resume", "let them go on", _RESUME)
