"""``scrapy frontier failed``, ``retry`` and ``forget``: look after the dead letters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from scrapy.utils.project import inside_project

from scrapy_dist.base import times
from scrapy_dist.base.words import UNKNOWN, clean, number, table
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, flag, late_list, option, whole_number
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.core.dead_letters import DeadLetter

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


_REASON_OPTION = option(
    "--reason", "TEXT", "only those whose reason contains TEXT, in any case", default=""
)
_CHOOSING = (
    *common(),
    late_list("ids", "ID", "ID of a letter, as `failed` shows it"),
    flag("--all", "all letters"),
    _REASON_OPTION,
)


async def _failed(crawl: project.Crawl, opts: base.Namespace) -> int:
    most = opts.count
    if most is None:
        most = 0 if opts.json else _SHOWN
    shown, more = 0, False
    rows: list[tuple[str, ...]] = []
    async for letter in crawl.failed(opts.reason):
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
        await _explain_none(crawl, opts.reason)
    elif more:
        count = await crawl.port.count_failed()
        left = "more" if opts.reason else f"{number(count - shown)} more"
        base.write(f"… and {left}; -n 0 shows all")
    return base.OK


async def _explain_none(crawl: project.Crawl, reason: str) -> None:
    """Raises ConfigurationError if it is the spider's name that is wrong."""
    is_blank = crawl.project is None and (await crawl.status()).is_blank
    if is_blank and (inside_project() or await crawl.names()):
        raise await crawl.unknown()
    of_reason = f" with {clean(reason)!r} in its reason" if reason else ""
    base.write(f"There is no dead letter of {crawl.spider}{of_reason}.")


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


def _check_choice(command: str, opts: base.Namespace) -> None:
    """Raise ConfigurationError unless there are either ids or --all."""
    if opts.all and opts.ids:
        raise ConfigurationError("Give either IDs or --all, not both.")
    if not opts.all and not opts.ids:
        raise ConfigurationError(
            f"Which dead letters? Give IDs, or --all (with --reason TEXT: all of these):"
            f" scrapy frontier {command} {opts.spider} --all. `scrapy frontier failed"
            f" {opts.spider}` shows them."
        )


async def _retry(crawl: project.Crawl, opts: base.Namespace) -> int:
    if inside_project():
        await crawl.require_known()
    done = await crawl.retry(opts.ids or None, opts.reason)
    lines = [f"{number(done.requests)} put back"]
    if done.seeds:
        lines[0] += (
            f", and {number(done.seeds)} to the seeds ({crawl.port.seed_keys[0]})"
        )
    if done.unreadable:
        lines.append(f"{number(done.unreadable)} cannot be put back, and stay:")
        lines += [f"  {id_}: {clean(why, _REASON)}" for id_, why in done.examples]
        if done.unreadable > len(done.examples):
            lines.append("  …")
    value = {
        "spider": crawl.spider,
        "redis": crawl.where,
        "requests": done.requests,
        "seeds": done.seeds,
        "unreadable": done.unreadable,
        "missing": done.missing,
    }
    base.tell(opts, value, [*lines, *_missing(done.missing)])
    return base.TROUBLE if done.unreadable or done.missing else base.OK


async def _forget(crawl: project.Crawl, opts: base.Namespace) -> int:
    if inside_project():
        await crawl.require_known()
    done = await crawl.forget(opts.ids or None, opts.reason)
    names = {"spider": crawl.spider, "redis": crawl.where}
    base.tell(
        opts,
        {**names, "deleted": done.deleted, "missing": done.missing},
        [f"{number(done.deleted)} deleted", *_missing(done.missing)],
    )
    return base.TROUBLE if done.missing else base.OK


def _missing(count: int) -> list[str]:
    return [f"{number(count)} not there (any more)"] if count else []


FAILED = base.Subcommand(
    name="failed",
    summary="list what was set aside, and why",
    description=_FAILED,
    example="scrapy frontier failed myspider --reason timeout",
    topic="dead-letters",
    options=(
        *common(a_line_for="letter"),
        _REASON_OPTION,
        option(
            "-n",
            "N",
            f"show N letters, 0 for all; {_SHOWN} without it, with --json all",
            dest="count",
            type=whole_number,
        ),
    ),
    run=project.of_crawl(_failed),
)
RETRY = base.Subcommand(
    name="retry",
    summary="put back what was set aside",
    description=_RETRY,
    example="scrapy frontier retry myspider --all --reason timeout",
    topic="dead-letters",
    options=_CHOOSING,
    run=project.of_crawl(_retry, changes=True, check=partial(_check_choice, "retry")),
)
FORGET = base.Subcommand(
    name="forget",
    summary="delete what was set aside",
    description=_FORGET,
    example="scrapy frontier forget myspider --all --reason 'HTTP 404'",
    topic="dead-letters",
    options=_CHOOSING,
    run=project.of_crawl(_forget, changes=True, check=partial(_check_choice, "forget")),
)
