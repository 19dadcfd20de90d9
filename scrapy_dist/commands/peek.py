"""``scrapy frontier peek``: the next requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.words import UNKNOWN, clean, count, number
from scrapy_dist.codec.messagepack import from_jsonable
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, flag, option, whole_number
from scrapy_dist.exceptions import BadPayload

if TYPE_CHECKING:
    from scrapy_dist.core.inspection import Shown

#: Requests shown by default.
_SHOWN = 10
#: Longest URL, callback and meta in a listing for people, in characters.
_URL, _NAME, _META = 300, 60, 1000
_HEADER = ("PRIORITY", "METHOD", "DEPTH", "CALLBACK", "URL")
_FORM = "{:>8}  {:<6}  {:>5}  {:<20}  {}"

_DESCRIPTION = f"""\
Show the next requests of SPIDER in the order in which they will be handed out: some
suspects first, if there are any (requests whose worker died), then the pending ones, one of
each slot (host) in turn.
{_SHOWN} are shown, or as many as -n says. It only reads, and loads no pickle.

Exit code: 0 shown, also if there is none; 2 wrong use, Redis away."""


async def _run(crawl: project.Crawl, opts: base.Namespace) -> int:
    status = await crawl.known_status()
    if not opts.count:
        if not opts.json:
            suspect = f", {number(status.suspect)} suspect" if status.suspect else ""
            base.write(f"{number(status.pending)} pending{suspect}; -n 0 shows none.")
        return base.OK
    shown = 0
    async for some in crawl.peek(opts.count):
        for request in some:
            if not (shown or opts.json):
                base.write(_FORM.format(*_HEADER))
            shown += 1
            lines = _lines(request, verbose=opts.verbose)
            if not base.tell(opts, request.as_json(), lines):
                return base.OK
    if not (shown or opts.json):
        base.write(
            f"Nothing of {clean(crawl.name)} is pending: {number(status.leased)} leased,"
            f" {count(status.seeds, 'seed waits', 'seeds wait')}."
        )
    return base.OK


def _lines(request: Shown, *, verbose: bool) -> list[str]:
    fields = request.as_json()
    url = clean(str(fields["url"]), _URL)
    lines = [
        _FORM.format(
            clean(str(fields["priority"]), _NAME),
            clean(str(fields["method"]), _NAME),
            UNKNOWN if request.depth is None else request.depth,
            clean(str(fields["callback"] or UNKNOWN), _NAME),
            url if request.kind == "pending" else f"{url} (suspect)",
        )
    ]
    if verbose:
        shown = ("url", "method", "priority", "callback")
        rest = {k: v for k, v in request.fields.items() if k not in shown}
        lines += [
            f"{'':10}{clean(str(name), _NAME)}: {clean(json.dumps(value), _META)}"
            for name, value in rest.items()
            if name != "headers"
        ]
        lines += [f"{'':10}{clean(line, _META)}" for line in _headers(request.fields)]
    return lines


def _headers(fields: dict[str, Any]) -> list[str]:
    try:
        found = from_jsonable(fields.get("headers", {}))
        return [
            f"{name.decode('latin-1')}: {value.decode('latin-1')}"
            for name, values in found.items()
            for value in values
        ]
    except (AttributeError, BadPayload, TypeError):
        return [f"headers: {json.dumps(fields['headers'])}"]


SUBCOMMAND = base.Subcommand(
    name="peek",
    summary="show the next requests",
    description=_DESCRIPTION,
    example="scrapy frontier peek myspider -n 20",
    topic="inspecting",
    options=(
        *common(a_line_for="request"),
        option(
            "-n",
            "N",
            f"show N requests; {_SHOWN} without it",
            dest="count",
            type=whole_number,
            default=_SHOWN,
        ),
        flag("--verbose", "show headers, meta and the other fields too"),
    ),
    run=project.of_crawl(_run),
)
