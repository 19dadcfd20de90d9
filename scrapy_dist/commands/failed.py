"""``scrapy frontier failed``, ``retry`` and ``forget``: look after the dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy.utils.project import inside_project

from scrapy_dist import connection
from scrapy_dist.admin.seeding import kind_of_new_key
from scrapy_dist.base import times
from scrapy_dist.brokers.redis.tools import dead_letters
from scrapy_dist.commands import arguments, base
from scrapy_dist.commands.terminal.text import UNKNOWN, clean, number, table
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from scrapy.settings import Settings

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.brokers.redis.tools.dead_letters import DeadLetter

#: Letters that a listing for people shows.
_SHOWN = 20
#: Longest worker, URL and reason in a listing for people, in characters.
_WORKER, _URL, _REASON = 40, 300, 500
#: Letters whose columns are aligned with each other; more are not kept in memory.
_ROWS = 100
_HEADER = ("ID", "TIME", "KIND", "SENT", "WORKER", "URL", "REASON")

_FAILED = f"""\
List the dead letters of SPIDER, the newest first: requests and seeds that were set aside,
each with its ID, the time, how often it was handed to a worker, the worker that set it
aside, its URL and the reason.

{_SHOWN} are shown, or as many as -n says; with --json all, one JSON object a line, with the
URL as it is (null where only the project's own serializer could tell). No pickle is loaded.

Exit code: 0, also if there is none; 2 wrong use, Redis away."""

_RETRY = """\
Put dead letters of SPIDER back: those with the given IDs, or --all; with --reason only those
of them whose reason contains TEXT (in any case).

A request becomes pending with the priority that it had, behind equal ones, and is crawled
although it was seen; a pickled one has priority 0. A seed goes back to the seeds. A letter
that no worker could read stays where it is. If no worker runs, start one: scrapy crawl.

Exit code: 0 all were put back, 1 some were not, 2 wrong use, or Redis away (what it had not
put back is still listed)."""

_FORGET = """\
Delete dead letters of SPIDER for good: those with the given IDs, or --all; with --reason only
those of them whose reason contains TEXT (in any case).

Exit code: 0 all were deleted, 1 some IDs are not there, 2 wrong use, Redis away."""


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reason",
        default="",
        metavar="TEXT",
        help="only those whose reason contains TEXT, in any case",
    )


def _add_listing_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser)
    arguments.json_lines(parser, "letter")
    _add_reason(parser)
    parser.add_argument(
        "-n",
        dest="count",
        type=arguments.whole_number,
        metavar="N",
        help=f"show N letters, 0 for all; {_SHOWN} without it, with --json all",
    )


def _add_choosing_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser)
    arguments.add_list(
        parser, "ids", metavar="ID", help="ID of a letter, as `failed` shows it"
    )
    parser.add_argument("--all", action="store_true", help="all letters")
    _add_reason(parser)


async def run_failed(settings: Settings, opts: argparse.Namespace) -> int:
    target = base.find_target(settings, opts)
    most = opts.count
    if most is None:
        most = 0 if opts.json else _SHOWN
    async with base.open_frontier(target) as frontier:
        shown, more = 0, False
        rows: list[tuple[str, ...]] = []
        async for letter in dead_letters.list_failed(frontier, reason=opts.reason):
            more = bool(most) and shown == most
            if more:
                break
            shown += 1
            if opts.json:
                base.write_json(_as_json(letter))
                continue
            rows.append(_cells(letter))
            if len(rows) == _ROWS:
                _write_table(rows, first=shown == len(rows))
                rows = []
        if rows:
            _write_table(rows, first=shown == len(rows))
        if opts.json:
            return base.OK
        if not shown:
            await _explain_none(frontier, target, opts.reason)
        elif more:
            count = await dead_letters.count_failed(frontier)
            left = "more" if opts.reason else f"{number(count - shown)} more"
            base.write(f"… and {left}; -n 0 shows all")
    return base.OK


async def _explain_none(frontier: Frontier, target: base.Target, reason: str) -> None:
    """Raises ConfigurationError if it is the spider's name that is wrong."""
    keys = (frontier.keys.failed, frontier.keys.state)
    if target.codec is None and not await frontier.client.exists(*keys):
        known = await base.spiders_in_redis(frontier.client, target.settings)
        if (known or inside_project()) and target.spider not in known:
            raise await base.unknown_frontier(frontier, target)
    of_reason = f" with {clean(reason)!r} in its reason" if reason else ""
    base.write(f"There is no dead letter of {target.spider}{of_reason}.")


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "time": times.iso(times.from_ms(letter.time_ms)),
        "kind": letter.kind,
        "deliveries": letter.deliveries,
        "worker": letter.worker,
        "url": letter.url or None,
        "reason": letter.reason,
    }


