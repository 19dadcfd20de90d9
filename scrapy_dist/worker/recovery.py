"""What a worker makes of trouble between it and Redis: in which state it is, and the log.

Four things may go wrong at once, and each has its own few states: whether Redis answers
(`Link`), whether both agree on what this worker holds (`view.Account`), whether there is
memory for results (`view.Memory`), and whether Redis refuses them for another reason.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.base.words import count, span
from scrapy_dist.worker.view import Account, Memory, View

if TYPE_CHECKING:
    from scrapy import Spider

    from scrapy_dist.core.frontier import Deaths, Heartbeat

#: How often in a row an exchange may fail in the same way, if it is not Redis' fault.
_DEFECTS = 8


class Link(Enum):
    """How the last exchange ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    #: Failed because Redis does not answer, and the log says so.
    AWAY = "away"


class Ending(Enum):
    """Why a worker has to close; the value is the reason that Scrapy is given."""

    #: Somebody asks for it.
    STOPPED = "stopped"
    #: The crawl has finished without this worker.
    MISSED = "finished"
    #: Redis has not answered for FRONTIER_REDIS_PATIENCE.
    AWAY = "redis_unavailable"
    #: Exchanges fail again and again, and it is not Redis' fault.
    DEFECT = "frontier_defect"
    #: The frontier has become one that this version cannot read.
    FORMAT = "frontier_format"
    #: Nothing is left but what fails, and there is no room for it.
    STUCK = "failed_limit"


class Listener(Protocol):
    """Who closes a worker."""

    def must_close(self, why: Ending) -> None:
        """Begin to; called once for each reason, which the log has told."""


