"""A random play of workers, deaths and cut connections against a broker, through its port.

The machine knows, from what the broker held before each part of an exchange, what that
part may do. After every step it looks whether the invariants I1 to I3 hold, and at the end
whether an honest worker finds everything that is left, each page's items are there once,
and whoever comes back later learns that the crawl is over.
"""

from __future__ import annotations

import asyncio
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scrapy_dist.core.frontier import (
    Answer,
    Ask,
    ChainLink,
    Counts,
    End,
    JoinOutcome,
    LeaveOutcome,
    Outcome,
)
from scrapy_dist.core.slots import NO_SLOT
from scrapy_dist.core.tasks import Beginning, Task
from scrapy_dist.exceptions import RedisUnavailable
from tests.support.light_worker import LightWorker, Yield, plain, score

if TYPE_CHECKING:
    from scrapy_dist.core.frontier_port import Frontier

#: What the tests play. Plays that fail are not made smaller: that takes minutes, and the
#: seed that is printed repeats them (with Phase.shrink added, if need be).
PLAYS = settings(
    max_examples=26,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    print_blob=True,
)
DEPTH = 3
WORKERS = 3
MAX_DELIVERIES = 4
#: Deaths after which a request is handed out alone.
LAST = min(2, MAX_DELIVERIES - 1)
#: Dead letters that S:failed has room for, until the play is over.
FAILED_LIMIT = 2
TTL = 60.0
START = "home"
#: Numbers of the slots that requests are in.
SLOTS = (NO_SLOT, 1, 2, 2**52 - 1)
#: Why a page is set aside that the worker cannot read.
UNREADABLE = "it cannot be read"
#: What an exchange may have parts of.
PARTS = (
    *("commits", "releases", "rejects", "claims", "begins", "reap", "heartbeat"),
    *("readmit", "seeds", "leases"),
)
#: What every session is made with.
OPTIONS = {"ttl": TTL, "max_deliveries": MAX_DELIVERIES}

#: Which worker: the first, the second …
ANY = st.integers(0, WORKERS - 1)
#: What a worker may do. A connection that is cut lets so many calls of an exchange pass.
ACTIONS = (
    "exchange",
    "lease 1",
    "lease 3",
    "spare 2",
    "yield",
    "finish",
    "finish",
    "cut 1",
    "cut 3",
    "reject",
)
#: What may happen around them: "time" is in seconds.
EVENTS = ("join", "seed", "seed", "time 26", "time 41")


def programs() -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=5)


def plays() -> st.SearchStrategy[list[tuple[int, str]]]:
    """Of two workers."""
    action = st.tuples(st.integers(0, 1), st.sampled_from(ACTIONS))
    return st.lists(action, min_size=1, max_size=8)


def site(name: str, *, kept: bool = True) -> Yield:
    """What the page *name* yields, known in advance so that a lost one shows.

    A filtered request, one that is not filtered, one that stays in the worker, one that
    is crawled ahead of the broker where that is possible, and one that all pages of a level
    share, so that it is a duplicate most of the time. The last letter of a name says what
    kind of page it is.
    """
    depth = name.count(".")
    kind = name[-1]
    items = (f"item-{name}".encode(),)
    if kind == "x":
        return Yield(failure="it raised", items=items)
    if kind == "p":
        return Yield(unfiltered=(f"{name}.t",), items=items, in_parts=True)
    if depth >= DEPTH or "shared" in name or kind == "t":
        return Yield(items=items)
    if kind == "k":
        return Yield(filtered=(f"{name}.a",), items=items)
    shared = f"{'seed-' * name.startswith('seed-')}shared-{depth}"
    return Yield(
        filtered=(f"{name}.a", shared, *([f"{name}.x"] * (depth < 2))),
        unfiltered=(f"{name}.b", *([f"{name}.p"] * (depth == 0))),
        kept=(f"{name}.k",) if kept and depth < DEPTH - 1 else (),
        chain=(f"{name}.h", *([f"{name}.hx"] * (depth < 2))),
        items=items,
    )


def slot_of(name: str) -> int:
    """The number of the slot of the page *name*; a seed has none."""
    if re.fullmatch(r"seed-\d+", name):
        return NO_SLOT
    return SLOTS[zlib.crc32(name.encode()) % len(SLOTS)]


