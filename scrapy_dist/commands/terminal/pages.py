"""The middle of the picture of ``scrapy frontier top``: one page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from scrapy_dist.base import times, words
from scrapy_dist.commands import hosts
from scrapy_dist.commands.workers import COLUMNS as WORKER_COLUMNS
from scrapy_dist.commands.workers import cells as worker_cells
from scrapy_dist.core.tasks import Batch, Task, TaskState

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from scrapy_dist.admin.task_glance import Glance
    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.status import Status, WorkerStatus

#: Spaces between two columns.
_GAP = 2
#: Cells of a wide column that are worth to be shown; and of a long name.
_LEAST, _NAME = 10, 24


@dataclass(frozen=True)
class Column:
    """*head* is its name. Of those with a *rank* the highest goes first; 0 always stays.

    *left*: its cells are aligned to the left. *wide*: it is cut to the room that is left.
    A name that always stays is cut, too, if that leaves room for others.
    """

    head: str
    rank: int = 0
    left: bool = False
    wide: bool = False


def fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int
) -> Table:
    """*rows*, one line each, at most *width* cells wide."""
    wholes = [
        _LEAST if column.wide else max(len(column.head), *(c.cell_len for c in cells))
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    names = [column.left and not column.rank for column in columns]
    needs = [
        min(whole, _NAME) if is_name else whole
        for is_name, whole in zip(names, wholes, strict=True)
    ]
    shown = [*range(len(columns))]
    while sum(needs[at] + _GAP for at in shown) - _GAP > width:
        last = max(shown, key=lambda at: columns[at].rank)
        if not columns[last].rank:
            break
        shown.remove(last)
    is_wide = any(columns[at].wide for at in shown)
    left_over = max(0, width - sum(needs[at] + _GAP for at in shown) + _GAP)
    left_over = left_over // 2 if is_wide else left_over
    table = Table(
        box=None,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
        expand=is_wide,
        header_style="dim",
    )
    for at in shown:
        table.add_column(
            columns[at].head,
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if columns[at].wide else None,
            max_width=needs[at] + left_over if names[at] else None,
            justify="left" if columns[at].left or columns[at].wide else "right",
        )
    for row in rows:
        table.add_row(*(row[at] for at in shown))
    return table


_WORKERS = (
    *(Column("worker", left=True), Column("pages", 2), Column("pages/s", 1)),
    *(Column("leased", 3), Column("failed", 4), Column("beat", 5), Column("memory", 6)),
)
_MORE_OF_WORKERS = (*_WORKERS, Column("since", 7), Column("works on", 8, wide=True))
_HOST_RANKS = {"IN FLIGHT": 4, "OWNER": 5, "DELAY": 3, "NEXT": 2, "ERRORS": 1}
_FAILURES = (
    Column("failed", 1, left=True),
    *(Column("url", 2, wide=True), Column("reason", wide=True)),
)
_REASONS = (
    *(Column("letters"), Column("newest", 1)),
    *(Column("reason", wide=True), Column("newest url", 2, wide=True)),
)
_TASKS = (
    *(Column("task", left=True), Column("state", left=True), Column("open", 3)),
    *(Column("done", 1), Column("failed", 2), Column("items", 4)),
    *(Column("submitted", 5), Column("took", 6), Column("batch", 7, left=True)),
    Column("reason", 8, wide=True),
)
_STATES = {
    TaskState.DONE: "green",
    TaskState.FAILED: "red",
    TaskState.CANCELLED: "yellow",
}

KEYS = (
    ("o", "overview: workers and the newest failures"),
    ("h", "hosts: the largest ones, who has them, and when they are next"),
    ("w", "workers: all of them, since when they work, and on what"),
    ("f", "failed: the newest dead letters, by reason"),
    ("t", "tasks: those submitted last, and batches"),
    ("p", "pauses the crawl, or lets it go on, after a question"),
    ("q", "ends; Ctrl-C, too. The crawl goes on"),
    ("?", "these lines, and back"),
)


def line(text: str = "", style: str = "") -> Text:
    """One that is cut where the terminal ends."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def workers(
    status: Status, room: int, width: int, *, more: bool = False
) -> list[RenderableType]:
    """The living first; *more*: since when, and on what they work, too."""
    if not status.workers:
        return [Text("no workers", "dim")]
    # The others are still to be seen if there is room.
    found = sorted(status.workers, key=lambda worker: not worker.alive)
    columns = _MORE_OF_WORKERS if more else _WORKERS
    rows = [_worker_row(worker, status.time, columns) for worker in found[:room]]
    table = fitting(columns, rows, width)
    left = len(found) - room
    said = Text(f"… and {words.number(left)} more", "dim")
    return [table, said] if left > 0 else [table]