@dataclass(eq=False)
class Recovery:
    """The states of one worker; *patience* in seconds, 0: for ever."""

    _view: View
    _spider: Spider
    _listener: Listener
    patience: float
    link: Link = Link.ANSWERED
    #: Why Redis refuses what this worker produced; '' if it does not.
    refusal: str = ""
    #: How often in a row an exchange has failed at the same place.
    defects: int = 0
    _defect: tuple[object, ...] = ()
    #: Why this worker registers again.
    _found: str = ""
    _endings: set[Ending] = field(default_factory=set)
    #: What this worker has taken from a dead one so far.
    _taken_over: int = 0
    _given_up: int = 0
    #: Whether the log says that there is no room for dead letters.
    _no_room: bool = False

    def __post_init__(self) -> None:
        self._logger = spider_logger(__name__, self._spider)
        self._answered_at = time.monotonic()

    def _end(
        self, why: Ending, message: str, *args: object, level: int = logging.ERROR
    ) -> None:
        if why not in self._endings:
            self._endings.add(why)
            self._logger.log(level, message, *args)
            self._listener.must_close(why)

    # Whether Redis answers

    def failed(self, error: Exception | None, held: int) -> None:
        """An exchange has failed; *error* None: the log says why. *held*: leases."""
        if error is not None and self.link is not Link.AWAY:
            self.link = Link.AWAY
            self._logger.warning(
                "No exchange with Redis (%s). This worker keeps %s, goes on"
                " and tries again until Redis is back.",
                error,
                count(held, "request"),
            )
        elif self.link is Link.ANSWERED:
            self.link = Link.FAILED
        if 0 < self.patience <= time.monotonic() - self._answered_at:
            self._end(
                Ending.AWAY,
                "Redis has not answered for %s (FRONTIER_REDIS_PATIENCE):"
                " closing. What this worker holds is crawled by the next one.",
                span(self.patience),
            )

    def defective(self, error: Exception) -> None:
        """An exchange has failed, and Redis is not the cause; ``failed`` follows."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        defect = (type(error), place.filename, place.lineno)
        self.defects = self.defects + 1 if defect == self._defect else 1
        self._defect = defect
        if self.defects == 1:
            self._logger.error(
                "The exchange with Redis failed. It is tried again.", exc_info=error
            )
        elif self.defects == _DEFECTS:
            self._end(
                Ending.DEFECT,
                "The exchange with Redis failed %d times in a row at the same place (%s:"
                " %s): closing. This is a defect of scrapy-dist, or of what the project"
                " gives it; the traceback is above. What this worker holds goes back.",
                _DEFECTS,
                type(error).__name__,
                error,
            )

    def answered(self) -> None:
        """An exchange was all right."""
        self.defects = 0
        if self.link is Link.AWAY:
            self._logger.info("Redis is back.")
        self.link = Link.ANSWERED
        self._answered_at = time.monotonic()

    # Whether both agree on what this worker holds

    def doubt(self) -> None:
        """Redis may hold other leases for this worker than it has."""
        if self._view.account is Account.JOINED:
            self._view.account = Account.RECONCILING

    def compared(self) -> None:
        """Both hold the same leases."""
        if self._view.account is Account.RECONCILING:
            self._view.account = Account.JOINED

    def rolled_back(self, found: str) -> None:
        """Redis went back to an earlier state, as was *found*."""
        if self._view.account is Account.OVER:
            return
        self._view.account = Account.REJOINING
        self._view.alone = False
        if self.link is Link.AWAY:
            # One line says that it is back, and what came of it.
            self.link = Link.FAILED
            found = f"Redis is back. {found}"
        self._found = self._found or found

    def rejoined(self, held: int) -> None:
        """This worker, with *held* leases, has registered again."""
        if self._view.account is not Account.REJOINING:
            return
        self._view.account = Account.RECONCILING
        self._logger.warning(
            "%s. This worker registers again, and %s of its own will be crawled"
            " again by whoever gets them.",
            self._found,
            count(held, "request"),
        )
        self._found = ""

    def shut_out(self, refusal: str) -> None:
        """Its crawl was cleared, and a worker that goes by other rules has begun one."""
        self._end(Ending.FORMAT, "%s", refusal)

    def missed_end(self, lost: int) -> None:
        """The crawl is over; *lost* results are not stored."""
        self._view.account = Account.OVER
        self._end(
            Ending.MISSED,
            "The others have finished this crawl while this worker was cut off. What"
            " it had begun was crawled by them; %s not stored. Closing:"
            " see scrapy frontier history.",
            count(lost, "result of it is", "results of it are"),
            level=logging.WARNING,
        )

    def came_late(self) -> None:
        """The crawl was over before this worker could join."""
        self._view.account = Account.OVER

    # Whether Redis takes results

    def refused(self, reason: str) -> None:
        """Redis refuses a commit."""
        self.doubt()
        if reason != self.refusal:
            self.refusal = reason
            self._logger.warning(
                "Redis refuses what this worker produced: %s. It is kept, and sent again"
                " until Redis takes it.",
                reason,
            )

    def full(self, waiting: int) -> bool:
        """Redis has no memory for commits, *waiting* results; false if that was known."""
        before, self._view.memory = self._view.memory, Memory.FULL
        if before is Memory.ENOUGH:
            self._logger.warning(
                "Redis is full (maxmemory). Of this worker %s until there is"
                " room; pages that lead to nothing new go on. Raise maxmemory, move items"
                " out of Redis, or give it a bigger machine.",
                count(waiting, "result waits", "results wait"),
            )
        return before is not Memory.FULL

    def stored(self) -> None:
        """Redis has stored something new."""
        if self._view.memory is Memory.FULL:
            self._view.memory = Memory.DRAINING

    def taken(self, waiting: int) -> None:
        """No commit was refused; *waiting* results are to come."""
        if self.refusal:
            self.refusal = ""
            self._logger.info("Redis takes results again.")
        if self._view.memory is Memory.DRAINING and not waiting:
            self._view.memory = Memory.ENOUGH
            self._logger.info("Redis has memory again.")

    # What a beat tells, and what else only the log is told

    def heard(self, beat: Heartbeat) -> None:
        """The crawl may be paused, and this worker may be asked to close."""
        if beat.paused != self._view.paused:
            self._view.paused = beat.paused
            self._logger.info(
                "Paused: this worker finishes what it holds and takes no more."
                if beat.paused
                else "Resumed."
            )
        if beat.stop:
            self._end(
                Ending.STOPPED,
                "Asked to stop (scrapy frontier workers --stop): closing.",
                level=logging.INFO,
            )

    def took_over(self, deaths: Deaths) -> None:
        """This worker has taken from dead ones what they held."""
        self._taken_over += deaths.suspects
        self._given_up += deaths.failed
        if deaths.ended:
            self._logger.info(
                "%s dead: silent for more than FRONTIER_WORKER_TTL, or without a process."
                " Of what was held there, %s now, and %s.",
                count(deaths.ended, "worker is", "workers are"),
                count(
                    self._taken_over, "request is a suspect", "requests are suspects"
                ),
                count(self._given_up, "is a dead letter", "are dead letters"),
            )
            self._taken_over = self._given_up = 0

    def stuck(self, waiting: int, failed_key: str, limit: int) -> None:
        """Nothing is left but *waiting* requests that fail, without room for them."""
        self._end(
            Ending.STUCK,
            "Closing: nothing is left to do but %s failed, and %s is"
            " full (FRONTIER_FAILED_LIMIT = %d). They stay in Redis. Put dead letters"
            " back or delete them (scrapy frontier retry, forget), or raise the limit,"
            " and start a worker: it goes on with them.",
            count(waiting, "request that has", "requests that have"),
            failed_key,
            limit,
        )

    def look_at_room(self, failed_key: str) -> None:
        """Whether what fails waits for room among the dead letters, see ``view``."""
        waiting = self._view.waiting
        if bool(waiting) == self._no_room:
            return
        self._no_room = bool(waiting)
        if not waiting:
            self._logger.info("%s has room again.", failed_key)
            return
        self._logger.warning(
            "%s is full (FRONTIER_FAILED_LIMIT). What fails now stays among the suspects"
            " and is tried again when there is room (%s so far): see `scrapy"
            " frontier failed`, put dead letters back (`retry`), delete them (`forget`),"
            " or raise the limit.",
            failed_key,
            count(waiting, "request"),
        )
