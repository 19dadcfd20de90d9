"""What ``scrapy frontier top`` shows its looks on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scrapy_dist.base import times, words
from scrapy_dist.commands import base, hosts

if TYPE_CHECKING:
    from scrapy_dist.admin.task_glance import Glance
    from scrapy_dist.commands.terminal.desk import Face
    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.status import Status


@dataclass(frozen=True)
class Look:
    """What one look has found: the newest *failures*; *hosts* or *tasks* if shown."""

    status: Status
    failures: Sequence[DeadLetter] = ()
    hosts: Hosts | None = None
    tasks: Glance | None = None


class Lines:
    """One line for each look, for logs and pipes; false if nobody reads any more."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, look: Look) -> bool:
        status, found = look.status, look.hosts
        if self._as_json:
            told = {} if found is None else {"hosts": found.as_json()}
            return base.write_json({**status.as_json(), **told})
        return base.write(_line(status), *(() if found is None else _lines(found)))

    def turn(self, face: Face) -> None:
        """Somebody has chosen something else to see."""

    def redraw(self) -> None:
        """The terminal has another size."""

    def late(self, seconds: float) -> bool:
        return True

    def fail(self, reason: str) -> bool:
        base.warn("top", reason)
        return True

    def as_svg(self) -> str:
        raise NotImplementedError


def _lines(found: Hosts) -> Iterator[str]:
    yield f"  {hosts.summary(found)}"
    for name, *cells in map(hosts.cells, found.hosts):
        told = zip(hosts.COLUMNS[1:], cells, strict=True)
        values = ", ".join(f"{head.lower()} {cell}" for head, cell in told if cell)
        yield f"  {name}: {values}"


def _line(status: Status) -> str:
    name = status.spider if status.job is None else f"{status.spider}:{status.job}"
    alive, silent = len(status.alive), len(status.workers) - len(status.alive)
    return (
        f"{times.logged(status.time)} {words.clean(name)} {status.phase}:"
        f" {words.count(status.pages, 'page')}, {words.rate(status.pages_per_second)} pages/s,"
        f" {words.number(status.pending)} pending, {words.number(status.leased)} leased,"
        f" {words.number(status.suspect)} suspect,"
        f" {words.number(status.failed)} failed, {words.count(status.seeds, 'seed')},"
        f" {words.count(alive, 'worker')},"
        f" {words.number(silent)} silent, {words.age(status.seconds_left)} left"
    )
