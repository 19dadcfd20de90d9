"""What a worker and a broker say to each other.

A worker asks (`Ask`), the broker answers (`Answer`): one round trip. Both are values, so
that any broker can stand behind the port (`frontier_port.Frontier`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy_dist.core.politeness import Granted, Manners, Visit, Yield
    from scrapy_dist.core.tasks import Begin, Beginning

LeaseId = str

#: Requests, items, ends or leases in one commit or call at the most: about that long others
#: wait for it.
BATCH = 100
#: Suspects that a worker holds at the most: they die together.
SUSPECTS = 8


class End(Enum):
    """How a page ends."""

    ACK = "+"
    #: Acknowledged, and it produced nothing: a broker without room still takes it.
    EMPTY = "="
    #: It does not end yet: a part of what it produces goes ahead.
    OPEN = "-"
    #: It becomes a dead letter.
    FAILED = "!"


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request for the frontier.

    In a *slot*, by its number, the lowest *score* comes first, and of several with an equal
    one the first; slots take turns. Disciplines that know no hosts have slot 0 only.

    *fingerprint* '': it is not filtered. *start*: the how-manieth equal request of
    ``start()`` it is, from 1, if it is to be taken once per crawl even if an earlier
    crawl has seen it; 0: it is none. *task*: the token of the task that it comes of; it is
    dropped if that has ended.
    """

    payload: bytes
    score: float
    fingerprint: str = ""
    start: int = 0
    slot: int = 0
    task: str = ""


@dataclass(slots=True)
class ChainLink:
    """A request that was crawled under the lease of another page.

    *fingerprint* counts as seen when that lease ends; '': it is not filtered. *reason*:
    why it has failed for good; it becomes a dead letter then, and *payload* is its
    request, of *slot*. *is_page*: it is not where another one was redirected to.
    """

    fingerprint: str
    reason: str = ""
    payload: bytes = b""
    is_page: bool = True
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a lease, and what is stored only if the lease is still this worker's.

    *requests* are not filtered. *reason*: why it has failed. *counts*: it is a page if it
    is done, not a seed that has become requests elsewhere, or a request that is tried
    again under another lease. *chain* comes with an end that is not OPEN. *task*: the token
    of the lease's task; its requests, items and links are of that task, too.
    """

    lease: LeaseId
    requests: Sequence[NewRequest] = ()
    items: Sequence[tuple[str, bytes]] = ()
    end: End = End.ACK
    reason: str = ""
    counts: bool = True
    chain: Sequence[ChainLink] = ()
    task: str = ""

    def __len__(self) -> int:
        return len(self.requests) + len(self.items) + (self.end is not End.OPEN)


@dataclass(frozen=True, slots=True)
class Commit:
    """What a worker sends under one number; about BATCH of each kind.

    *requests* and *items* (key, data) are stored whatever happened to the leases.
    """

    number: int
    requests: Sequence[NewRequest] = ()
    items: Sequence[tuple[str, bytes]] = ()
    settlements: Sequence[Settlement] = ()

    @property
    def ended(self) -> list[LeaseId]:
        """The leases that end with this commit."""
        return [s.lease for s in self.settlements if s.end is not End.OPEN]

    @property
    def crawled(self) -> int:
        """How many pages end with it: some leases are none, and a chain is some more."""
        others = sum(
            not s.counts and s.end in (End.ACK, End.EMPTY) for s in self.settlements
        )
        links = sum(link.is_page for s in self.settlements for link in s.chain)
        return len(self.ended) - others + links


class Outcome(Enum):
    """What has become of a commit."""

    STORED = "stored now"
    REPEATED = "stored by an earlier try"
    FULL = "the broker has no room: only End.EMPTY was taken"
    AGAIN = "not stored: to be sent once more"
    REFUSED = "refused, and the reason says why"
    UNKNOWN_WORKER = "the broker does not know this worker"
    GAP = "an earlier commit of this worker is missing"


@dataclass(frozen=True, slots=True)
class CommitReply:
    """*duplicates*: their positions in *requests*; *not_owned*: leases of others.

    *dropped*: the positions of those that are new, and whose task has ended.

    Of a commit that was stored by an earlier try, *not_owned* says at least whether.
    """

    outcome: Outcome
    not_owned: int = 0
    duplicates: Sequence[int] = ()
    reason: str = ""
    dropped: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that stays in this worker, to be filtered: its leases, see NewRequest.

    Without a fingerprint it is only dropped if its task was cancelled.
    """

    fingerprint: str
    leases: Sequence[LeaseId]
    start: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """A lease whose request becomes a dead letter; *kind* 'seed' or 'request'."""

    lease: LeaseId
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A request handed to this worker; *suspect*: another one died or left with it.

    *alone*: the next death sets it aside, so this worker is to hold nothing beside it.
    *is_seed*: *payload* is a seed as it was pushed. *too_large*: the bytes that it has, which
    are more than may be read, and *payload* is empty or a beginning of it. *slot*: its
    number. *task*: the token of its task, if that has begun.
    """

    id: LeaseId
    payload: bytes
    suspect: bool = False
    alone: bool = False
    is_seed: bool = False
    too_large: int = 0
    slot: int = 0
    task: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left for others after leases were taken.

    *waiting* of the suspects have failed, and there is no room for their dead letters.
    *alone*: this worker is to finish what it holds, to be alone with a suspect then.
    """

    pending: int = 0
    suspects: int = 0
    waiting: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """What is left to do for anybody, and the seconds since anybody did anything.

    *waiting*: see `Left`. *orphans* are leased without a lease; *unknown* are leases of
    workers that nobody knows.
    """

    pending: int = 0
    suspects: int = 0
    leased: int = 0
    seeds: int = 0
    idle: float = 0.0
    waiting: int = 0
    orphans: int = 0
    unknown: int = 0

    @property
    def is_stuck(self) -> bool:
        """Whether nobody can go on until somebody makes room for dead letters."""
        left = self.pending + self.suspects + self.leased + self.seeds + self.orphans
        return 0 < self.waiting == left

    @property
    def is_drained(self) -> bool:
        left = self.pending or self.suspects or self.leased or self.seeds
        return not (left or self.orphans)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The broker's side of the account of this worker.

    *commit* is the number of its last one, *held* are its leases, *alive* workers of the
    crawl, *silent* ones that a reap may end. *paused*: nobody is given a lease. *stop*:
    this worker is asked to close. *met*: how often workers have come that told their
    process.
    """

    known: bool
    commit: int
    held: int
    alive: int
    silent: int
    paused: bool = False
    stop: bool = False
    met: int = 0


@dataclass(frozen=True, slots=True)
class Deaths:
    """What reaping has made of dead workers' leases, and how many workers it ended."""

    suspects: int = 0
    failed: int = 0
    ended: int = 0