def comes_again(name: str) -> bool:
    """Whether *name* was sent ahead of the ack of its page, so that it may come twice."""
    return name.endswith(".t")


@dataclass
class World:
    """What is true at a moment."""

    acked: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    killed: set[str] = field(default_factory=set)
    #: What a worker has set aside, or tried to while there was no room for it.
    rejected: set[str] = field(default_factory=set)
    turned_away: set[str] = field(default_factory=set)
    deaths: Counter[str] = field(default_factory=Counter)
    seeds: set[str] = field(default_factory=set)
    #: How often a page has failed while there was no room for it: it is crawled again.
    refused: Counter[str] = field(default_factory=Counter)
    #: What somebody has deleted the leases of.
    orphans: set[str] = field(default_factory=set)
    is_paused: bool = False
    #: Whether somebody has deleted turns of slots: it takes longer to find these then.
    lost_turns: bool = False

    @property
    def done(self) -> set[str]:
        """Pages that are stored with what they have yielded."""
        return self.acked | self.failed

    @property
    def buried(self) -> set[str]:
        return self.failed | self.killed | self.rejected


@dataclass(frozen=True)
class Entry:
    """A request in one place: "pending", "suspect" or "leased"."""

    id: str
    place: str
    name: str
    #: Infinite if it has failed and waits for room.
    score: float
    slot: int = NO_SLOT
    deaths: int = 0
    #: Fingerprints, as `FrontierMachine.claim` calls them.
    claims: Collection[str] = ()
    #: The token of its task.
    task: str = ""


@dataclass
class Look:
    """All that a broker holds at one moment."""

    entries: list[Entry]
    #: Order ids of the pending ones and of the suspects, the first to be leased first.
    order: list[str]
    suspects: list[str]
    #: Slots that are known to have pending ones, the next to be handed out first.
    turns: list[int]
    #: Of each lease the worker.
    owners: dict[str, str]
    #: Fingerprints.
    seen: set[str]
    items: Counter[bytes]
    #: How many items were ever stored, as the broker counts them.
    pushed: int
    #: Name, reason and deliveries of the dead letters.
    letters: list[tuple[str, str, int]]
    #: Seeds that nobody has taken yet.
    waiting: list[str]
    #: Of each worker when it was heard of, in ms; up to 1: it is known to be dead.
    beats: dict[str, int]
    now: int = field(compare=False)
    #: Of each worker the number of its last commit.
    commits: dict[str, int]
    #: Of each token its task; and of each how many dead letters and results there are.
    tasks: dict[str, Task]
    failures: Counter[str]
    results: Counter[str]

    def __post_init__(self) -> None:
        self.by_id = {entry.id: entry for entry in self.entries}

    def leased_by(self, worker: LightWorker) -> set[str]:
        number = worker.session.worker
        return {id_ for id_, owner in self.owners.items() if owner == number}

    @property
    def known(self) -> set[str]:
        return {entry.name for entry in self.entries}

    @property
    def pending(self) -> dict[int, list[str]]:
        """Order ids of the pending ones of each slot, in order."""
        found: dict[int, list[str]] = {}
        for id_ in self.order:
            found.setdefault(self.by_id[id_].slot, []).append(id_)
        return found


