"""``scrapy frontier explain`` and ``recrawl``: what is known of a URL, and once more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scrapy.http import Request

from scrapy_dist.base import times
from scrapy_dist.brokers.redis.tools import clear
from scrapy_dist.brokers.redis.views.browse import Matcher, explain, find
from scrapy_dist.codec import compact
from scrapy_dist.codec.policy import Policy
from scrapy_dist.codec.seal import Seal
from scrapy_dist.commands import arguments, base
from scrapy_dist.commands.project import Counter, load_project
from scrapy_dist.commands.status import read_known
from scrapy_dist.commands.terminal.text import age, clean, count
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from scrapy.settings import Settings

    from scrapy_dist.brokers.redis.views.browse import Explained, Found
    from scrapy_dist.commands.project import Project

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


def _url(text: str) -> str:
    try:
        Request(text)
    except ValueError as e:
        raise ConfigurationError(
            f"{clean(text)!r} is no URL ({e}). Write it in full, with its scheme, for"
            " example https://example.org/."
        ) from None
    return text


async def run_explain(settings: Settings, opts: argparse.Namespace) -> int:
    target = base.find_target(settings, opts)
    project = load_project(target)
    url = _url(opts.url)
    matcher = Matcher([url], project.fingerprint, exact=project.exact)
    counter = Counter("requests looked at")
    async with base.open_frontier(target) as frontier:
        await read_known(frontier, target)
        try:
            [found] = await explain(frontier, matcher, counter.update)
        finally:
            counter.close()
    if opts.json:
        base.write_json(
            {
                "spider": target.spider,
                "job": target.job,
                **found.as_json(),
            }
        )
    else:
        base.write(*_lines(found, filters=project.filters))
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
    target = base.find_target(settings, opts)
    if not opts.urls:
        raise ConfigurationError(
            "Which URL? For example: scrapy frontier recrawl myspider"
            " https://example.org/"
        )
    urls = list(dict.fromkeys(map(_url, opts.urls)))
    project = load_project(target)
    matcher = Matcher(urls, project.fingerprint, exact=project.exact)
    requests = {url: _new_request(url, target, project, matcher, opts) for url in urls}
    counter = Counter("requests looked at")
    async with base.open_frontier(target, changes=True) as frontier:
        await read_known(frontier, target)
        there: dict[str, Found] = {}
        if not opts.force:
            try:
                there = {
                    f.url: f async for f in find(frontier, matcher, counter.update)
                }
            finally:
                counter.close()
        new = [request for url, request in requests.items() if url not in there]
        await clear.recrawl(frontier, target.options, new)
    for url in urls:
        _report(url, there.get(url), opts)
    busy = any(found.request.kind == "leased" for found in there.values())
    return base.TROUBLE if busy else base.OK


def _report(url: str, found: Found | None, opts: argparse.Namespace) -> None:
    place = found.request.kind if found else "pending"
    if opts.json:
        base.write_json(
            {
                "spider": opts.spider,
                "url": url,
                "queued": found is None,
                "place": place,
                "before": found.rank if found else None,
            }
        )
    elif found is None:
        base.write(f"{clean(url, 2000)}: queued")
    else:
        hint = "is being crawled now" if place == "leased" else f"is {place} already"
        base.write(f"{clean(url, 2000)}: {hint}, and was left alone (see --force)")


def _new_request(
    url: str,
    target: base.Target,
    project: Project,
    matcher: Matcher,
    opts: argparse.Namespace,
) -> NewRequest:
    name = matcher.names[url] if project.filters else ""
    # Not filtered: what it is redirected to was seen as well.
    request = Request(url, priority=opts.priority, dont_filter=True)
    score = target.options.discipline.score(request)
    if not Policy.from_settings(target.settings).allows(request.url):
        raise ConfigurationError(
            f"{clean(url)}: workers read no requests of this scheme from Redis. If they"
            " are to, add it to FRONTIER_SCHEMES."
        )
    if project.codec is None:
        fields: dict[str, Any] = {"url": request.url, "priority": opts.priority}
        fields["dont_filter"] = True
        if opts.callback:
            fields["callback"] = opts.callback
        seal = Seal.from_settings(target.settings, target.keys.requests)
        payload = seal.sign(b"\x01" + compact.dumps(fields))
        return NewRequest(payload, score, name)
    if opts.callback:
        method = getattr(project.spider, opts.callback, None)
        request = request.replace(callback=method)
        if method is None:
            names = [n for n in dir(type(project.spider)) if n.startswith("parse")]
            raise ConfigurationError(
                f"The spider {target.spider!r} has no method {opts.callback!r}."
                f"{base.nearest(opts.callback, names)}"
            )
    try:
        return NewRequest(project.codec.encode(request), score, name)
    except ValueError as e:
        raise ConfigurationError(f"{clean(url)}: {e}") from None


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
