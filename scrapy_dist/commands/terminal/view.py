"""How the picture of ``scrapy frontier top`` is laid out, with rich."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from scrapy_dist.base import times, words
from scrapy_dist.base.escaping import escape
from scrapy_dist.commands.terminal import pages
from scrapy_dist.commands.terminal.desk import Face, Page

if TYPE_CHECKING:
    from scrapy_dist.commands.terminal.screen import Look
    from scrapy_dist.core.status import Status

#: Lines beside those of the workers and the failures.
_FRAME = 13
#: Lines of workers and of failures that a small terminal shows too.
_LEAST_WORKERS, _LEAST_FAILURES = 3, 2
#: Failures that the overview shows at the most.
_FAILURES = 8
#: Columns below which there is no bar.
_NARROW = 60
#: What is counted, and how a number above 0 is marked.
_COUNTS = (
    *(("pages", ""), ("pending", ""), ("leased", ""), ("suspect", "yellow")),
    *(("failed", "red"), ("seeds", ""), ("seen", ""), ("items", "")),
)
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_PHASE_STYLES = {"running": "green", "paused": "yellow", "stopped": "red"}


@dataclass(frozen=True)
class View:
    """What is shown: the last look that succeeded, and why the newest did not."""

    look: Look
    rates: Sequence[float] = ()
    face: Face = field(default_factory=Face)
    trouble: str = ""

    @property
    def status(self) -> Status:
        return self.look.status


def draw(view: View, *, height: int, ascii_only: bool = False) -> RenderableType:
    """The picture, in at most *height* lines of the width that the console has."""
    return _Drawing(view, height, ascii_only)


@dataclass(frozen=True)
class _Drawing:
    view: View
    height: int
    ascii_only: bool

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[Segment]:
        width = options.max_width
        free = options.update(height=None)
        foot = console.render_lines(Group(*_foot(self.view, width)), free, pad=False)
        foot = foot[-self.height :]
        body = console.render_lines(Group(*self._body(width)), free, pad=False)
        body = body[: self.height - len(foot)]
        if len(body) + len(foot) < self.height:
            body.append([])
        for line in (*body, *foot):
            yield from line
            yield Segment.line()

    def _body(self, width: int) -> list[RenderableType]:
        view, status = self.view, self.view.status
        return [
            _title(status),
            Text(),
            _progress(status, width),
            _rate(view, ascii_only=self.ascii_only),
            Text(),
            _counts(status, width),
            Text(),
            *(pages.help_on_keys() if view.face.helps else self._page(width)),
        ]

    def _page(self, width: int) -> list[RenderableType]:
        look, page = self.view.look, self.view.face.page
        room = max(self.height - _FRAME, _LEAST_WORKERS)
        if page is Page.HOSTS:
            return pages.largest_hosts(look.hosts, room, width)
        if page is Page.WORKERS:
            return pages.workers(look.status, room, width, more=True)
        if page is Page.TASKS:
            return pages.tasks(look.status, look.tasks, room, width)
        if page is Page.FAILED:
            return pages.reasons(look.status, look.failures, room, width)
        if not look.failures:
            return pages.workers(look.status, room, width)
        shown = max(_LEAST_FAILURES, min(len(look.failures), _FAILURES, room // 3))
        room = max(room - shown - 2, _LEAST_WORKERS)
        return [
            *pages.workers(look.status, room, width),
            Text(),
            pages.failures(look.failures[:shown], width),
        ]


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
        title=f"scrapy frontier top {words.clean(view.status.spider)}"
    )


def _title(status: Status) -> Text:
    workers, alive = len(status.workers), len(status.alive)
    title = pages.line()
    title.append(words.clean(status.spider), "bold")
    if status.job:
        title.append(f" ({words.clean(status.job)})", "bold")
    title.append("  ")
    title.append(status.phase, _PHASE_STYLES.get(status.phase, ""))
    title.append(f"  {words.count(alive, 'worker')}")
    if workers > alive:
        title.append(f", {workers - alive} silent", "red")
    title.append(f"  {escape(status.redis)}", "dim")
    return title


def _progress(status: Status, width: int) -> RenderableType:
    known = status.pages + status.left
    share = status.pages / known if known else 0.0
    said = f"{share:.0%} of {words.number(known)} known"
    if status.left and status.seconds_left is not None:
        said += f", about {words.age(status.seconds_left)} left"
    if width < _NARROW:
        return pages.line(said)
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=max(known, 1), completed=status.pages)
    line.add_row(bar, Text(said))
    return line


def _rate(view: View, *, ascii_only: bool) -> Text:
    line = pages.line()
    line.append(words.rate(view.status.pages_per_second), "bold")
    line.append(" pages/s in the last minute  ")
    bars = _ASCII_BARS if ascii_only else _BARS
    step = (max(view.rates, default=0.0) or 1.0) / (len(bars) - 1)
    line.append("".join(bars[round(rate / step)] for rate in view.rates), "cyan")
    return line


def _counts(status: Status, width: int) -> RenderableType:
    cells = [
        Text(words.number(value), style if value else "")
        for name, style in _COUNTS
        for value in [getattr(status, name)]
    ]
    heads = [name for name, _ in _COUNTS]
    both = [*zip(heads, cells, strict=True)]
    if sum(max(len(head), cell.cell_len) + 2 for head, cell in both) <= width + 2:
        return pages.fitting([*map(pages.Column, heads)], [cells], width)
    # In a narrow terminal one behind the other, each with its name.
    lines = [pages.line()]
    for head, cell in both:
        told = Text(f"{head} ").append_text(cell)
        if lines[-1] and lines[-1].cell_len + 2 + told.cell_len > width:
            lines.append(pages.line())
        lines[-1].append("  " if lines[-1] else "").append_text(told)
    return Group(*lines)


def _foot(view: View, width: int) -> list[Text]:
    face = view.face
    if face.asks is not None:
        verb = "Pause" if face.asks else "Resume"
        name = words.clean(view.status.spider, 60)
        if view.status.job:
            name += f":{words.clean(view.status.job, 60)}"
        return [Text(f"{verb} {name}? y: yes, any other key: no", "bold reverse")]
    told = [Text(escape(face.told), "bold")] if face.told else []
    if view.trouble:
        seen = times.shown(view.status.time)
        said = f"{escape(view.trouble)} What is shown is of {seen}."
        return [*told, Text(said, "bold red")]
    return [*told, _keys(view, width)]


def _keys(view: View, width: int) -> Text:
    """As many keys as there is room for."""
    pause = "p resume" if view.status.paused else "p pause"
    shown = [f"{page.key} {page.value}" for page in Page]
    told = ["q ends", "? help", pause, *shown]
    while len(told) > 1 and len("  ".join(told)) > width:
        told.pop()
    line = pages.line()
    for each in told:
        line.append("  " if line else "")
        line.append(each, "bold" if each[2:] == view.face.page.value else "dim")
    return line