class FrontierMachine(RuleBasedStateMachine):
    """Subclasses say which broker."""

    #: Whether the broker can do claims: fakeredis has no ``redis.sha1hex``.
    has_claims = True
    #: Where items go.
    items = "s:items"
    #: What fingerprint pages have.
    fingerprint = staticmethod(plain)
    #: Whether it may ask for a commit or a claim once more.
    may_say_again = False
    #: Of the workers that join.
    failed_limit = FAILED_LIMIT

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.open_broker()
        self.workers: list[LightWorker] = []
        self.world = World()
        #: What the broker holds, where nothing has happened since somebody looked.
        self.seen: Look | None = None
        self.pushed = self.joined = self.tokens = 0
        #: A session of nobody who works on it.
        self.outside: Frontier | None = None
        #: Pages by their fingerprints.
        self.names: dict[str, str] = {}

    # What a subclass says

    def open_broker(self) -> None:
        """Connect to a broker that holds nothing."""
        raise NotImplementedError

    def session(self, number: int, **options: Any) -> Frontier:
        """Of one more worker, the *number*-th of this play, on the machine "m"."""
        raise NotImplementedError

    def read(self) -> Look:
        raise NotImplementedError

    def push_seed(self, name: str) -> None:
        raise NotImplementedError

    def pause(self, paused: bool) -> None:
        raise NotImplementedError

    def let_time_pass(self, seconds: int) -> None:
        raise NotImplementedError

    def last_beat(self, worker: str) -> None:
        """The last beat of *worker* is long ago, if it is known at all."""
        raise NotImplementedError

    def end_of_grace(self) -> None:
        """The dead may be reaped at once, though nobody was alive for long."""
        raise NotImplementedError

    def is_gone(self) -> tuple[int, int]:
        """Assert that nothing of the crawl is left; items and failed pages on record."""
        raise NotImplementedError

    def claim(self, fingerprint: str) -> str:
        """What `Entry.claims` says of *fingerprint*."""
        return fingerprint

    def close_broker(self) -> None:
        """Disconnect."""

    # How it plays

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def look(self) -> Look:
        if self.seen is None:
            self.seen = self.read()
        return self.seen

    def site(self, name: str) -> Yield:
        result = site(name, kept=self.has_claims)
        for each in (START, name, *result.filtered, *result.kept, *result.chain):
            self.names[self.fingerprint(each)] = each
        return result

    def name_of(self, fingerprint: str) -> str:
        return self.names.get(fingerprint, fingerprint)

    def pick(self, at: int) -> LightWorker:
        return self.workers[at % len(self.workers)]

    def join(self) -> LightWorker:
        self.joined += 1
        session = self.session(self.joined, failed_limit=self.failed_limit)
        worker = LightWorker(
            session,
            self.site,
            items=self.items,
            fingerprint=self.fingerprint,
            slot=slot_of,
            watch=self.watch,
            may_go_ahead=self.may_go_ahead,
            token=self.token_of,
        )
        assert self.run(worker.join("host:1")).outcome is JoinOutcome.JOINED
        assert self.run(session.exchange(Ask(meet=True))).met
        self.seen = None
        worker.start(START)
        self.workers.append(worker)
        return worker

    def token_of(self, seed: str) -> str:
        """Of every other seed one more token: it is a task."""
        if int(seed.removeprefix("seed-")) % 2:
            return ""
        self.tokens += 1
        return f"{self.tokens:016x}"

    def may_go_ahead(self, worker: LightWorker, name: str) -> bool:
        """As for a worker that is alone, but for one page: the plays have two workers.

        Nobody has yielded it, and nobody will who has a page that leads to it: the dead
        who know nothing of it yet have such pages, too.
        """
        for other in self.workers:
            if other is worker:
                continue
            if name in other.sent:
                return False
            if any(f"{name}.".startswith(f"{each}.") for each in other.in_hand):
                return False
        return self.fingerprint(name) not in self.look().seen

    def exchange(self, worker: LightWorker, **wants: Any) -> None:
        self.seen = None  # it may join first
        try:
            self.run(worker.exchange(**wants))
        except RedisUnavailable as e:
            if "cut" not in str(e):
                raise
        self.seen = None

    def act(self, worker: LightWorker, actions: list[str]) -> None:
        """Let *worker* do some of ACTIONS."""
        for action in actions:
            what, _, argument = action.partition(" ")
            if what == "exchange":
                self.exchange(worker)
            elif what == "lease":
                self.exchange(worker, want=int(argument), seeds=1)
            elif what == "spare":
                enough = sorted({slot_of(name) for name in worker.in_hand})
                self.exchange(worker, want=int(argument), enough=enough)
            elif what == "cut":
                worker.cut_after(int(argument))
                self.exchange(worker, want=2)
                worker.cut_after(math.inf)
            elif what == "reject":
                if worker.inbox and not comes_again(worker.inbox[0].name):
                    worker.reject(UNREADABLE)
            elif what == "yield":
                task = worker.take()
                if task is not None:
                    worker.go_on(task)
            elif worker.open or worker.inbox:
                worker.finish(worker.open[0] if worker.open else worker.take())

    # What may happen

    @initialize(actions=programs())
    def a_crawl_has_begun(self, actions: list[str]) -> None:
        first, second = self.join(), self.join()
        self.act(first, ["exchange", "lease 1", "finish", "exchange", "lease 2"])
        self.act(second, ["exchange", "lease 2"])
        self.act(first, actions)

    @rule(at=ANY, actions=programs())
    def works(self, at: int, actions: list[str]) -> None:
        self.act(self.pick(at), actions)

    @rule(at=ANY, actions=programs(), then=programs())
    def is_frozen_and_given_up(
        self, at: int, actions: list[str], then: list[str]
    ) -> None:
        """Another one finds it dead and acts; then it goes on, and nobody told it."""
        if len(self.workers) > 1:
            zombie, other = self.pick(at), self.pick(at + 1)
            self.fall_silent(zombie)
            self.act(other, ["exchange", "lease 1", "finish", *actions])
            self.act(zombie, then)

    @rule(
        at=ANY,
        end=st.sampled_from(["dies", "is gone", "leaves"]),
        finished=st.sampled_from([False, None, True]),
    )
    def ends(self, at: int, end: str, finished: bool | None) -> None:
        """And another one takes its place."""
        worker = self.pick(at)
        if end == "dies":
            self.fall_silent(worker)
        elif end == "is gone" and len(self.workers) > 1:
            # Its process, and another worker on its machine sees it.
            number = worker.session.worker
            gone = Ask(gone=[(number, worker.session.process[1])])
            self.run(self.pick(at + 1).session.exchange(gone))
            self.seen = None
            if self.look().beats.get(number, 1) > 1:
                self.fall_silent(worker)  # the broker has forgotten which process it is
        else:
            self.leave(worker, finished)
        self.workers.remove(worker)
        if len(self.workers) < WORKERS:
            self.join()

    @rule(finished=st.booleans())
    def all_leave(self, finished: bool) -> None:
        """And others go on where they have stopped."""
        for worker in self.workers:
            self.leave(worker, finished)
        self.workers.clear()
        self.join()
        self.join()

    @rule(at=ANY, times=st.integers(2, MAX_DELIVERIES))
    def die_one_after_another(self, at: int, times: int) -> None:
        """Each with what the one before has died with."""
        worker = self.pick(at)
        for _ in range(times):
            self.exchange(worker, want=2)
            self.fall_silent(worker)
            self.workers.remove(worker)
            worker = self.join()
            self.exchange(worker)  # it finds the dead one, and then takes over
            self.exchange(worker)

    @rule(what=st.sampled_from(EVENTS))
    def something_happens(self, what: str) -> None:
        kind, _, argument = what.partition(" ")
        self.seen = None
        if kind == "join" and len(self.workers) < WORKERS:
            self.join()
        elif kind == "seed":
            self.pushed += 1
            name = f"seed-{self.pushed}"
            self.push_seed(name)
            self.world.seeds.add(name)
        elif kind == "time":
            self.let_time_pass(int(argument))

    @rule(play=plays())
    def it_is_paused(self, play: list[tuple[int, str]]) -> None:
        """Nobody gets anything meanwhile, and what is in hand goes on."""
        self.something_happens("seed")
        self.set_paused(True)
        for who, action in play:
            self.act(self.pick(who), ["lease 3", action])
        self.set_paused(False)

    def set_paused(self, paused: bool) -> None:
        self.seen = None
        self.world.is_paused = paused
        self.pause(paused)

    def leave(self, worker: LightWorker, finished: bool | None) -> None:
        worker.give_back()
        for _ in range(9):
            if worker.is_idle:
                break
            self.exchange(worker)
        assert worker.is_idle
        look = self.look()
        if not (look.entries or look.waiting):
            finished = False  # the others go on all the same
        leaving = worker.session.leave(finished=finished, persist=False, reason="x")
        outcome, seen = self.run(leaving)
        self.seen = None
        assert outcome is not LeaveOutcome.DELETED, "it ends too early"
        assert seen == len(look.seen)

    def fall_silent(self, worker: LightWorker) -> None:
        """Its last beat is long ago."""
        self.seen = None
        self.last_beat(worker.session.worker)

    # What a part of an exchange may do, seen from what the broker held before it

    def watch(self, worker: LightWorker, ask: Ask) -> Callable[[Answer], None]:
        [what, *_] = [name for name in PARTS if getattr(ask, name)]
        before, check = self.look(), getattr(self, f"after_{what}")

        def look(answer: Answer) -> None:
            self.seen = None
            after = self.look()
            check(worker, ask, answer, before, after)
            if what not in ("leases", "seeds", "releases", "reap"):
                new = after.leased_by(worker) - before.leased_by(worker)
                assert not new, "nobody has asked for these leases"
            for id_ in before.by_id.keys() & after.by_id.keys():
                scores = before.by_id[id_].score, after.by_id[id_].score
                assert len({*scores} - {math.inf}) < 2, "it has lost its place"

        return look

    def after_commits(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        [commit], [reply] = ask.commits, answer.commits
        stored = before.commits.get(worker.session.worker)
        if reply.outcome is Outcome.AGAIN:
            assert self.may_say_again
        elif stored is None:
            assert reply.outcome is Outcome.UNKNOWN_WORKER
        elif commit.number <= stored:
            assert reply.outcome is Outcome.REPEATED
        elif commit.number > stored + 1:
            assert reply.outcome is Outcome.GAP
        else:
            assert reply.outcome is Outcome.STORED
        if reply.outcome is not Outcome.STORED:
            assert before == after
            return
        seen, duplicates = set(before.seen), []
        for at, request in enumerate(commit.requests):
            if request.fingerprint in seen and not request.start:
                duplicates.append(at)
            seen.add(request.fingerprint)
        found = [at for at in reply.duplicates if not commit.requests[at].start]
        assert found == duplicates
        ours = before.leased_by(worker)
        owned = [s for s in commit.settlements if s.lease in ours]
        assert reply.not_owned == len(commit.settlements) - len(owned)
        ended = {s.lease for s in owned if s.end is not End.OPEN}
        assert before.owners.keys() - after.owners.keys() == ended
        done = [
            (before.by_id[s.lease].name, s.chain)
            for s in owned
            if s.end is not End.OPEN
        ]
        failures = []
        for page, chain in done:
            for name, has_failed in [
                (page, bool(self.site(page).failure)),
                *self.pages_of(chain),
            ]:
                if has_failed:
                    failures.append(name)
                else:
                    self.world.acked.add(name)
        buried, refused = self.buried(failures, before, after)
        self.world.failed.update(buried)
        self.world.refused.update(refused)

    def pages_of(self, chain: list[ChainLink]) -> list[tuple[str, bool]]:
        """Of each page crawled ahead its name, and if it has failed."""
        names = [(self.name_of(link.fingerprint), bool(link.reason)) for link in chain]
        return [(name, failed) for name, failed in names if not name.endswith(".k")]

    def buried(
        self, names: list[str], before: Look, after: Look
    ) -> tuple[list[str], list[str]]:
        """Those of *names* that have become dead letters, and those without room."""
        new = Counter(name for name, _, _ in after.letters)
        new.subtract(name for name, _, _ in before.letters)
        buried, refused = [], []
        for name in names:
            (buried if new[name] > 0 else refused).append(name)
            new[name] -= new[name] > 0
        assert not new.total(), "somebody else was buried"
        room = max(0, self.failed_limit - len(before.letters))
        assert len(buried) == min(room, len(names)), "there was room"
        return buried, refused

    def after_rejects(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        ids = {reject.lease for reject in ask.rejects} & before.leased_by(worker)
        assert before.owners.keys() - after.owners.keys() == ids
        names = [before.by_id[id_].name for id_ in sorted(ids)]
        buried, refused = self.buried(names, before, after)
        self.world.rejected.update(buried)
        self.world.turned_away.update(refused)

    def after_claims(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        if answer.claims is None:
            assert self.may_say_again
            return
        seen, ours = set(before.seen), before.leased_by(worker)
        for claim, is_new in zip(ask.claims, answer.claims, strict=True):
            [lease] = claim.leases
            name = claim.fingerprint
            if lease not in ours:
                assert is_new
                continue
            claimed = self.claim(name) in before.by_id[lease].claims
            assert is_new == (name not in seen or claimed)
            seen.add(name)
        assert after.seen == seen

    def after_begins(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        ours = before.leased_by(worker)
        assert answer.begun is not None
        for begin, found in zip(ask.begins, answer.begun, strict=True):
            if begin.lease in ours:
                assert found is Beginning.BEGUN
                assert after.by_id[begin.lease].task == begin.token
                assert after.tasks[begin.token].id == begin.id
            else:
                assert found is Beginning.NOT_OWNED
                # It may have begun before the reply, and then the lease, was lost.
                assert after.tasks.get(begin.token) == before.tasks.get(begin.token)
        assert before.owners == after.owners

    def after_reap(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        dying = []
        for id_ in sorted(before.owners.keys() - after.owners.keys()):
            beat = before.beats[before.owners[id_]]
            assert beat <= 1 or after.now - beat >= TTL * 1000, "it is alive"
            name = before.by_id[id_].name
            # What comes twice has several ids, and each dies its own deaths.
            key = id_ if comes_again(name) else name
            self.world.deaths[key] += 1
            if self.world.deaths[key] >= MAX_DELIVERIES:
                dying.append(name)
        self.world.killed.update(self.buried(dying, before, after)[0])
        gone = before.beats.keys() - after.beats.keys()
        assert answer.deaths.ended == len(gone)
        assert not gone & set(after.owners.values())

    def after_readmit(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        """Those that waited for room become dead letters, or are tried again."""
        waited = {e.id: e for e in before.entries if math.isinf(e.score)}
        wait = {e.id for e in after.entries if math.isinf(e.score)}
        assert answer.readmitted == len(wait)
        room = max(0, self.failed_limit - len(before.letters))
        taken = [waited[id_] for id_ in sorted(waited.keys() - wait)]
        assert len(taken) == min(room, len(waited))
        dead = [entry.name for entry in taken if entry.deaths >= MAX_DELIVERIES]
        self.world.killed.update(self.buried(dead, before, after)[0])

    def after_seeds(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        taken = [lease.payload.decode() for lease in answer.seeds]
        assert len(taken) <= ask.seeds
        assert taken == before.waiting[: len(taken)]
        assert after.waiting == before.waiting[len(taken) :]
        new = after.leased_by(worker) - before.leased_by(worker)
        assert new == {lease.id for lease in answer.seeds}
        assert all(lease.is_seed for lease in answer.seeds)
        assert not (taken and self.world.is_paused)

    def after_leases(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        """The best ones, and suspects: those that have a death to spare, or one alone."""
        leases, most = answer.leases, ask.suspects
        there = [id_ for id_ in before.suspects if before.by_id[id_].score < math.inf]
        suspects = [lease.id for lease in leases if lease.id in there]
        others = [lease.id for lease in leases if lease.id not in there]
        assert len(leases) <= ask.leases
        assert not before.owners.keys() & {lease.id for lease in leases}, "leased twice"
        alone = answer.left.alone
        near = [before.by_id[id_] for id_ in there[:16]]
        lone = [entry.id for entry in near if entry.deaths >= LAST]
        group = [entry.id for entry in near if entry.deaths < LAST]
        if worker.session.worker not in before.beats or self.world.is_paused:
            assert not leases
        elif lone and most and not before.leased_by(worker):
            assert alone
            assert suspects == lone[:1]
        elif alone:
            assert not suspects
        else:
            assert suspects == group[: min(ask.leases, most)]
        assert not (alone and others)
        self.slots_take_turns(ask.enough, others, before, after)
        if not (alone or worker.session.worker not in before.beats):
            share = self.share(worker, ask, len(suspects), before)
            share = 0 if self.world.is_paused else share
            assert len(others) <= share
            assert len(others) == share or self.world.lost_turns
            assert others or not share or ask.enough
        for lease in leases:
            entry = before.by_id[lease.id]
            assert lease.payload.decode() == entry.name
            assert lease.slot == entry.slot
            assert lease.alone == (lease.id in lone)
            assert lease.suspect or not entry.deaths

    def share(self, worker: LightWorker, ask: Ask, suspects: int, before: Look) -> int:
        """How many requests *worker* gets beside *suspects*."""
        want = ask.leases - suspects
        waiting = sum(before.by_id[id_].score == math.inf for id_ in before.suspects)
        everybody = len(before.order) + len(before.suspects) - waiting
        alive = sum(beat > before.now - TTL * 1000 for beat in before.beats.values())
        share = math.ceil((everybody + len(before.owners)) / max(1, alive))
        if share - len(before.owners) <= want:
            share -= len(before.leased_by(worker)) + suspects
        there = [len(i) for s, i in before.pending.items() if s not in ask.enough]
        return max(0, min(want, share, sum(there)))

    def slots_take_turns(
        self, enough: Collection[int], leased: list[str], before: Look, after: Look
    ) -> None:
        """The next slots have given equal shares, their first ones, and come last now."""
        pending = before.pending
        given: dict[int, list[str]] = {}
        for id_ in leased:
            given.setdefault(before.by_id[id_].slot, []).append(id_)
        line = [slot for slot in before.turns if slot in pending]
        chosen = [slot for slot in line if slot not in enough]
        counts = {slot: len(given.get(slot, ())) for slot in pending}
        for slot, count in counts.items():
            assert given.get(slot, []) == pending[slot][:count]
            assert not (count and slot in enough)
        if self.world.lost_turns:
            return
        assert given.keys() == set(chosen[: len(given)])
        for slot in chosen:
            if (count := counts[slot]) < len(pending[slot]):
                assert count >= max(counts.values()) - 1
        passed = [slot for slot in line if slot not in given]
        assert after.turns[: len(passed)] == passed
        goes_on = {slot for slot in given if counts[slot] < len(pending[slot])}
        assert set(after.turns[len(passed) :]) == goes_on

    def after_releases(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        ids = set(ask.releases) & before.leased_by(worker)
        assert before.owners.keys() - after.owners.keys() == ids

    def after_heartbeat(
        self, worker: LightWorker, ask: Ask, answer: Answer, before: Look, after: Look
    ) -> None:
        number, beat = worker.session.worker, answer.heartbeat
        assert beat.known == (number in before.beats)
        if not beat.known:
            return
        assert beat.commit == before.commits[number]
        assert beat.held == len(before.leased_by(worker))
        assert beat.paused == self.world.is_paused
        alive = [n for n, at in after.beats.items() if after.now - at < TTL * 1000]
        assert number in alive
        assert beat.alive == len(alive)
        assert beat.silent <= len(after.beats) - len(alive)
        assert beat.silent >= sum(at <= 1 for at in after.beats.values())

    # What must hold

    @invariant()
    def the_frontier_is_whole(self) -> None:
        look, world = self.look(), self.world
        leased = {e.id for e in look.entries if e.place == "leased"}
        assert look.owners.keys() == leased - world.orphans
        self.the_broker_counts_what_it_holds(look)
        self.everything_is_in_one_place(look)
        for entry in look.entries:
            was_refused = world.refused[entry.name] or entry.name in world.turned_away
            if math.isinf(entry.score):
                assert entry.place == "suspect", entry
                assert was_refused or entry.deaths >= MAX_DELIVERIES
            elif entry.score != score(entry.name):
                assert entry.score == 0, entry
                assert was_refused or entry.name in world.seeds, entry
            key = entry.id if comes_again(entry.name) else entry.name
            assert entry.deaths == world.deaths[key], entry
        self.what_was_acknowledged_is_stored(look)
        self.what_was_seen_can_be_found(look)

    @invariant()
    def tasks_count_what_there_is(self) -> None:
        """A task ends with the last of its entries, and neither before nor after."""
        look = self.look()
        left = Counter(entry.task for entry in look.entries)
        for token, task in look.tasks.items():
            assert task.open == left[token], task
            assert task.failed == look.failures[token], task
            assert task.items == look.results[token], task
            state = "running" if task.open else "failed" if task.failed else "done"
            assert task.state.value == state, task
            assert bool(task.ended_ms) == task.state.is_end, task

    def the_broker_counts_what_it_holds(self, look: Look) -> None:
        """Else a crawl ends too early, or never."""
        if self.outside is None:
            self.outside = self.session(0, failed_limit=self.failed_limit)
        counts = self.run(self.outside.exchange(Ask(count=True))).counts
        places = Counter(entry.place for entry in look.entries)
        assert isinstance(counts, Counts)
        assert counts.pending == places["pending"]
        assert counts.suspects == places["suspect"]
        assert counts.leased == len(look.owners)
        assert counts.orphans == len(self.world.orphans)
        assert counts.seeds == len(look.waiting)
        assert counts.is_drained == (not look.entries and not look.waiting)

    def everything_is_in_one_place(self, look: Look) -> None:
        """I3."""
        world = self.world
        assert {e.name for e in look.entries if e.slot != slot_of(e.name)} == set()
        are_known = sorted(look.turns) == sorted(look.pending)
        assert are_known or world.lost_turns
        world.lost_turns = not are_known
        places = Counter(entry.name for entry in look.entries)
        places.update(world.done)
        places.update(world.killed)
        places.update(world.rejected)
        twice = {n for n, count in places.items() if count > 1 and not comes_again(n)}
        assert not twice
        assert len(look.letters) <= self.failed_limit
        letters = Counter(name for name, _, _ in look.letters)
        assert letters == Counter(world.buried)
        for name, reason, deliveries in look.letters:
            died = f"{MAX_DELIVERIES} workers died while they worked on it"
            if name in world.killed:
                assert (reason, deliveries) == (died, MAX_DELIVERIES)
            else:
                assert reason == UNREADABLE if name in world.rejected else "it raised"
                assert deliveries == world.deaths[name] + 1
        known = places.keys() | set(look.waiting)
        assert world.seeds <= known, "a seed is lost"

    def what_was_acknowledged_is_stored(self, look: Look) -> None:
        """I1, and items only and exactly with the acknowledgement of their page."""
        world = self.world
        known = look.known | world.acked | world.buried
        items: Counter[bytes] = Counter()
        parts: set[bytes] = set()
        pages = sorted(world.done)
        while pages:
            page = pages.pop()
            result = self.site(page)
            missing = {*result.filtered, *result.unfiltered, *result.chain} - known
            assert not missing, (page, missing)
            if not result.in_parts and not comes_again(page):
                items.update(result.items)
            else:
                assert all(look.items[item] for item in result.items)
            pages += result.kept
        for page, times in world.refused.items():
            items.update(dict.fromkeys(self.site(page).items, times))
        assert look.pushed == look.items.total()
        for item, count in look.items.items():
            name = item.decode().removeprefix("item-")
            if self.site(name).in_parts or comes_again(name):
                parts.add(item)
            else:
                assert count == items[item], (item, count)
        assert look.items.keys() == items.keys() | parts

    def what_was_seen_can_be_found(self, look: Look) -> None:
        """A fingerprint without its request would be a page that nobody crawls."""
        world = self.world
        known = look.known | world.acked | world.buried
        for fingerprint in look.seen:
            name = self.name_of(fingerprint)
            if not name.endswith(".k"):
                assert name in known, name
                continue
            page = name.removesuffix(".k")
            if page not in world.acked | world.buried:
                claims = [e.claims for e in look.entries if e.name == page]
                assert any(self.claim(fingerprint) in each for each in claims), page

    # The end

    def teardown(self) -> None:
        try:
            if self.workers:
                self.the_rest_is_crawled()
        finally:
            self.close_broker()
            self.loop.close()

    def make_whole(self, honest: LightWorker) -> None:
        """Before the *honest* worker begins; nothing is broken here."""

    def the_rest_is_crawled(self) -> None:
        """All workers vanish; an honest one finishes the crawl."""
        self.failed_limit, self.outside = 10_000, None
        self.set_paused(False)
        for worker in self.look().beats:
            self.last_beat(worker)
        self.seen = None
        honest = self.join()
        self.make_whole(honest)
        for _ in range(200):
            self.end_of_grace()
            self.exchange(honest, want=50, seeds=50)
            while task := honest.take():
                honest.finish(task)
            self.seen = None
            look = self.look()
            left = look.entries or look.waiting or len(look.beats) > 1
            if honest.is_idle and not left:
                break
        self.the_frontier_is_whole()
        self.tasks_count_what_there_is()
        assert not left
        assert honest.is_idle
        self.everything_was_crawled()
        look, session = self.look(), honest.session
        leaving = session.leave(finished=True, persist=False, reason="finished")
        assert self.run(leaving) == (LeaveOutcome.DELETED, len(look.seen))
        self.run(session.sweep())
        assert self.is_gone() == (look.pushed, len(look.letters))
        self.workers.remove(honest)
        for late in self.workers:
            assert self.run(late.join("late")).outcome is JoinOutcome.MISSED
        self.is_gone()

    def everything_was_crawled(self) -> None:
        world = self.world
        to_do, known = [START, *world.seeds], set()
        while to_do:
            name = to_do.pop()
            if name in known:
                continue
            known.add(name)
            if name in world.killed | world.rejected:
                continue
            result = self.site(name)
            assert (name in world.failed) == bool(result.failure), name
            assert (name in world.acked) != (name in world.failed), name
            to_do += [*result.filtered, *result.unfiltered, *result.chain]
            for kept in result.kept:
                there = self.site(kept)
                to_do += [*there.filtered, *there.unfiltered, *there.chain]
