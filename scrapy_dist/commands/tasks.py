"""``scrapy frontier tasks``, ``task`` and ``cancel``: seeds whose state can be asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.base import times
from scrapy_dist.base.words import UNKNOWN, age, clean, count, counts, number, table
from scrapy_dist.commands import base, project
from scrapy_dist.commands.items import line_of
from scrapy_dist.commands.options import common, flag, late_list, option, whole_number
from scrapy_dist.core.tasks import TaskState
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.core.tasks import Batch, Task

#: Tasks that a listing for people shows.
_SHOWN = 20
#: Longest id, batch and reason in a listing for people, in characters.
_NAME, _REASON = 60, 300
_HEADER = (
    *("ID", "STATE", "OPEN", "DONE", "FAILED", "ITEMS", "SUBMITTED", "TOOK"),
    *("BATCH", "WORKER", "REASON"),
)
_LEFT = ("ID", "STATE", "SUBMITTED", "BATCH", "WORKER", "REASON")
#: Results that are read at once.
_PAGE = 100

_TASKS = f"""\
List the tasks of SPIDER, seeds with an id, those submitted last first; with --batch those of
one batch, below its progress. It only reads; all records of tasks are looked at.

  STATE  queued (its seed waits), running, done, failed (something of it is a dead letter),
         cancelled
  OPEN   requests of it that are left   DONE   pages      FAILED  dead letters
  TOOK   from its begin to its end      WORKER who began it

{_SHOWN} are shown, or as many as --limit says; with --json all, one JSON object a line, in
no order unless --limit is given. Those that have ended are kept for FRONTIER_RESULT_TTL
seconds.

Exit code: 0, also if there is none; 2 wrong use, Redis away."""

_TASK = """\
Show how the task ID of SPIDER stands, or with --results its items, one JSON object a line, in
the order in which they were stored; what is no JSON as `scrapy frontier items` has it. It takes
nothing away.

Exit code: 0 shown; 2 there is no such task, or not any more, wrong use, Redis away."""

_CANCEL = """\
Cancel tasks of SPIDER: those with the given IDs, or with --batch all of a batch. What is pending
of them is dropped. What runs is finished, and leads to nothing more.