def _worker_row(
    worker: WorkerStatus, now: datetime, columns: Sequence[Column]
) -> list[Text]:
    told = dict(zip(WORKER_COLUMNS, worker_cells(worker, now), strict=True))
    name = Text(words.clean(worker.worker, 60))
    if not worker.alive:
        name.append(" silent", "red")
    elif worker.stopping:
        name.append(" stopping", "yellow")
    red = "failed" if worker.failed else ""
    heads = [column.head for column in columns[1:]]
    return [name, *(Text(told[h.upper()], "red" if h == red else "") for h in heads)]


def largest_hosts(found: Hosts | None, room: int, width: int) -> list[RenderableType]:
    if found is None:
        return [Text("looking for the largest hosts …", "dim")]
    if not found.hosts:
        return [Text("no host has a request", "dim")]
    columns = [
        Column(name.lower(), _HOST_RANKS.get(name, 0), left=name in hosts.LEFT)
        for name in hosts.COLUMNS
    ]
    shown = found.hosts[:room]
    rows = [[Text(cell) for cell in hosts.cells(host)] for host in shown]
    summary = hosts.summary(replace(found, hosts=shown))
    return [fitting(columns, rows, width), line(summary, "dim")]


def failures(letters: Sequence[DeadLetter], width: int) -> RenderableType:
    """*letters* one by one."""
    rows = [
        [
            Text(times.shown(times.from_ms(letter.time_ms))),
            Text(_url(letter)),
            Text(words.clean(letter.reason), "red"),
        ]
        for letter in letters
    ]
    return fitting(_FAILURES, rows, width)


def reasons(
    status: Status, letters: Sequence[DeadLetter], room: int, width: int
) -> list[RenderableType]:
    """*letters*, the newest first, by reason; those with the most of them first."""
    if not letters:
        said = "looking for them …" if status.failed else "no dead letters"
        return [Text(said, "dim")]
    found: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        found.setdefault(words.clean(letter.reason), []).append(letter)
    most = sorted(found.items(), key=lambda item: -len(item[1]))
    rows = [
        [
            Text(words.number(len(some))),
            Text(times.shown(times.from_ms(some[0].time_ms))),
            Text(reason or "(no reason)", "red"),
            Text(_url(some[0])),
        ]
        for reason, some in most[:room]
    ]
    said = words.count(status.failed, "dead letter")
    if status.failed > len(letters):
        said += f", of which the newest {words.number(len(letters))} are shown"
    if len(most) > room:
        said += f"; {words.count(len(most) - room, 'more reason')}"
    return [fitting(_REASONS, rows, width), line(said, "dim")]


def tasks(
    status: Status, found: Glance | None, room: int, width: int
) -> list[RenderableType]:
    """Batches under way, a line each, above the tasks that were submitted last."""
    if found is None:
        return [Text("looking for tasks …", "dim")]
    if not found.tasks:
        return [Text("no tasks: a seed with an id is one", "dim")]
    lines: list[RenderableType] = [
        _batch(batch) for batch in found.batches[: room // 3]
    ]
    if lines:
        lines.append(Text())
    shown = found.tasks[: max(room - len(lines), 1)]
    rows = [_task_cells(task, status.time) for task in shown]
    said = f"{words.number(len(shown))} of {words.count(status.tasks, 'task')}"
    said += f", {words.number(status.tasks_open)} have not ended"
    if not found.is_all:
        said += "; there are too many to look at all"
    return [*lines, fitting(_TASKS, rows, width), line(said, "dim")]


def _batch(batch: Batch) -> Text:
    told = line(words.clean(batch.name, 60), "bold")
    share = 100 * batch.ended // max(batch.total, 1)
    told.append(f"  {share} % of {words.count(batch.total, 'task')}")
    for state, style in (("running", ""), ("failed", "red"), ("cancelled", "yellow")):
        if number := getattr(batch, state):
            told.append(f", {words.number(number)} {state}", style)
    return told


def _task_cells(task: Task, now: datetime) -> list[Text]:
    took = None
    if task.started_ms:
        end_ms = task.ended_ms or now.timestamp() * 1000
        took = max(0.0, end_ms - task.started_ms) / 1000
    return [
        Text(words.clean(task.id, 60)),
        Text(str(task.state), _STATES.get(task.state, "")),
        *map(Text, map(words.number, (task.open, task.done))),
        Text(words.number(task.failed), "red" if task.failed else ""),
        Text(words.number(task.items)),
        Text(times.shown(times.from_ms(task.submitted_ms))),
        Text(words.age(took)),
        Text(words.clean(task.batch, 40) or words.UNKNOWN),
        Text(words.clean(task.reason) or words.UNKNOWN),
    ]


def _url(letter: DeadLetter) -> str:
    return words.clean(letter.url) or "(not readable)"


def help_on_keys() -> list[RenderableType]:
    return [line(f"{key}  {meaning}") for key, meaning in KEYS]
