"""The parts of pages that stay up to date, drawn once for all who watch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scrapy_dist.admin.crawls import read_statuses
from scrapy_dist.core.crawl import crawl_name
from scrapy_dist.web.charts import Rates, rate_chart

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.status import Status
    from scrapy_dist.web.rendering import Templates

#: The order of crawls in the list.
_PHASES = ("running", "paused", "idle", "stopped", "done", "none")
#: Workers that are shown, those that live first.
MOST_WORKERS = 100
#: Hosts that are shown; hosts and dead letters that are looked at for them.
_HOSTS, _LOOK, _LETTERS = 15, 300, 200
#: Newest dead letters that are shown.
_NEWEST = 5
#: Looks from one reading of hosts to the next.
_HOSTS_EVERY = 3
#: Looks from one reading of the frontier's format to the next.
_FORMAT_EVERY = 60
#: What stands where a chart will be.
_NO_CHART = "<p>It is measured from now on.</p>"


async def draw_all(
    crawls: Sequence[Crawl], left_out: int, templates: Templates
) -> dict[str, str]:
    """The list of *crawls*, of which *left_out* are not shown."""
    statuses, refused = await read_statuses(crawls)
    rows = [(crawl_name(each.spider, each.job or ""), each) for each in statuses]
    rows.sort(key=lambda row: (_PHASES.index(row[1].phase), row[0]))
    html = templates.render(
        "part_crawls.html",
        rows=rows,
        refused=[(crawl.name, str(error)) for crawl, error in refused],
        left_out=left_out,
    )
    return {"crawls": html}


class Watched:
    """One crawl that is looked at again and again."""

    def __init__(self, crawl: Crawl, templates: Templates, *, read_only: bool) -> None:
        self._crawl = crawl
        self._templates = templates
        self._read_only = read_only
        self._rates = Rates()
        self._looks = 0
        self._has_few_workers = True
        self._hosts: Hosts | None = None
        self._letters: list[DeadLetter] = []
        self._failed = -1
        self._warning = ""

    async def look(self) -> dict[str, str]:
        """All parts. Raises FrontierError."""
        crawl = self._crawl
        # One URL that each worker holds, unless there are very many.
        status = await crawl.status(holds=1 if self._has_few_workers else 0)
        self._has_few_workers = len(status.workers) <= MOST_WORKERS
        self._rates.add(time.monotonic(), status.pages)
        if self._hosts is None or self._looks % _HOSTS_EVERY == 0:
            self._hosts = await crawl.hosts(_HOSTS, look=_LOOK, letters=_LETTERS)
        if status.failed != self._failed:
            self._letters = await crawl.newest_failed(_NEWEST) if status.failed else []
            self._failed = status.failed
        if self._looks % _FORMAT_EVERY == 0:
            self._warning = await crawl.port.reason_against()
        self._looks += 1
        return self._draw(status, self._hosts)

    def _draw(self, status: Status, hosts: Hosts) -> dict[str, str]:
        draw, name = self._templates.render, self._crawl.name
        known = status.pages + status.left
        workers = sorted(status.workers, key=lambda worker: not worker.alive)
        return {
            "warning": draw("part_warning.html", warning=self._warning),
            "state": draw("part_state.html", status=status, known=known),
            "chart": str(rate_chart(self._rates.rates()) or _NO_CHART),
            "workers": draw(
                "part_workers.html",
                read_only=self._read_only,
                workers=workers[:MOST_WORKERS],
                more=max(0, len(workers) - MOST_WORKERS),
            ),
            "hosts": draw("part_hosts.html", hosts=hosts),
            "letters": draw("part_letters.html", letters=self._letters, name=name),
        }