Exit code: 0 none of them is left to do, 1 some IDs are not known, 2 wrong use, Redis away."""


async def _tasks(crawl: project.Crawl, opts: base.Namespace) -> int:
    tasks = Tasks(crawl)
    if opts.json and opts.limit is None:
        async for task in tasks.each(opts.batch, opts.state):
            if not base.write_json(_as_json(task)):
                break
        return base.OK
    most = _SHOWN if opts.limit is None else opts.limit
    found = await tasks.tasks(opts.batch, opts.state, most + 1)
    shown = found[:most]
    if opts.json:
        base.write(*map(json.dumps, map(_as_json, shown)))
        return base.OK
    lines = []
    if opts.batch is not None:
        lines += [_progress(await tasks.batch(opts.batch)), ""]
    if shown:
        lines += table(_HEADER, [*map(_cells, shown)], left=_LEFT)
    elif not found:
        await crawl.known_status()
        lines += [f"There is no such task of {clean(crawl.name)}."]
    if len(found) > most:
        lines += [f"… and more; --limit {10 * most or _SHOWN} shows more, --json all"]
    base.write(*lines)
    return base.OK


def _progress(batch: Batch) -> str:
    states = {name: value for name, value in batch.counts().items() if name != "name"}
    told = ", ".join(counts({k: v for k, v in states.items() if v}, {}))
    of = f"Batch {clean(batch.name, _NAME)}: {count(batch.total, 'task')}"
    percent = f", {100 * batch.ended // batch.total} % ended" if batch.total else ""
    return f"{of}{percent}: {told}" if told else of


def _cells(task: Task) -> tuple[str, ...]:
    return (
        clean(task.id, _NAME),
        str(task.state),
        number(task.open),
        number(task.done),
        number(task.failed),
        number(task.items),
        times.shown(task.submitted),
        age(task.seconds),
        clean(task.batch, _NAME) or UNKNOWN,
        clean(task.worker, _NAME) or UNKNOWN,
        clean(task.reason, _REASON) or UNKNOWN,
    )


def _as_json(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "state": str(task.state),
        "batch": task.batch or None,
        **{name: getattr(task, name) for name in ("open", "done", "failed", "items")},
        "submitted": times.iso(task.submitted),
        "started": times.iso(task.started),
        "ended": times.iso(task.ended),
        "worker": task.worker or None,
        "reason": task.reason or None,
    }


async def _task(crawl: project.Crawl, opts: base.Namespace) -> int:
    tasks = Tasks(crawl)
    task = await tasks.task(opts.id)
    if not opts.results:
        base.tell(opts, _as_json(task), _lines(task))
        return base.OK
    at = 0
    while page := await crawl.port.results(task, at, _PAGE):
        if not base.write(*map(line_of, page)):
            break
        at += len(page)
    return base.OK


def _lines(task: Task) -> list[str]:
    rows = {
        "id": clean(task.id, 255),
        "state": str(task.state),
        "batch": clean(task.batch, 255) or UNKNOWN,
        "open": number(task.open),
        "done": number(task.done),
        "failed": number(task.failed),
        "items": number(task.items),
        "submitted": times.shown(task.submitted),
        "started": times.shown(task.started),
        "ended": times.shown(task.ended),
        "took": age(task.seconds),
        "worker": clean(task.worker) or UNKNOWN,
        "reason": clean(task.reason, 500) or UNKNOWN,
    }
    return [f"{name:<9} {value}" for name, value in rows.items()]


def _check_choice(opts: base.Namespace) -> None:
    """Raise ConfigurationError unless there are either ids or a batch."""
    if bool(opts.ids) == (opts.batch is not None):
        raise ConfigurationError(
            f"Which tasks? Give either IDs or --batch NAME. `scrapy frontier tasks"
            f" {opts.spider}` shows them."
        )


async def _cancel(crawl: project.Crawl, opts: base.Namespace) -> int:
    tasks = Tasks(crawl)
    ids = list(dict.fromkeys(opts.ids))
    if opts.batch is not None:
        ids = [t.id async for t in tasks.each(opts.batch) if not t.state.is_end]
    found = await tasks.cancel(ids)
    ended = [task for task in found if task is not None and task.state.is_end]
    unknown = [i for i, task in zip(ids, found, strict=True) if task is None]
    done = len(found) - len(ended) - len(unknown)
    lines = [f"{count(done, 'task')} cancelled"]
    lines += [f"{clean(task.id, _NAME)} was {task.state} already" for task in ended]
    lines += [f"{clean(each, _NAME)} is not known (any more)" for each in unknown]
    names = {"spider": crawl.spider, "redis": crawl.where, "cancelled": done}
    base.tell(opts, {**names, "ended": len(ended), "unknown": len(unknown)}, lines)
    return base.TROUBLE if unknown else base.OK


_BATCH = option("--batch", "NAME", "only those of this batch")

TASKS = base.Subcommand(
    name="tasks",
    summary="seeds with an id: how they stand",
    description=_TASKS,
    example="scrapy frontier tasks myspider --batch monday --state failed",
    topic="tasks",
    options=(
        *common(a_line_for="task"),
        _BATCH,
        option(
            "--state",
            None,
            "only those in this state",
            choices=[str(state) for state in TaskState],
        ),
        option(
            "--limit",
            "N",
            f"show N tasks; {_SHOWN} without it, with --json all",
            short="-n",
            type=whole_number,
        ),
    ),
    run=project.of_crawl(_tasks),
)
TASK = base.Subcommand(
    name="task",
    summary="how one task stands, or its results",
    description=_TASK,
    example="scrapy frontier task myspider shop-7 --results",
    topic="tasks",
    options=(
        *common(),
        option("id", "ID", "id of the task"),
        flag("--results", "print its items, one JSON object a line"),
    ),
    run=project.of_crawl(_task),
)
CANCEL = base.Subcommand(
    name="cancel",
    summary="cancel tasks",
    description=_CANCEL,
    example="scrapy frontier cancel myspider shop-7 shop-8",
    topic="tasks",
    options=(*common(), late_list("ids", "ID", "id of a task"), _BATCH),
    run=project.of_crawl(_cancel, changes=True, check=_check_choice),
)
