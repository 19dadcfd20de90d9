"""Seeds that are tasks: they begin before the spider sees them, or go.

The broker says whether a task may begin, in the next exchange. A reply that is lost does no
harm: it is asked again, by the same token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import quote, spider_logger
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.core.tasks import Begin, Beginning
from scrapy_dist.exceptions import BadSeed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scrapy_dist.codec.seed_tasks import SeedTask
    from scrapy_dist.worker.inbox import Inbox
    from scrapy_dist.worker.leases import HeldLease
    from scrapy_dist.worker.outputs import Outputs
    from scrapy_dist.worker.pacing import Pacing
    from scrapy_dist.worker.provenance import Provenance
    from scrapy_dist.worker.seeds import Seeds
    from scrapy_dist.worker.view import EngineView

#: Why a worker crawls nothing of a task.
_NO_ADDON = (
    "it is of a task, and tasks need the add-on, which knows what comes of which page:"
    ' ADDONS = {"scrapy_dist.Addon": 500} in place of the SCHEDULER and DUPEFILTER_CLASS'
    " lines"
)


class Beginnings:
    """Those that *seeds* has ``to_begin``."""

    def __init__(
        self,
        engine: EngineView,
        seeds: Seeds,
        inbox: Inbox,
        outputs: Outputs,
        provenance: Provenance,
        pacing: Pacing,
    ) -> None:
        #: Which task a seed is, as the spider reads it; raises BadSeed.
        self.find: Callable[[bytes], SeedTask | None] = lambda _: None
        self._engine = engine
        self._logger = spider_logger(__name__, engine.spider)
        self._seeds = seeds
        self._outputs = outputs
        self._provenance = provenance
        self._pacing = pacing
        self._said_cancelled = self._said_no_addon = False
        seeds.flaw_of = inbox.flaw_of = self.flaw_of

    def add(self, record: HeldLease, payload: bytes) -> None:
        """A seed has come: it goes to the spider, or has to begin first."""
        try:
            task = self.find(payload)
        except BadSeed as e:
            self._seeds.reject(record, str(e))
            return
        if task is None:
            self._seeds.add(record, payload)
        elif record.task:
            self._seeds.add(record, task.data)
        else:
            begin = Begin(record.id, task.id, task.token, task.batch, task.is_new)
            self._seeds.to_begin[record.id] = record, begin, task.data
            self._pacing.request()

    def flaw_of(self, record: HeldLease) -> str:
        """Why nothing is to be crawled under *record*, which the log says once; or ''."""
        if not record.task or self._provenance.noting:
            return ""
        if not self._said_no_addon:
            self._said_no_addon = True
            self._logger.error(
                "This worker sets aside what is of a task: %s. No more of these are"
                " logged.",
                _NO_ADDON,
            )
        return _NO_ADDON

    def take(self) -> list[Begin]:
        """What to ask for in this exchange."""
        waiting = [begin for _, begin, _ in self._seeds.to_begin.values()]
        return waiting[:BATCH]

    def answered(
        self, begins: Sequence[Begin], found: Sequence[Beginning] | None
    ) -> bool:
        """What has become of *begins*; whether some leases are not this worker's."""
        for begin, beginning in zip(begins, found or (), strict=found is not None):
            # One that is not there was dropped meanwhile.
            if beginning is not Beginning.NOT_OWNED:
                waiting = self._seeds.to_begin.pop(begin.lease, None)
                if waiting is not None:
                    record, _, data = waiting
                    self._begun(record, begin, beginning, data)
        if self._seeds.to_begin:
            self._pacing.request()
        return found is not None and Beginning.NOT_OWNED in found

    def _begun(
        self, record: HeldLease, begin: Begin, beginning: Beginning, data: bytes
    ) -> None:
        if beginning is Beginning.REFUSED:
            self._seeds.reject(record, _why_refused(begin))
            return
        if beginning is Beginning.BEGUN:
            record.task = begin.token
            self._seeds.add(record, data)
            return
        self._engine.stats.inc_value("frontier/dropped")
        if not self._said_cancelled:
            self._said_cancelled = True
            self._logger.info(
                "The task %s was cancelled before it began: its seed is dropped. No more"
                " of these are logged; see the stat frontier/dropped.",
                quote(begin.id),
            )
        self._outputs.let_go((record,))


def _why_refused(begin: Begin) -> str:
    if begin.is_new:
        return (
            f"a task with the id {quote(begin.id)} is still queued or running; push it"
            " again when that has ended, or under another id"
        )
    return (
        f"the task {quote(begin.id)} has ended, or another one with its id is still"
        " queued or running"
    )
