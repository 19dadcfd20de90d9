"""Delete the frontier of SPIDER: requests, fingerprints, stats, and what it knows of its
workers, so that the next worker begins a new crawl. Seeds, items, dead letters and the
records of finished crawls stay. With options only what they name is deleted.

It shows what there is and asks first; in a script say --yes. It refuses while workers live:
stop them (scrapy frontier workers SPIDER --stop all), or say --force; then they go on with
what they hold, and with its links. All goes in one moment, and without holding Redis up.

Exit code: 0 deleted, or there was nothing; 1 the answer was no; 2 refused, wrong use, Redis
away.
"""

from __future__ import annotations

import sys

from scrapy_dist.base import words
from scrapy_dist.base.escaping import escape
from scrapy_dist.base.words import clean
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, flag, option
from scrapy_dist.exceptions import ConfigurationError

_HELP = {
    "requests": "pending, leased and suspect requests",
    "dupefilter": "fingerprints: every page may be crawled again",
    "failed": "dead letters",
    "items": "items",
    "stats": "cluster-wide stats",
    "seeds": "seeds that wait",
    "history": "records of finished crawls",
    "tasks": "tasks and their results",
}

#: What counts are called that are no adjectives: one of them.
_COUNTED = {
    **{f"{one}s": one for one in ("task", "item", "seed", "stat", "worker")},
    "history": "record",
}


async def _run(crawl: project.Crawl, opts: base.Namespace) -> int:
    parts = opts.parts or ()
    status = await crawl.known_status()
    counts = await crawl.counts(status, parts)
    if status.alive and not opts.force:
        raise crawl.in_use(len(status.alive), "--force")
    sure = opts.yes or not any(counts.values())
    if not (sure or _confirm(crawl, counts)):
        base.warn("clear", "Nothing was deleted.")
        return base.TROUBLE
    cleared = await crawl.clear(*parts, force=opts.force)
    told = f"There was nothing of {clean(crawl.name)} to delete."
    if any(counts.values()):
        told = f"Deleted of {clean(crawl.name)}: {_list(counts)}."
    names = {"spider": crawl.spider, "job": crawl.job, "redis": crawl.where}
    base.tell(opts, {**names, "deleted": counts, "workers_alive": cleared.alive}, told)
    return base.OK


def _list(counts: dict[str, int]) -> str:
    return ", ".join(words.counts(counts, _COUNTED))


def _confirm(crawl: project.Crawl, counts: dict[str, int]) -> bool:
    question = f"Delete of {clean(crawl.name)} at {crawl.where}: {_list(counts)}?"
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(
            f"{question} There is no terminal to ask: say --yes to delete."
        )
    sys.stderr.write(f"{escape(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


SUBCOMMAND = base.Subcommand(
    name="clear",
    summary="delete a frontier, or parts of it",
    description=__doc__,
    example="scrapy frontier clear myspider --dupefilter --requests --yes",
    topic="inspecting",
    options=(
        *common(),
        *(
            option(
                f"--{part}",
                None,
                f"delete {meaning}",
                dest="parts",
                action="append_const",
                const=part,
            )
            for part, meaning in _HELP.items()
        ),
        flag("--yes", "do not ask"),
        flag("--force", "also while workers are alive"),
    ),
    run=project.of_crawl(_run, changes=True, older=True),
)
