"""URLs of a crawl: what is known of them, and crawling them once more.

*crawl* is open. All raise as the methods of `Crawl` do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from scrapy import Request

from scrapy_dist.admin.arguments import checked_priority, checked_url, checked_urls
from scrapy_dist.admin.project import plain_payload
from scrapy_dist.base.words import clean
from scrapy_dist.codec import messagepack
from scrapy_dist.codec.envelope import JSON, KINDS, MSGPACK
from scrapy_dist.codec.policy import Policy
from scrapy_dist.codec.serializers import load_serializer
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.core.inspection import Explained, Found, Recrawled
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.codec.serializers import Serializer
    from scrapy_dist.core import ports


def _no_progress(done: int, total: int) -> None:
    pass


async def explain(
    crawl: Crawl, url: str, progress: ports.Progress = _no_progress
) -> Explained:
    """What is known of *url*; looks through all requests, some 80,000 a second."""
    [explained] = await crawl.port.explain(
        [checked_url(url)],
        crawl.naming.fingerprint,
        exact=crawl.naming.exact,
        progress=progress,
        delay_of=crawl.delay_of,
    )
    found, waiting = explained.found, explained.waiting
    if found is None or waiting is None or waiting.host is None:
        return explained
    name = crawl.options.slots.name_in(found.slot, found.request.fields)
    if name is None:
        return explained
    host = replace(waiting.host, name=name)
    return replace(explained, waiting=replace(waiting, host=host))


async def recrawl(
    crawl: Crawl,
    urls: str | Iterable[str],
    *,
    callback: str | None = None,
    priority: int = 0,
    force: bool = False,
    progress: ports.Progress = _no_progress,
) -> list[Recrawled]:
    """Queue each of *urls* once more, though it was seen; what became of each.

    One that is pending, suspect or leased is left alone, unless *force*: then they are
    not looked for. *callback*: a method of the spider; None: parse.
    """
    chosen = checked_urls(urls)
    checked_priority(priority)
    await crawl.check_format()
    await crawl.known_status()
    serializer = None if crawl.project else await _serializer(crawl)
    requests = {
        url: _request(crawl, url, callback, priority, serializer) for url in chosen
    }
    there: dict[str, Found] = {}
    if not force:
        naming = crawl.naming
        finding = crawl.port.find(
            chosen, naming.fingerprint, exact=naming.exact, progress=progress
        )
        there = {found.url: found async for found in finding}
    await crawl.port.recrawl([r for url, r in requests.items() if url not in there])
    return [
        Recrawled(url, False, there[url].request.kind, there[url].rank)
        if url in there
        else Recrawled(url, True, "pending", None)
        for url in chosen
    ]


def _request(
    crawl: Crawl,
    url: str,
    callback: str | None,
    priority: int,
    serializer: Serializer | None,
) -> NewRequest:
    """A request for *url* as the workers make them; *serializer* where none is here.

    Raises ConfigurationError for one that no worker would crawl, as far as is known.
    """
    # Not filtered: what it is redirected to was seen as well.
    request = Request(url, priority=priority, dont_filter=True)
    if not Policy.from_settings(crawl.settings).allows(request.url):
        raise ConfigurationError(
            f"{clean(url)}: workers read no requests of this scheme from Redis. If they"
            " are to, add it to FRONTIER_SCHEMES."
        )
    if crawl.project is None:
        payload = plain_payload(request, callback, serializer)
        payload = crawl.port.seal.sign(payload)
    else:
        payload = crawl.project.encode(request, callback)
    return NewRequest(
        payload,
        crawl.options.discipline.score(request),
        crawl.naming.fingerprint(Request(url)) if crawl.naming.filters else "",
        slot=crawl.options.slots.number(request),
    )


async def _serializer(crawl: Crawl) -> Serializer | None:
    """What workers of *crawl* read where its spider is not known; None: MessagePack.

    SCHEDULER_SERIALIZER, or as what is there. Raises ConfigurationError if that does
    not tell.
    """
    value = crawl.settings.get("SCHEDULER_SERIALIZER")
    if value is not None:
        serializer = load_serializer(value)
        return None if serializer is messagepack else serializer
    [(kind, _)] = Counter(await crawl.port.kinds()).most_common(1) or [(MSGPACK, 0)]
    if kind == MSGPACK:
        return None
    if kind == JSON:
        return load_serializer("json")
    raise ConfigurationError(
        f"Each request of this crawl is {KINDS.get(kind, 'of an unknown kind')}, and its"
        " workers read no others. Do this in their project, or name the"
        " SCHEDULER_SERIALIZER that they have (-s SCHEDULER_SERIALIZER=MODULE)."
    )
