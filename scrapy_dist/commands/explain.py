"""``scrapy frontier explain`` and ``recrawl``: what is known of a URL, and once more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from scrapy_dist.admin.arguments import checked_url, checked_urls
from scrapy_dist.admin.urls import explain, recrawl
from scrapy_dist.base import times
from scrapy_dist.base.words import age, clean, count, number, span
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, flag, late_list, option
from scrapy_dist.commands.terminal.bar import counter
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.core.inspection import Explained

#: Seconds that are told as such.
_SHOWN_REST = 0.05

_EXPLAIN = """\
Tell what the frontier of SPIDER knows of URL: its fingerprint, whether it was seen, whether
this crawl starts with it, where it is now (pending, suspect, leased, failed, done, unknown),
how many requests of its slot (host) are before it, who works on it, why it has failed; and
of one that waits what for: whether the crawl is paused, whether anybody works, who has its
host or how long that rests, and about when it will be fetched.

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


async def _explain(crawl: project.Crawl, opts: base.Namespace) -> int:
    await crawl.known_status()
    with counter("requests looked at") as told:
        found = await explain(crawl, opts.url, told)
    base.tell(
        opts,
        {"spider": crawl.spider, "job": crawl.job, **found.as_json()},
        _lines(found, filters=crawl.naming.filters),
    )
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
        rows += _waits(found)
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
        rank, among = found.found.rank, found.found.among
        if among is not None:
            return f"pending, {number(rank)} of the {number(among)} requests of its slot are before it"
        return f"pending, {count(rank, 'request is', 'requests are')} before it"
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


def _waits(found: Explained) -> Iterator[tuple[str, str]]:
    """Why it is not fetched now, and when it will be."""
    waiting = found.waiting
    if waiting is None:
        return
    host = waiting.host
    if host is not None:
        delay = "" if not host.delay else f", one request each {span(host.delay)}"
        yield "host", f"{clean(host.name)}{delay}"
    if waiting.paused:
        yield "waits", "the crawl is paused (scrapy frontier resume)"
    if not waiting.alive:
        yield "waits", "nobody works on the crawl: start a worker"
    if host is not None and host.owners:
        has = "has" if len(host.owners) == 1 else "have"
        names = ", ".join(map(clean, host.owners))
        yield "waits", f"{names} {has} its host now, and fetches what is before it"
    elif host is not None and host.wait and host.wait >= _SHOWN_REST:
        yield "waits", f"its host rests for {age(host.wait)}"
    if host is not None and found.found is not None and found.found.among:
        place, among = number(waiting.before + 1), number(found.found.among)
        yield "waits", f"it is number {place} of the {among} of its host"
    if waiting.turn:
        have = count(waiting.turn, "host has its turn", "hosts have their turn")
        yield "waits", f"{have} before its own"
    seconds = waiting.seconds
    if seconds is not None:
        when = "next" if seconds < 1 else f"in about {age(seconds)}"
        yield "when", f"{when}, if all goes on like this"


def _check_urls(opts: base.Namespace) -> None:
    if not opts.urls:
        raise ConfigurationError(
            "Which URL? For example: scrapy frontier recrawl myspider"
            " https://example.org/"
        )
    checked_urls(opts.urls)


async def _recrawl(crawl: project.Crawl, opts: base.Namespace) -> int:
    with counter("requests looked at") as progress:
        done = await recrawl(
            crawl,
            opts.urls,
            callback=opts.callback,
            priority=opts.priority,
            force=opts.force,
            progress=progress,
        )
    for each in done:
        told = "queued"
        if not each.queued:
            told = f"is {each.place} already, and was left alone (see --force)"
            if each.place == "leased":
                told = "is being crawled now, and was left alone (see --force)"
        value = {"spider": crawl.spider, **asdict(each)}
        base.tell(opts, value, f"{clean(each.url, 2000)}: {told}")
    busy = any(each.place == "leased" for each in done)
    return base.TROUBLE if busy else base.OK


EXPLAIN = base.Subcommand(
    name="explain",
    summary="what the frontier knows of a URL",
    description=_EXPLAIN,
    example="scrapy frontier explain myspider https://example.org/page/7",
    topic="inspecting",
    options=(*common(), option("url", "URL", "in full, with its scheme")),
    run=project.of_crawl(_explain, check=lambda opts: checked_url(opts.url)),
)
RECRAWL = base.Subcommand(
    name="recrawl",
    summary="crawl URLs once more, though they were seen",
    description=_RECRAWL,
    example="scrapy frontier recrawl myspider https://example.org/page/7",
    topic="inspecting",
    options=(
        *common(),
        late_list("urls", "URL", "URL to crawl once more"),
        option(
            "--callback",
            "NAME",
            "method of the spider that gets the response; without it parse",
        ),
        option(
            "--priority",
            "N",
            "priority of the requests; higher ones go first; 0 without it",
            type=int,
            default=0,
        ),
        flag("--force", "also what is pending or leased already"),
    ),
    run=project.of_crawl(_recrawl, changes=True, check=_check_urls),
)