class JoinOutcome(Enum):
    """What has become of joining."""

    JOINED = "joined"
    FLUSHED = "joined, and an earlier crawl was deleted first"
    NOT_FLUSHED = "joined, and flushing was refused, for others are here"
    REFUSED = "not joined, and never will be: the refusal says why"
    NOT_NOW = "not joined while the others are here: the refusal says why"
    MISSED = "the crawl has finished without this worker"
    LATE = "it has finished while this worker was starting; it has not joined"


@dataclass(frozen=True, slots=True)
class Joined:
    """*others* are here; *blank*: nothing is seen yet; *refusal*: why not, for people."""

    outcome: JoinOutcome
    others: int = 0
    pending: int = 0
    blank: bool = False
    refusal: str = ""


class LeaveOutcome(Enum):
    """What is left behind by a worker that has left."""

    LEFT = "there is more to do, or somebody else is here"
    DELETED = "the crawl has ended, and its frontier was deleted"
    KEPT = "the crawl has ended, and its frontier is kept"


@dataclass(slots=True)
class Ask:
    """One round trip, carried out in the order of these fields.

    *gone*: (number, process) of workers of this machine that have ended. *info*: what
    this worker tells people of itself; '' leaves what was told before. *busy*: whether it
    has a request in hand that no lease stands for; None: as before. *stats*: changes of
    cluster-wide stats: ('inc', 'set', 'max' or 'min', name, value).
    """

    commits: Sequence[Commit] = ()
    releases: Sequence[LeaseId] = ()
    rejects: Sequence[Reject] = ()
    claims: Sequence[Claim] = ()
    #: Leased seeds that are tasks (<= BATCH).
    begins: Sequence[Begin] = ()
    gone: Sequence[tuple[str, str]] = ()
    reap: bool = False
    meet: bool = False
    heartbeat: bool = False
    info: str = ""
    busy: bool | None = None
    #: Take up what has failed while there was no room for dead letters.
    readmit: bool = False
    #: Most seeds, most leases, and most suspects among these.
    seeds: int = 0
    leases: int = 0
    suspects: int = 0
    #: Numbers of slots of which no leases but suspects are to come.
    enough: Sequence[int] = ()
    #: In a polite crawl: how leases are to come, seats that are given back, and slots that
    #: requests need of which no lease stands for.
    manners: Manners | None = None
    yields: Sequence[Yield] = ()
    visits: Sequence[int] = ()
    count: bool = False
    stats: Sequence[tuple[str, str, str]] = ()


@dataclass(slots=True)
class Answer:
    """What came of an `Ask`, field by field; None or empty: it was not asked for.

    *refused*: why the broker has refused a part of it, but a commit; what was asked for
    and is None was not done then.

    *claims*: of each whether it is new, or None: it is dropped, as its task was cancelled;
    None: ask again. *met*: see `Heartbeat`, and
    number and process of the others on this machine. *seeds_left*: those that wait.
    """

    commits: list[CommitReply] = field(default_factory=list)
    claims: list[bool | None] | None = None
    #: Of each of `Ask.begins` what has become of it; None: ask again.
    begun: list[Beginning] | None = None
    deaths: Deaths | None = None
    met: tuple[int, list[tuple[str, str]]] | None = None
    heartbeat: Heartbeat | None = None
    #: How many failed suspects still wait.
    readmitted: int | None = None
    seeds: list[Lease] = field(default_factory=list)
    seeds_left: int | None = None
    leases: list[Lease] = field(default_factory=list)
    left: Left | None = None
    granted: Granted | None = None
    visits: list[Visit] = field(default_factory=list)
    counts: Counts | None = None
    refused: str = ""
    #: The broker is in the middle of something that goes on when it is asked again.
    goes_on: bool = False
