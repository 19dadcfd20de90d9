"""The ports: what is needed of a broker, whichever it is, from outside.

What a worker needs of it is in `frontier_port`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from scrapy import Request, Spider
    from scrapy.settings import BaseSettings

    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.codec.seal import Seal
    from scrapy_dist.core.crawl import Cleared, Exported, Imported, Paused, TakenOver
    from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried
    from scrapy_dist.core.findings import Report
    from scrapy_dist.core.frontier import NewRequest
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.inspection import Explained, Found, Shown
    from scrapy_dist.core.status import Finished, Status
    from scrapy_dist.core.tasks import (
        Batch,
        NewTask,
        OnDuplicate,
        Run,
        Submission,
        Task,
        TaskState,
    )

    Fingerprint = Callable[[Request], str]
    #: Is told how many requests were looked at, and of how many.
    Progress = Callable[[int, int], None]


class Broker(Protocol):
    """A connection to the place where crawls are."""

    #: For people, without user name and password.
    where: str

    def crawl(
        self,
        settings: BaseSettings,
        spider: str,
        redis_key: object = None,
        *,
        compact: bool = False,
    ) -> Crawl:
        """The crawl that *settings* and *spider* name; `open_broker` was told of it.

        *redis_key*: see `admin.crawl.Crawl`. *compact*: whether its workers keep compact
        fingerprints, if there are none yet. Raises ConfigurationError.
        """

    async def names(
        self, settings: BaseSettings, *, finished: bool = False, begun: bool = False
    ) -> list[str]:
        """Names of the crawls of which there is something, sorted; looks at every key.

        *settings*: a FRONTIER_JOB there is a part of each. *finished*: only those with
        records of finished crawls. *begun*: none that is something of others only.
        """

    async def drop(self) -> None:
        """Give the connections up; what is asked next makes new ones."""

    async def close(self) -> None:
        """Close the connections. Nothing may be asked afterwards."""


class LetterReader(Protocol):
    """One of the readers who together get each dead letter once, whoever of them dies."""

    async def take(self) -> list[DeadLetter]:
        """Some that none of them has had, the oldest first; they stay dead letters.

        Also those that one had and did not acknowledge for some seconds.
        """

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """They are not needed any more."""


class SeedPusher(Protocol):
    async def push(self, seeds: Sequence[tuple[bytes, int]]) -> int:
        """Push *seeds*, each with its priority; how many were not there before."""


class ItemReader(Protocol):
    """One reader of items. Count in *done* what is not needed any more, the oldest first.

    *names*: of the items of the last `take`. An item that comes again has the name that
    it had, and no two items have one. *stands_by*: another reader of this name is at work,
    and this one, which has patience, gets nothing until that one is gone.
    """

    done: int
    names: list[str]
    stands_by: bool

    async def take(
        self, *, follow: bool = False, timeout: float | None = None
    ) -> list[bytes]:
        """Some more items; [] if there are none.

        *follow*: wait while the crawl goes on, but at most *timeout* seconds.
        """

    async def acknowledge(self) -> None:
        """Remove what is *done*."""

    async def beat(self) -> None:
        """Show that it is at work, and remove what is *done*."""

    async def leave(self, *, keep: int = 0) -> None:
        """Remove what is *done*, and give the rest back, for any reader.

        The first *keep* of it stay for the next reader of this name.
        """


class Tasks(Protocol):
    """Tasks; what has ended is kept for FRONTIER_RESULT_TTL seconds."""

    async def submit(
        self,
        tasks: Sequence[NewTask],
        *,
        key: str,
        kind: str,
        on_duplicate: OnDuplicate,
    ) -> list[Submission]:
        """Push the seeds of *tasks* to *key*, each in one moment with its record.

        *kind*: what *key* becomes if it is not there yet.
        """

    async def tasks_of(self, ids: Sequence[str | Run]) -> list[Task | None]:
        """The newest task of each id, or that run; None: there is none (any more)."""

    def tasks(
        self, *, batch: str = "", state: TaskState | None = None
    ) -> AsyncIterator[list[Task]]:
        """All tasks, some at a time, in no order; of *batch*, in *state*."""

    async def newest_tasks(self, count: int) -> list[Task]:
        """*count* (<= 100) that live, as far as there are; then those that ended last."""

    async def batch(self, name: str) -> Batch:
        """How far it is; of one that nobody knows all is 0."""

    def batches(self) -> AsyncIterator[list[Batch]]:
        """All batches, some at a time, in no order."""

    async def results(self, task: Task, start: int, count: int) -> list[bytes]:
        """Items of *task* in the order of their commits: *count* (<= 100) from *start*, 0.

        Fewer than there were if they are not kept any more.
        """

    async def cancel(self, ids: Sequence[str | Run]) -> list[Task | None]:
        """Cancel the tasks of *ids* that live; each as it stood before."""


class Crawl(Tasks, Protocol):
    """One crawl, from outside. All raise RedisUnavailable and ConfigurationError."""

    #: What its requests are signed with.
    seal: Seal
    #: Where the workers look for seeds; none: the spider reads none.
    seed_keys: tuple[str, ...]

    # Reading

    async def status(self, *, holds: int = 0) -> Status:
        """How it stands; with *holds* URLs of so many leases of each worker."""

    async def is_drained(self) -> bool:
        """Whether nothing is left to do for anybody."""

    async def history(self) -> list[Finished]:
        """The crawls that have finished within a day, the newest first."""

    async def sizes(self) -> dict[str, int]:
        """How many ``stats``, ``tasks`` and records of ``history`` there are."""

    async def kinds(self) -> list[bytes]:
        """What each of some requests here is, see `codec.envelope`."""

    def peek(self, count: int) -> AsyncIterator[list[Shown]]:
        """The next *count* requests in the order of their leases, some at a time."""

    async def hosts(
        self,
        count: int,
        *,
        sort: str,
        look: int,
        letters: int,
        delay_of: Callable[[int], float | None],
    ) -> Hosts:
        """The first *count* hosts in the order of *sort*, one of `core.hosts.SORTS`.

        Of more than *look* (200 at least) only some are looked at, those with the most
        requests among them; and the newest *letters*. *delay_of*: the delay, in seconds,
        of a slot, by its number, that has none of its own.
        """

    def find(
        self,
        urls: Iterable[str],
        fingerprint: Fingerprint,
        *,
        exact: bool,
        progress: Progress,
    ) -> AsyncIterator[Found]:
        """Where the requests of *urls* are; looks through all if need be.

        *fingerprint* names a request as the workers do. *exact*: it is Scrapy's own.
        """

    async def explain(
        self,
        urls: Iterable[str],
        fingerprint: Fingerprint,
        *,
        exact: bool,
        progress: Progress,
        delay_of: Callable[[int], float | None],
    ) -> list[Explained]:
        """All that is known of *urls*; arguments as in `find` and `hosts`."""

    async def reason_against(self, *, older: bool = False) -> str:
        """Why this version must not change it; '' if it may.

        *older*: an older format, which a worker converts, is no reason.
        """

    # Changing the whole

    async def pause(self, paused: bool) -> Paused:
        """Let no worker lease anything, or let them again."""

    async def stop(self, workers: Sequence[str]) -> int:
        """Ask workers, by their numbers, to close; how many were there."""

    async def clear(self, parts: Sequence[str], *, force: bool = False) -> Cleared:
        """Delete *parts* in one moment; without *force* only if no worker is alive."""

    async def recrawl(self, requests: Sequence[NewRequest]) -> None:
        """Queue *requests* whether they were seen or not; from then on they are."""

    # Dead letters

    def failed(
        self, reason: str = "", *, before: str = ""
    ) -> AsyncIterator[DeadLetter]:
        """Those with *reason* in theirs, older than the id *before*; newest first."""

    async def count_failed(self) -> int:
        """How many there are."""

    async def retry(
        self,
        ids: Iterable[str] | None,
        reason: str = "",
        *,
        decode: Callable[[bytes], Request] | None,
        seeds_as: str,
    ) -> Retried:
        """Put them back: those of *ids*, or all; of these only the ones with *reason*.

        *decode* raises BadPayload for what a worker could not read. *seeds_as*: the kind
        of a key of seeds that is not there yet.
        """

    async def forget(self, ids: Iterable[str] | None, reason: str = "") -> Forgotten:
        """Delete them for good, chosen as in `retry`."""

    def letters(self, name: str) -> LetterReader:
        """A reader for *name*: at first all letters are new to that."""

    async def refuse(
        self, seed: bytes, reason: str, source: str, *, again: bool = False
    ) -> bool:
        """Set aside what can be no seed; false: there is no room for more letters.

        *source*: what names the message that it came by. One that comes *again* within
        ten minutes has its letter already.
        """

    # Seeds and items

    def seed_pusher(self, key: str, kind: str) -> SeedPusher:
        """What pushes to *key*; *kind*: what that becomes if it is not there yet."""

    def items(self, consumer: str, patience: float | None = None) -> ItemReader:
        """A reader of that name. Raises ConfigurationError for what is no name.

        It takes over from an earlier one: at once, or with *patience* when that has been
        silent for so many seconds.
        """

    # Maintenance

    async def check(
        self, *, repair: bool, decode: Callable[[bytes], object] | None
    ) -> Report:
        """Whether the frontier is whole; *repair*: make it so.

        *decode* raises BadPayload for what a worker could not read; None: its form is
        looked at only.
        """

    def export(
        self, exported: Exported, *, items: bool
    ) -> AsyncIterator[list[dict[str, object]]]:
        """All of it as lines of JSON, some at a time; *exported* keeps account."""

    def import_lines(
        self, lines: Iterable[bytes], imported: Imported, *, merge: bool
    ) -> AsyncIterator[int]:
        """Bring exported *lines* in; yields the lines done, now and then."""

    def take_over(
        self,
        prefix: str,
        taken: TakenOver,
        *,
        spider: Spider,
        codec: PayloadCodec,
        fingerprint: Fingerprint | None,
    ) -> AsyncIterator[int]:
        """Move in what scrapy-redis keeps below *prefix*; yields the requests moved."""
