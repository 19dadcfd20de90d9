"""Tasks: seeds with an id, whose state, counts and results can be asked for.

All requests that come of a task carry its *token*, 16 hex digits that name this one run of
it; the *id* is the user's, and may be used again once the task has ended. The counts change
in the same moment as what they count, so the end of a task is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from scrapy_dist.base import times

if TYPE_CHECKING:
    from datetime import datetime


class TaskState(str, Enum):
    """How a task stands; equal to its name as text: ``task.state == "done"``."""

    #: Its seed waits.
    QUEUED = "queued"
    #: A worker has begun it, and something of it is left to do.
    RUNNING = "running"
    #: Nothing of it is left, and nothing of it has failed.
    DONE = "done"
    #: Nothing of it is left, and something of it has become a dead letter.
    FAILED = "failed"
    #: It was cancelled. What runs of it is finished, and leads to nothing more.
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value

    @property
    def is_end(self) -> bool:
        """Whether nothing more is to be expected."""
        return self not in (TaskState.QUEUED, TaskState.RUNNING)


class OnDuplicate(Enum):
    """What becomes of a task whose id belongs to one that lives."""

    #: It is refused.
    REFUSE = "refuse"
    #: It is the one that lives: nothing is pushed.
    JOIN = "join"
    #: The one that lives is cancelled first.
    RESTART = "restart"
    #: It is the newest one with this id, also if that has ended: nothing is pushed.
    REUSE = "reuse"


class Submission(Enum):
    """What has become of a submitted task."""

    SUBMITTED = "submitted"
    REFUSED = "refused: a task with this id lives"
    JOINED = "joined: nothing was pushed"
    RESTARTED = "submitted, and the one that lived was cancelled"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be submitted; *seed* holds its id and token, *priority* is the seed's."""

    id: str
    token: str
    seed: bytes
    priority: int = 0
    batch: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """How a task stands. Times are ms of Redis' clock; 0: not yet.

    *open*: requests of it that are left to do, its seed among them; *done*: pages that
    ended well; *failed*: its dead letters; *items*: items stored. *worker*: ``host:pid``
    of who began it. *reason*: of the last failure.
    """

    id: str
    state: TaskState
    token: str = ""
    batch: str = ""
    open: int = 0
    done: int = 0
    failed: int = 0
    items: int = 0
    submitted_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    worker: str = ""
    reason: str = ""

    @property
    def submitted(self) -> datetime | None:
        return times.from_ms(self.submitted_ms)

    @property
    def started(self) -> datetime | None:
        return times.from_ms(self.started_ms)

    @property
    def ended(self) -> datetime | None:
        return times.from_ms(self.ended_ms)

    @property
    def seconds(self) -> float | None:
        """From its begin to its end; None: it has not both."""
        if not self.started_ms or not self.ended_ms:
            return None
        return max(0, self.ended_ms - self.started_ms) / 1000


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a task; the id alone stands for its newest one."""

    id: str
    token: str

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class Batch:
    """How many tasks of a batch are in which state."""

    name: str
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.queued + self.running + self.done + self.failed + self.cancelled

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.cancelled

    @property
    def states(self) -> dict[str, int]:
        """How many are in which state."""
        return {state.value: getattr(self, state.value) for state in TaskState}

    def counts(self) -> dict[str, Any]:
        """Its name, and how many are in which state, by their names."""
        return {each.name: getattr(self, each.name) for each in fields(Batch)}


@dataclass(frozen=True, slots=True)
class Begin:
    """The seed of *lease*, of this worker, is a task: it begins, or goes on.

    *token* of one that was submitted is in its seed; of a seed that was pushed by hand it
    is new, and *is_new* says so.
    """

    lease: str
    id: str
    token: str
    batch: str = ""
    is_new: bool = False


class Beginning(Enum):
    """What has become of a `Begin`."""

    BEGUN = "begun"
    #: Another task with this id lives: the seed is to be set aside.
    REFUSED = "refused"
    #: It was cancelled before it began: the seed is to be dropped.
    CANCELLED = "cancelled"
    #: The lease is not this worker's.
    NOT_OWNED = "not owned"
