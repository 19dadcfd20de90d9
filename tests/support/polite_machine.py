"""Random plays of a polite crawl: who has which seat, when, and for how many downloads."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scrapy_dist.core.frontier import Ask, Commit, NewRequest, Settlement
from scrapy_dist.core.politeness import Manners, Renewal, Rules, Yield, slot_of_seat

SLOTS = (1, 2, 3)
#: Of slots without rules of their own.
DEFAULT = Rules(5.0, 4)
RULES = st.sampled_from([DEFAULT, Rules(0.0, 4), Rules(0.0, 4), Rules(20.0, 2)])
ANY = st.integers(0, 10)


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


class PoliteMachine(RuleBasedStateMachine):
    """Subclasses make the *broker* of the contract."""

    def make_broker(self) -> Any:
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
            player.waiting.setdefault(lease.slot, []).append(lease.id)
            self.payloads[lease.id] = lease.payload.decode()
        for slot in SLOTS if starts else ():
            self.start(at, slot)

    def granted(self, player: Player, grants: Any) -> None:
        for grant in grants:
            for other in self.players:
                assert other is player or grant.name not in other.seats, grant
            player.seats[grant.name] = grant.rules.places

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
            if str(slot) not in player.seats:
                assert self.now() >= self.ready[slot], "it rests"
            for other in self.players:
                assert other is player or str(slot) not in other.seats
            player.seats[str(slot)] = visit.rules.places

    @rule(slot=st.sampled_from(SLOTS), rules=RULES)
    def change_rules(self, slot: int, rules: Rules) -> None:
        self.run(self.players[0].session.set_rules({slot: rules}))
        self.rules[slot] = rules

    @rule(seconds=st.sampled_from([1.0, 3.0, 9.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.broker.pass_time(seconds))
        self.passed += seconds

    @rule(at=ANY)
    def leave(self, at: int) -> None:
        """A worker goes with all that it has; another one takes its place."""
        player = self.players.pop(at % 3)
        leases = [id_ for ids in player.waiting.values() for id_ in ids]
        leases += [id_ for ids in player.running.values() for id_ in ids]
        if leases:
            self.ask(player, releases=leases)
        self.run(player.session.leave(finished=False, persist=False, reason=""))
        self.join()

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
                if not self.open:
                    break
                self.pass_time(9.0)
                for at in range(3):
                    self.lease(at, 20)
                    for slot in SLOTS:
                        for _ in range(4):
                            self.start(at, slot)
                            self.finish(at, slot)
                    self.give_back(at, 0.0)
            assert not self.open, "some were never handed out"
        finally:
            self.close()
            self.loop.close()

    def close(self) -> None:
        """Disconnect."""
