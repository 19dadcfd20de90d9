"""Random plays of a polite crawl: who has which seat, when, and for how many downloads.

Workers die, and some of them wake up again; Redis comes back as it was before.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from scrapy_dist.core.frontier import (
    Ask,
    Commit,
    Deaths,
    NewRequest,
    Outcome,
    Settlement,
)
from scrapy_dist.core.politeness import Manners, Renewal, Rules, Yield, slot_of_seat

SLOTS = (1, 2, 3)
#: Of slots without rules of their own.
DEFAULT = Rules(5.0, 4)
RULES = st.sampled_from([DEFAULT, Rules(0.0, 4), Rules(0.0, 4), Rules(20.0, 2)])
ANY = st.integers(0, 10)
#: Seconds of silence after which a worker is dead; and deaths that a request survives, less
#: one: those of the contract's sessions.
TTL, MAX_DELIVERIES = 60.0, 3


@dataclass
class Player:
    """A worker. *seats*: the places that it goes by; *running*: leases, by slot."""

    session: Any
    commits: int = 0
    seats: dict[str, int] = field(default_factory=dict)
    running: dict[int, list[str]] = field(default_factory=dict)
    waiting: dict[int, list[str]] = field(default_factory=dict)

    def places(self, slot: int) -> int:
        return sum(n for name, n in self.seats.items() if slot_of_seat(name) == slot)

    def busy(self, slot: int) -> int:
        return len(self.running.get(slot, ()))

    @property
    def number(self) -> str:
        return self.session.worker  # type: ignore[no-any-return]

    @property
    def leases(self) -> list[str]:
        return [
            id_
            for of_slot in (self.waiting, self.running)
            for ids in of_slot.values()
            for id_ in ids
        ]


@dataclass
class Saved:
    """What is true when *data* is saved. *leased*: what each worker has, and its seats."""

    data: Any
    passed: float
    open: set[str]
    rules: dict[int, Rules]
    deaths: Counter[str]
    leased: dict[str, tuple[list[str], list[str]]]


class PoliteMachine(RuleBasedStateMachine):
    """Subclasses make the *broker* of the contract."""

    can_roll_back = False

    def make_broker(self) -> Any:
        raise NotImplementedError

    async def silence(self, number: str) -> None:
        """That worker was heard of more than TTL ago."""
        raise NotImplementedError

    async def save(self) -> Any:
        """All that the broker holds."""
        raise NotImplementedError

    async def restore(self, data: Any, passed: float) -> None:
        """It holds *data* again, and *passed* seconds have passed since it did."""
        raise NotImplementedError

    async def count_leased(self) -> int:
        """Entries of leases."""
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.broker = self.run(self.make_broker())
        self.players: list[Player] = []
        self.payloads: dict[str, str] = {}
        self.passed = 0.0
        self.names = 0
        #: Requests that nobody has acknowledged.
        self.open: set[str] = set()
        self.rules: dict[int, Rules] = {}
        #: When the next start of a slot may be, and its most places while some are running.
        self.ready: Counter[int] = Counter()
        self.most: dict[int, int] = {}
        self.deaths: Counter[str] = Counter()
        self.saved: Saved | None = None
        for _ in range(3):
            self.join()
        for slot in SLOTS:
            self.add(self.players[0], slot, 12)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def now(self) -> float:
        return time.monotonic() + self.passed

    def rules_of(self, slot: int) -> Rules:
        return self.rules.get(slot, DEFAULT)

    def ask(self, player: Player, **what: Any) -> Any:
        return self.run(player.session.exchange(Ask(**what)))

    def join(self) -> None:
        player = Player(self.broker.session())
        how = {"commit": 0, "flush": False, "persist": False, "age": 0.0}
        self.run(player.session.join("host:1", **how))
        self.players.append(player)

    @rule(at=ANY, slot=st.sampled_from(SLOTS), count=st.integers(1, 3))
    def commit(self, at: int, slot: int, count: int) -> None:
        self.add(self.players[at % 3], slot, count)

    def add(self, player: Player, slot: int, count: int) -> None:
        names = [str(self.names + n) for n in range(count)]
        self.names += count
        self.open |= {*names}
        player.commits += 1
        new = [NewRequest(name.encode(), 0, slot=slot) for name in names]
        self.ask(player, commits=[Commit(player.commits, new)])

    @rule(at=ANY, want=st.integers(1, 20), starts=st.booleans())
    def lease(self, at: int, want: int, starts: bool = False) -> None:
        player = self.players[at % 3]
        renewals = []
        for name, places in player.seats.items():
            slot = slot_of_seat(name)
            over = max(0, player.busy(slot) - player.places(slot))
            renewals.append(Renewal(name, 2, places + over))
        manners = Manners(DEFAULT, portion=2, renewals=renewals)
        answer = self.ask(player, leases=want, suspects=8, manners=manners)
        for name in answer.granted.taken:
            del player.seats[name]
        self.granted(player, answer.granted.grants)
        for lease in answer.leases:
            name = lease.payload.decode()
            assert name in self.alive, "it is done"
            assert name not in self.in_hand(), "it is leased already"
            assert lease.suspect >= (self.deaths[name] > 0)
            assert lease.alone == (self.deaths[name] == MAX_DELIVERIES - 1)
            player.waiting.setdefault(lease.slot, []).append(lease.id)
            self.payloads[lease.id] = name
        for slot in SLOTS if starts else ():
            self.start(at, slot)

    def granted(self, player: Player, grants: Any) -> None:
        for grant in grants:
            self.seated(player, grant.name, grant.rules.places)

    def seated(self, player: Player, name: str, places: int) -> None:
        for other in self.players:
            assert other is player or name not in other.seats, name
        if name not in player.seats and name == str(slot_of_seat(name)):
            assert self.now() >= self.ready[int(name)] - 0.002, "it rests"
        player.seats[name] = places

    @property
    def alive(self) -> set[str]:
        """Requests that are not done, and no dead letters."""
        return {n for n in self.open if self.deaths[n] < MAX_DELIVERIES}

    def in_hand(self) -> set[str]:
        return {self.payloads[id_] for player in self.players for id_ in player.leases}

    @rule(at=ANY, slot=st.sampled_from(SLOTS))
    def start(self, at: int, slot: int) -> None:
        """As many as this worker goes by."""
        player = self.players[at % 3]
        waiting = player.waiting.get(slot, [])
        while waiting and player.busy(slot) < player.places(slot):
            player.running.setdefault(slot, []).append(waiting.pop())

    @rule(at=ANY, slot=st.sampled_from(SLOTS))
    def finish(self, at: int, slot: int) -> None:
        player = self.players[at % 3]
        if not player.busy(slot):
            return
        lease = player.running[slot].pop()
        player.commits += 1
        self.ask(
            player, commits=[Commit(player.commits, settlements=[Settlement(lease)])]
        )
        self.open.discard(self.payloads[lease])

    @rule(at=ANY, rest=st.sampled_from([0.0, 5.0]))
    def give_back(self, at: int, rest: float) -> None:
        """The seats of slots in which nothing is under way."""
        player = self.players[at % 3]
        for name in [*player.seats]:
            slot = slot_of_seat(name)
            if not player.busy(slot) and not player.waiting.get(slot):
                self.ask(player, yields=[Yield(name, rest)])
                del player.seats[name]
                if name == str(slot):
                    self.ready[slot] = self.now() + rest

    @rule(at=ANY, slot=st.sampled_from(SLOTS))
    def visit(self, at: int, slot: int) -> None:
        player = self.players[at % 3]
        [visit] = self.ask(player, manners=Manners(DEFAULT), visits=[slot]).visits
        if visit.granted:
            self.seated(player, str(slot), visit.rules.places)

    @rule(slot=st.sampled_from(SLOTS), rules=RULES)
    def change_rules(self, slot: int, rules: Rules) -> None:
        self.run(self.players[0].session.set_rules({slot: rules}))
        self.rules[slot] = rules

    @rule(seconds=st.sampled_from([1.0, 3.0, 9.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.broker.pass_time(seconds))
        self.passed += seconds
        for player in self.players:
            assert self.ask(player, heartbeat=True).heartbeat.known

    @rule(at=ANY)
    def leave(self, at: int) -> None:
        """A worker goes with all that it has; another one takes its place."""
        player = self.players.pop(at % 3)
        if player.leases:
            self.ask(player, releases=player.leases)
        now = self.now()
        self.run(player.session.leave(finished=False, persist=False, reason=""))
        self.freed(player.seats, now)
        self.join()

    @rule(at=ANY, wakes=st.booleans())
    def die(self, at: int, wakes: bool) -> None:
        """A worker is silent for too long; some wake up then, and go on as before."""
        dead = self.players.pop(at % 3)
        self.reap(dead.number, [self.payloads[id_] for id_ in dead.leases], dead.seats)
        assert not self.run(dead.session.held())
        assert not self.run(dead.session.seats())
        if wakes:
            settled = [Settlement(id_) for id_ in dead.leases]
            commit = Commit(dead.commits + 1, settlements=settled)
            yields = [Yield(name) for name in dead.seats]
            answer = self.ask(dead, commits=[commit], yields=yields, heartbeat=True)
            assert answer.commits[0].outcome is Outcome.UNKNOWN_WORKER
            assert not answer.heartbeat.known
        self.join()

    def reap(self, number: str, names: Any, seats: Any) -> None:
        """Worker *number*, which has leases of *names* and *seats*, is found dead."""
        self.run(self.silence(number))
        now, first = self.now(), self.players[0]
        assert self.ask(first, heartbeat=True).heartbeat.silent == 1
        deaths = self.ask(first, reap=True, manners=Manners(DEFAULT)).deaths
        self.deaths.update(names)
        failed = sum(self.deaths[name] >= MAX_DELIVERIES for name in names)
        assert deaths == Deaths(len(names) - failed, failed, 1)
        self.freed(seats, now)

    def freed(self, seats: Any, now: float) -> None:
        """Redis has taken *seats* away at the time *now*, or later."""
        for name in seats:
            if name.isdigit():
                self.ready[int(name)] = now + self.rules_of(int(name)).delay

    @precondition(lambda self: self.can_roll_back)
    @rule()
    def be_saved(self) -> None:
        leased = {
            player.number: (
                [self.payloads[id_] for id_ in player.leases],
                sorted(self.run(player.session.seats())),
            )
            for player in self.players
        }
        self.saved = Saved(
            self.run(self.save()),
            self.passed,
            {*self.open},
            {**self.rules},
            self.deaths.copy(),
            leased,
        )

    @precondition(lambda self: self.saved is not None)
    @rule()
    def roll_back(self) -> None:
        """Redis holds what it held before; what it does not know any more is done again.

        Each delay may break once, and what is under way then ends without being settled.
        """
        saved = self.saved
        assert saved is not None
        self.run(self.restore(saved.data, self.passed - saved.passed))
        self.open, self.rules = {*saved.open}, {**saved.rules}
        self.deaths = saved.deaths.copy()
        self.ready.clear()
        here = {player.number for player in self.players}
        for player in [*self.players]:
            if player.number in saved.leased:
                self.compare(player)
            else:
                assert not self.ask(player, heartbeat=True).heartbeat.known
                self.players.remove(player)
                self.join()
        for number, (names, seats) in saved.leased.items():
            if number not in here:
                self.reap(number, names, seats)

    def compare(self, player: Player) -> None:
        """*player* keeps what Redis knows of it, and gives back the rest of that."""
        beat = self.ask(player, heartbeat=True).heartbeat
        assert beat.known
        if player.commits > beat.commit:
            settled = [Settlement(id_) for id_ in player.leases]
            commit = Commit(player.commits + 1, settlements=settled)
            [reply] = self.ask(player, commits=[commit]).commits
            assert reply.outcome is Outcome.GAP
        player.commits = beat.commit
        player.running.clear()
        held = self.run(player.session.held())
        waiting = player.waiting.items()
        player.waiting = {s: [id_ for id_ in ids if id_ in held] for s, ids in waiting}
        there = self.run(player.session.seats())
        player.seats = {n: places for n, places in player.seats.items() if n in there}
        yields = [Yield(n, DEFAULT.delay) for n in there - player.seats.keys()]
        self.ask(player, releases=sorted(held.difference(player.leases)), yields=yields)
        assert self.run(player.session.held()) == {*player.leases}
        assert self.run(player.session.seats()) == player.seats.keys()

    @invariant()
    def places_hold(self) -> None:
        """No more are under way than the slot has had places meanwhile."""
        for slot in SLOTS:
            places = self.rules_of(slot).places
            running = sum(player.busy(slot) for player in self.players)
            self.most[slot] = max(places, self.most.get(slot, 0)) if running else places
            assert running <= self.most[slot], (slot, running)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            for _ in range(200):
                if not self.alive:
                    break
                self.pass_time(9.0)
                for at in range(3):
                    self.lease(at, 20)
                    for slot in SLOTS:
                        for _ in range(4):
                            self.start(at, slot)
                            self.finish(at, slot)
                    self.give_back(at, 0.0)
            assert not self.alive, "some were never handed out"
            letters = [name.decode() for name, *_ in self.run(self.broker.letters())]
            assert sorted(letters) == sorted(self.open)
            assert self.run(self.count_leased()) == 0
        finally:
            self.close()
            self.loop.close()

    def close(self) -> None:
        """Disconnect."""
