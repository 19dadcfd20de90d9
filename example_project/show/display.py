"""How the show is shown: a live screen with rich, or plain lines without it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

try:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ImportError:
    RICH_INSTALLED = False
else:
    RICH_INSTALLED = True

#: Seconds between two plain lines.
PLAIN_INTERVAL = 1.0
_STATE_STYLES = {
    "starting": "yellow",
    "crawling": "cyan",
    "finished": "green",
    "killed": "bold red",
    "failed": "bold red",
}


@dataclass(frozen=True)
class WorkerProgress:
    """One worker; *rate* is in pages per second, over the last seconds."""

    name: str
    pid: int
    state: str
    pages: int
    rate: float


@dataclass(frozen=True)
class Progress:
    """The whole crawl at one moment."""

    seconds: float
    done: int
    total: int
    wanted: int
    workers: Sequence[WorkerProgress]
    pending: int
    leased: int
    seeds: int
    items: int
    failed: int


Row = tuple[str, str]


class Display(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def say(self, text: str) -> None: ...
    def update(self, progress: Progress) -> None: ...
    def summary(self, rows: Sequence[Row], verdict: str, *, good: bool) -> None: ...


def choose_display(*, plain: bool) -> Display:
    if plain or not RICH_INSTALLED or not sys.stdout.isatty():
        return PlainDisplay()
    return RichDisplay()


class PlainDisplay:
    """A line about every second: for logs, pipes and terminals without rich."""

    def __init__(self) -> None:
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, flush=True)

    def update(self, progress: Progress) -> None:
        finished = not any(
            w.state in ("starting", "crawling") for w in progress.workers
        )
        if time.monotonic() < self._next and not finished:
            return
        self._next = time.monotonic() + PLAIN_INTERVAL
        workers = ", ".join(
            f"{worker.name} {worker.pages} ({worker.rate:.0f}/s)"
            if worker.state == "crawling"
            else f"{worker.name} {worker.pages} ({worker.state})"
            for worker in progress.workers
        )
        self.say(
            f"{progress.seconds:5.1f} s  {progress.done}/{progress.total} pages"
            f"  {progress.pending} pending  {progress.leased} leased"
            f"  {progress.items}/{progress.wanted} items  |  {workers}"
        )

    def summary(self, rows: Sequence[Row], verdict: str, *, good: bool) -> None:
        width = max(len(label) for label, _ in rows)
        lines = [f"{label:<{width}}  {value}" for label, value in rows]
        self.say("\n".join(["", *lines, "", verdict]))


class RichDisplay:
    """A live screen; what is said stays above it."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def update(self, progress: Progress) -> None:
        self._live.update(
            Panel(
                Group(_bar(progress), _numbers(progress), Text(), _workers(progress)),
                title="bookshop",
                border_style="dim",
                width=min(self._console.width, 88),
            )
        )

    def summary(self, rows: Sequence[Row], verdict: str, *, good: bool) -> None:
        table = Table(show_header=False, border_style="dim", title_justify="left")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(table)
        self._console.print(verdict, style="bold green" if good else "bold red")


def _bar(progress: Progress) -> Table:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column()
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    grid.add_row(
        f"[bold]{progress.done}[/] of {progress.total} pages",
        ProgressBar(total=progress.total, completed=progress.done),
        f"{progress.seconds:.1f} s",
    )
    return grid


def _numbers(progress: Progress) -> Text:
    numbers = [
        ("pending", progress.pending),
        ("leased", progress.leased),
        ("items", progress.items),
    ]
    if progress.seeds:
        numbers.append(("seeds", progress.seeds))
    if progress.failed:
        numbers.append(("set aside", progress.failed))
    text = Text("in Redis: ", style="dim")
    for name, number in numbers:
        text.append(f"{number:>4} ", style="bold not dim").append(f"{name}  ")
    return text


def _workers(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    for justify in ("left", "right", "left", "right", "right"):
        table.add_column(justify=justify)
    table.add_column(ratio=1)
    header = ("worker", "pid", "state", "pages", "pages/s", "share")
    table.add_row(*(Text(title, style="dim") for title in header))
    total = max(sum(worker.pages for worker in progress.workers), 1)
    for worker in progress.workers:
        style = _STATE_STYLES[worker.state]
        table.add_row(
            worker.name,
            str(worker.pid),
            Text(worker.state, style=style),
            str(worker.pages),
            f"{worker.rate:.0f}" if worker.state == "crawling" else "",
            ProgressBar(
                total=total,
                completed=worker.pages,
                complete_style=style,
                finished_style=style,
            ),
        )
    return table
