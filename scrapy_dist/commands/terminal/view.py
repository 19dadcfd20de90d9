"""How the picture of ``scrapy frontier top`` is laid out, with rich."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scrapy_dist.base import times
from scrapy_dist.base.escaping import escape
from scrapy_dist.commands.terminal import hosts, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.status import Status, WorkerStatus

#: Lines beside those of the workers and the failures.
_FRAME = 13
#: Lines of workers and of failures that a small terminal shows too.
_LEAST_WORKERS, _LEAST_FAILURES = 3, 2
#: What is counted, and how a number above 0 is marked.
_COUNTS = (
    *(("pages", ""), ("pending", ""), ("leased", ""), ("suspect", "yellow")),
    *(("failed", "red"), ("seeds", ""), ("seen", ""), ("items", "")),
)
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_PHASE_STYLES = {"running": "green", "paused": "yellow", "stopped": "red"}


@dataclass(frozen=True)
class View:
    """What is shown: the last look that succeeded, and why the newest did not.

    With *hosts* these are shown in place of the workers.
    """

    status: Status
    failures: Sequence[DeadLetter] = ()
    rates: Sequence[float] = field(default=())
    trouble: str = ""
    hosts: Hosts | None = None


def draw(view: View, *, height: int, ascii_only: bool = False) -> RenderableType:
    """The picture, in at most *height* lines if the terminal is not very small."""
    status = view.status
    failures = list(view.failures)
    room = max(height - _FRAME, _LEAST_WORKERS)
    if failures:
        shown = max(_LEAST_FAILURES, min(len(failures), room // 3))
        failures = failures[:shown]
        room = max(room - shown - 2, _LEAST_WORKERS)
    parts: list[RenderableType] = [
        _title(status),
        Text(),
        _progress(status),
        _rate(view, ascii_only=ascii_only),
        Text(),
        _counts(status),
        Text(),
        *(_workers(status, room) if view.hosts is None else _hosts(view.hosts, room)),
    ]
    if failures:
        parts += [Text(), _failures(failures)]
    parts += [Text(), _foot(view)]
    return Group(*parts)


def as_svg(view: View, *, width: int = 100) -> str:
    """The picture as SVG."""
    console = Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        no_color=False,
    )
    console.print(draw(view, height=60))
    return console.export_svg(
        title=f"scrapy frontier top {text.clean(view.status.spider)}"
    )


def _title(status: Status) -> Text:
    workers, alive = len(status.workers), len(status.alive)
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(text.clean(status.spider), "bold")
    if status.job:
        title.append(f" ({text.clean(status.job)})", "bold")
    title.append("  ")
    title.append(status.phase, _PHASE_STYLES.get(status.phase, ""))
    title.append(f"  {text.count(alive, 'worker')}")
    if workers > alive:
        title.append(f", {workers - alive} silent", "red")
    title.append(f"  {escape(status.redis)}", "dim")
    return title


def _progress(status: Status) -> Table:
    known = status.pages + status.left
    share = status.pages / known if known else 0.0
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=max(known, 1), completed=status.pages)
    said = f"{share:.0%} of {text.number(known)} known"
    if status.left and status.seconds_left is not None:
        said += f", about {text.age(status.seconds_left)} left"
    line.add_row(bar, Text(said))
    return line


def _rate(view: View, *, ascii_only: bool) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(text.rate(view.status.pages_per_second), "bold")
    line.append(" pages/s in the last minute  ")
    line.append(_sparkline(view.rates, ascii_only=ascii_only), "cyan")
    return line


def _sparkline(rates: Sequence[float], *, ascii_only: bool) -> str:
    bars = _ASCII_BARS if ascii_only else _BARS
    highest = max(rates, default=0.0) or 1.0
    return "".join(bars[round(rate / highest * (len(bars) - 1))] for rate in rates)


def _counts(status: Status) -> Table:
    table = _table(*(name for name, _ in _COUNTS))
    values = [getattr(status, name) for name, _ in _COUNTS]
    styles = [style for _, style in _COUNTS]
    table.add_row(
        *(
            Text(text.number(value), style if value else "")
            for value, style in zip(values, styles, strict=True)
        )
    )
    return table


def _workers(status: Status, room: int) -> list[RenderableType]:
    if not status.workers:
        return [Text("no workers", "dim")]
    table = _table("worker", "pages", "pages/s", "leased", "failed", "beat", "memory")
    # The living first; the others are still to be seen if there is room.
    workers = sorted(status.workers, key=lambda worker: not worker.alive)
    for worker in workers[:room]:
        state, style = _worker_state(worker)
        name = Text(text.clean(worker.worker, 60))
        if state:
            name.append(f" {state}", style)
        table.add_row(
            name,
            text.number(worker.pages),
            text.rate(worker.pages_per_second),
            text.number(worker.leased),
            Text(text.number(worker.failed), "red" if worker.failed else ""),
            text.age(worker.silent_for),
            text.memory(worker.memory),
        )
    more = len(workers) - room
    return [table, Text(f"… and {more} more", "dim")] if more > 0 else [table]


def _hosts(found: Hosts, room: int) -> list[RenderableType]:
    if not found.hosts:
        return [Text("no host has a request", "dim")]
    left = [name.lower() for name in hosts.LEFT]
    table = _table(*(name.lower() for name in hosts.COLUMNS), left=left)
    shown = found.hosts[:room]
    for host in shown:
        table.add_row(*map(Text, hosts.cells(host)))
    summary = hosts.summary(replace(found, hosts=shown))
    return [table, Text(summary, "dim", no_wrap=True, overflow="ellipsis")]


def _worker_state(worker: WorkerStatus) -> tuple[str, str]:
    if not worker.alive:
        return "silent", "red"
    return ("stopping", "yellow") if worker.stopping else ("", "")


def _failures(failures: Sequence[DeadLetter]) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    heads = ("failed", "url", "reason")
    table.add_row(*(Text(head, "dim") for head in heads))
    for letter in failures:
        table.add_row(
            Text(times.shown(times.from_ms(letter.time_ms))),
            Text(text.clean(letter.url) or "(not readable)"),
            Text(text.clean(letter.reason), "red"),
        )
    return table


def _table(*heads: str, left: Sequence[str] = ("worker",)) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), expand=False, header_style="dim")
    for head in heads:
        table.add_column(
            head, no_wrap=True, justify="left" if head in left else "right"
        )
    return table


def _foot(view: View) -> Text:
    if view.trouble:
        return Text(
            f"{escape(view.trouble)} What is shown is of {times.shown(view.status.time)}.",
            "bold red",
        )
    other = "hosts" if view.hosts is None else "workers"
    return Text(f"q ends  h shows the {other}", "dim")
