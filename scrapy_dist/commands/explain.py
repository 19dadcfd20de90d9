"""``scrapy frontier explain`` and ``recrawl``: what is known of a URL, and once more."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from scrapy_dist.admin.arguments import checked_url
from scrapy_dist.base import times
from scrapy_dist.commands import arguments, base, project
from scrapy_dist.commands.terminal.bar import Counter
from scrapy_dist.commands.terminal.text import age, clean, count
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from scrapy.settings import Settings

    from scrapy_dist.core.inspection import Explained

_EXPLAIN = """\
Tell what the frontier of SPIDER knows of URL: its fingerprint, whether it was seen, whether
this crawl starts with it, where it is now (pending, suspect, leased, failed, done, unknown),
how many requests are before it, who works on it, why it has failed.

Where a request is is found by looking through them, which takes some seconds where a
million is pending; it costs Redis little, and workers may be at work. Inside a project
requests are compared by its own fingerprints, elsewhere by Scrapy's.

Exit code: 0 the frontier knows URL, 1 it does not, 2 wrong use, Redis away."""

_RECRAWL = """\
Crawl each URL of SPIDER once more, though it was seen: a new request is pending at once. The
URL stays seen, so links to it are still duplicates; and what the page links to is filtered as
always, so that only new links are followed.

A URL that is pending or leased already is left alone, as it will be crawled anyway; --force
queues it all the same, and does not look through the requests first. The callback is the
spider's default (parse) or that of --callback; what the request had besides its URL when it
was first crawled (headers, meta, …) is not known any more.

Exit code: 0 all are queued or were pending, 1 some are being crawled now and were left alone,
2 none was queued (wrong use, Redis away)."""


def _add_explain_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser)
    parser.add_argument("url", metavar="URL", help="in full, with its scheme")


def _add_recrawl_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser)
    arguments.add_list(parser, "urls", metavar="URL", help="URL to crawl once more")
    parser.add_argument(
        "--callback",
        metavar="NAME",
        help="method of the spider that gets the response; without it parse",
    )
    parser.add_argument(
        "--priority",
        metavar="N",
        type=int,
        default=0,
        help="priority of the requests; higher ones go first; 0 without it",
    )
    parser.add_argument(
        "--force", action="store_true", help="also what is pending or leased already"
    )


async def run_explain(settings: Settings, opts: argparse.Namespace) -> int:
    crawl = project.find_crawl(settings, opts)
    url = checked_url(opts.url)
    counter = Counter("requests looked at")
    async with project.opened(crawl):
        await crawl.known_status()
        try:
            found = await crawl.explain(url, counter.update)
        finally:
            counter.close()
    if opts.json:
        base.write_json({"spider": crawl.spider, "job": crawl.job, **found.as_json()})
    else:
        base.write(*_lines(found, filters=crawl.naming.filters))
    return base.TROUBLE if found.place == "unknown" else base.OK


def _lines(found: Explained, *, filters: bool) -> list[str]:
    rows = [
        ("url", clean(found.url, 2000)),
        ("fingerprint", found.fingerprint),
        (
            "seen",
            ("yes" if found.seen else "no") if filters else "DUPEFILTER_CLASS knows",
        ),
        ("start request", "yes, of this crawl" if found.start else "no"),
        ("place", _place(found)),
    ]
    if found.found is not None:
        shown = found.found.request.as_json()
        rows.append(("request", clean(f"{shown['method']} {shown['url']}", 2000)))
        rows.append(("callback", clean(str(shown["callback"] or "parse"))))
        rows.append(("priority", clean(str(shown["priority"]))))
        if shown["deaths"]:
            rows.append(("deaths", f"{count(shown['deaths'], 'worker')} died with it"))
    for letter in found.failed:
        story = (
            f"{times.shown(times.from_ms(letter.time_ms))}, by {clean(letter.worker)},"
            f" handed out {count(letter.deliveries, 'time')}: {clean(letter.reason, 500)}"
            f" (dead letter {letter.id})"
        )
        rows.append(("failed", story))
    return [f"{name:<14} {value}" for name, value in rows]


def _place(found: Explained) -> str:
    if found.found is not None and found.found.rank is not None:
        return f"pending, {count(found.found.rank, 'request is', 'requests are')} before it"
    if found.place == "leased":
        holder = found.holder
        if holder is None:
            return "leased"
        beat = "never" if holder.silent_for is None else f"{age(holder.silent_for)} ago"
        return f"leased by {clean(holder.worker)}, which was last heard of {beat}"
    if found.found is not None and found.found.request.score == math.inf:
        return "suspect: it has failed, and waits for room among the dead letters"
    return {
        "suspect": "suspect: its worker died or left, it will be handed out again",
        "failed": "failed: it was set aside, see scrapy frontier retry",
        "done": "done: it was crawled, or is in the hands of a worker as a redirect or"
        " frontier_local request",
        "unknown": "unknown: the frontier has never met it",
    }.get(found.place, found.place)


async def run_recrawl(settings: Settings, opts: argparse.Namespace) -> int:
    crawl = project.find_crawl(settings, opts)
    if not opts.urls:
        raise ConfigurationError(
            "Which URL? For example: scrapy frontier recrawl myspider"
            " https://example.org/"
        )
    urls = [checked_url(url) for url in opts.urls]
    counter = Counter("requests looked at")
    async with project.opened(crawl, changes=True):
        try:
            done = await crawl.recrawl(
                urls,
                callback=opts.callback,
                priority=opts.priority,
                force=opts.force,
                progress=counter.update,
            )
        finally:
            counter.close()
    for each in done:
        if opts.json:
            base.write_json({"spider": crawl.spider, **asdict(each)})
            continue
        told = "queued"
        if not each.queued:
            told = f"is {each.place} already, and was left alone (see --force)"
            if each.place == "leased":
                told = "is being crawled now, and was left alone (see --force)"
        base.write(f"{clean(each.url, 2000)}: {told}")
    busy = any(each.place == "leased" for each in done)
    return base.TROUBLE if busy else base.OK


EXPLAIN = base.Subcommand(
    name="explain",
    summary="what the frontier knows of a URL",
    description=_EXPLAIN,
    example="scrapy frontier explain myspider https://example.org/page/7",
    topic="inspecting",
    add_options=_add_explain_options,
    run=run_explain,
)
RECRAWL = base.Subcommand(
    name="recrawl",
    summary="crawl URLs once more, though they were seen",
    description=_RECRAWL,
    example="scrapy frontier recrawl myspider https://example.org/page/7",
    topic="inspecting",
    add_options=_add_recrawl_options,
    run=run_recrawl,
)