def _cells(letter: DeadLetter) -> tuple[str, ...]:
    return (
        letter.id,
        times.shown(times.from_ms(letter.time_ms)),
        letter.kind,
        str(letter.deliveries),
        clean(letter.worker, _WORKER) or UNKNOWN,
        clean(letter.url, _URL) or UNKNOWN,
        clean(letter.reason, _REASON) or UNKNOWN,
    )


def _write_table(rows: list[tuple[str, ...]], *, first: bool) -> None:
    """*rows* in columns; the header above the *first* ones."""
    lines = table(_HEADER, rows, left=[name for name in _HEADER if name != "SENT"])
    base.write(*lines[0 if first else 1 :])


async def run_retry(settings: Settings, opts: argparse.Namespace) -> int:
    ids = _chosen(opts, "retry")
    target = base.find_target(settings, opts)
    async with base.open_frontier(target, changes=True) as frontier:
        if inside_project():
            await base.require_known(frontier, target)
        done = await dead_letters.retry(
            frontier,
            ids=ids,
            reason=opts.reason,
            decode=target.codec.decode if target.codec else None,
            discipline=target.options.discipline,
            seeds_as=kind_of_new_key(target.settings),
        )
        where = connection.describe(frontier.client)
    if opts.json:
        base.write_json(
            {
                "spider": target.spider,
                "redis": where,
                "requests": done.requests,
                "seeds": done.seeds,
                "unreadable": done.unreadable,
                "missing": done.missing,
            }
        )
        return base.TROUBLE if done.unreadable or done.missing else base.OK
    back = f"{number(done.requests)} put back"
    if done.seeds:
        back += f", and {number(done.seeds)} to the seeds ({frontier.seed_keys[0]})"
    lines = [back]
    if done.unreadable:
        lines.append(f"{number(done.unreadable)} cannot be put back, and stay:")
        lines += [f"  {id_}: {clean(why, _REASON)}" for id_, why in done.examples]
        if done.unreadable > len(done.examples):
            lines.append("  …")
    base.write(*lines, *_missing(done.missing))
    return base.TROUBLE if done.unreadable or done.missing else base.OK


async def run_forget(settings: Settings, opts: argparse.Namespace) -> int:
    ids = _chosen(opts, "forget")
    target = base.find_target(settings, opts)
    async with base.open_frontier(target, changes=True) as frontier:
        if inside_project():
            await base.require_known(frontier, target)
        done = await dead_letters.forget(frontier, ids=ids, reason=opts.reason)
        where = connection.describe(frontier.client)
    if opts.json:
        base.write_json(
            {
                "spider": target.spider,
                "redis": where,
                "deleted": done.deleted,
                "missing": done.missing,
            }
        )
    else:
        base.write(f"{number(done.deleted)} deleted", *_missing(done.missing))
    return base.TROUBLE if done.missing else base.OK


def _missing(count: int) -> list[str]:
    return [f"{number(count)} not there (any more)"] if count else []


def _chosen(opts: argparse.Namespace, command: str) -> list[str] | None:
    """The ids, or None for all. Raises ConfigurationError if it is neither, or both."""
    if opts.all and opts.ids:
        raise ConfigurationError("Give either IDs or --all, not both.")
    if not opts.all and not opts.ids:
        raise ConfigurationError(
            f"Which dead letters? Give IDs, or --all (with --reason TEXT: all of these):"
            f" scrapy frontier {command} {opts.spider} --all. `scrapy frontier failed"
            f" {opts.spider}` shows them."
        )
    return None if opts.all else list(opts.ids)


FAILED = base.Subcommand(
    name="failed",
    summary="list what was set aside, and why",
    description=_FAILED,
    example="scrapy frontier failed myspider --reason timeout",
    topic="dead-letters",
    add_options=_add_listing_options,
    run=run_failed,
)
RETRY = base.Subcommand(
    name="retry",
    summary="put back what was set aside",
    description=_RETRY,
    example="scrapy frontier retry myspider --all --reason timeout",
    topic="dead-letters",
    add_options=_add_choosing_options,
    run=run_retry,
)
FORGET = base.Subcommand(
    name="forget",
    summary="delete what was set aside",
    description=_FORGET,
    example="scrapy frontier forget myspider --all --reason 'HTTP 404'",
    topic="dead-letters",
    add_options=_add_choosing_options,
    run=run_forget,
)
