"""Polite crawls in virtual time, against a real redis-server and the product's scripts.

    python -m tests.support.politeness_sim [--starts 10000000] [--seed 1] [--mistakes]

Workers (`polite_worker`) with clocks of their own crawl slots, while they die and freeze,
replies are late or lost, rules change, Redis is set back and its clock leaps. Each round
has one seed more; what happens in it depends on nothing else. `Checker` looks at every
start in true time.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scrapy_dist.brokers.redis.session import _Round
from scrapy_dist.core.frontier import Commit, NewRequest
from scrapy_dist.core.politeness import Rules
from scrapy_dist.core.slots import slot_number
from tests.support.frontiers import KEYS
from tests.support.polite_worker import PoliteWorker, Seat
from tests.support.politeness_wire import CLOCK, Mistake, Wire, pack
from tests.support.redis_server import RedisServer

#: Ms since 1970 when a simulation begins.
EPOCH = 1_800_000_000_000
#: Ms that two starts may be closer than they should.
TOLERANCE = 2.0
#: Ms of silence after which a worker is dead, and after which it gives up on a reply.
TTL, PATIENCE = 5000, 1000
#: Ms after an incident, in which Redis lost data or its clock leapt on: what breaks then
#: counts apart.
AFTERMATH = TTL + 2 * PATIENCE
#: Ms without a start while there is something to do: nobody goes on.
STALLED = 400_000


@dataclass(frozen=True)
class Setup:
    """One round: *per* requests in each of *slots*; faults per worker and second."""

    seed: int = 1
    workers: int = 4
    slots: int = 20
    per: int = 40
    #: Of slots without rules of their own: ms, places.
    delay: int = 200
    places: int = 8
    #: Part of the slots that have rules of their own, and the longest delay of these.
    own_rules: float = 0.5
    longest: int = 3000
    #: Each request is found by the one before it; else all are there at the start.
    chained: bool = True
    #: Ms of a download; how many a worker has at once.
    latency: float = 80.0
    capacity: tuple[int, ...] = (4, 16, 40)
    #: Ms after which a worker gives a slot back if others wait.
    turns: tuple[float, ...] = (0, 500, 5000, 1e9)
    deaths: float = 0.02
    freezes: float = 0.02
    lost: float = 0.005
    #: Part of the lost requests that are carried out seconds later.
    late: float = 0.0
    visits: float = 0.3
    #: Per second: changes of rules, by people; a leap of Redis' clock; data are lost.
    changes: float = 0.1
    leaps: float = 0.0
    rollbacks: float = 0.0
    #: Part of the pages after which a slot has learned another delay.
    learns: float = 0.05


@dataclass
class Result:
    """What came of rounds. *excused*: breaks in the aftermath of an incident."""

    starts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    excused: int = 0
    #: Ms by which a start was too early, and ms between an incident and a break, at most.
    worst: float = 0.0
    longest: float = 0.0
    #: Of slots with a delay: ms that their starts took, and the least they can take.
    took: float = 0.0
    least: float = 0.0

    @property
    def rate(self) -> float:
        """Of starts in slots with a delay, as a part of the rate allowed."""
        return self.least / self.took if self.took else 1.0

    wall: float = 0.0
    simulated: float = 0.0

    def add(self, other: Result) -> None:
        self.starts += other.starts
        self.counts += other.counts
        self.broken += other.broken
        self.excused += other.excused
        self.worst = max(self.worst, other.worst)
        self.longest = max(self.longest, other.longest)
        self.took += other.took
        self.least += other.least
        self.wall += other.wall
        self.simulated += other.simulated

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in sorted(self.counts.items()))
        return (
            f"{self.starts} starts in {self.simulated / 1000:.0f} simulated seconds and"
            f" {self.wall:.1f} s ({self.starts / max(self.wall, 0.001):.0f} a second);"
            f" {len(self.broken)} broken {self.broken[:3]}; in an aftermath"
            f" {self.excused} (at most {self.longest:.0f} ms after the incident);"
            f" earliest by {self.worst:.2f} ms; rate {self.rate:.3f} of"
            f" the rate allowed; {counts}"
        )


@dataclass(slots=True)
class _Member:
    """A worker, and its place in the true time."""

    core: PoliteWorker
    offset: float
    rate: float
    slow: float
    is_dead: bool = False
    frozen: float = 0.0
    is_busy: bool = False
    doomed: bool = False
    #: Downloads under way: slot, and whether it counts as one of the cluster.
    running: dict[int, tuple[int, bool]] = field(default_factory=dict)
    next_visit: float = 0.0
    visit_since: float = 0.0
    starts: int = 0

    def local(self, t: float) -> float:
        return self.offset + t * self.rate


class Checker:
    """Looks at each start, in true time."""

    def __init__(self, result: Result, count: Callable[[int], tuple[int, int]]) -> None:
        self.result = result
        #: Downloads in a slot, exactly, and its places in Redis: some are of workers that
        #: count as dead, and some workers know of older rules and bring them back.
        self.count = count
        #: Slot -> time, delay and worker of its last start.
        self.last: dict[int, tuple[float, int]] = {}
        self.active: Counter[int] = Counter()
        #: Slot -> (ms, places) of its changes.
        self.places: dict[int, list[tuple[float, int]]] = {}
        self.incident = float("-inf")

    def start(self, t: float, slot: int, delay: int, granted: float) -> None:
        result = self.result
        result.starts += 1
        last = self.last.get(slot)
        if last is not None:
            need, gap = min(last[1], delay), t - last[0]
            if need > 0:
                result.least += need
                result.took += gap
            short = need - gap
            if short > result.worst and t - self.incident > AFTERMATH:
                result.worst = short
            if short > TOLERANCE:
                self._broken(t, f"slot {slot}: {short:.1f} of {delay} ms too early")
        self.last[slot] = (t, delay)
        self.active[slot] += 1
        if self.active[slot] > 1 and self.active[slot] > self.cap(slot, t, granted):
            count, places = self.count(slot)
            if count > max(places, self.cap(slot, t, granted)):
                self._broken(t, f"slot {slot}: {count} downloads at once")

    def cap(self, slot: int, t: float, granted: float) -> int:
        """The places of *slot*: the most since a rule may still be unknown to somebody."""
        changes = self.places[slot]
        now = changes[-1]
        if len(changes) == 1 or t - now[0] > 60_000:
            return now[1]
        since = min(granted, t - 60_000)
        found = [now[1]]
        for at, places in reversed(changes):
            found.append(places)
            if at < since:
                break
        return max(found)

    def _broken(self, t: float, what: str) -> None:
        since = t - self.incident
        if since < AFTERMATH:
            self.result.excused += 1
            self.result.longest = max(self.result.longest, since)
        else:
            self.result.broken.append(f"{t:.0f} {what}")


class Simulation:
    """One round on the server behind *wire*."""

    def __init__(self, setup: Setup, wire: Wire, faults: tuple[str, ...] = ()) -> None:
        self.setup, self.wire, self.faults = setup, wire, faults
        self.random = random.Random(setup.seed)
        self.result = Result()
        self.checker = Checker(self.result, self._downloads)
        self.numbers = itertools.count(1)
        self.order = itertools.count()
        self.visits = itertools.count(1)
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.t = 0.0
        self.skew = 0.0
        self.drift = self.random.uniform(-1e-4, 1e-4)
        self.members: list[_Member] = []
        self.total = setup.slots * setup.per
        self.done = bytearray(self.total)
        self.left = self.total
        self.last_start = 0.0
        self.is_over = False
        names = [f"host{n}.example" for n in range(setup.slots)]
        self.slots = [slot_number(name) for name in names]
        self.rules: dict[int, Rules] = {}

    def at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self.events, (when, next(self.order), what, args))

    def clock(self, t: float) -> bytes:
        return pack(["SET", CLOCK, int(EPOCH + t * (1 + self.drift) + self.skew)])

    # A round

    def run(self, *, until_broken: bool = False) -> Result:
        begun = time.monotonic()
        setup = self.setup
        self.wire.ask("FLUSHALL")
        self._fill()
        for _ in range(setup.workers):
            self._spawn()
        self.at(250, self._mischief)
        self.at(2000, self._look)
        while self.events and not self.is_over:
            self.t, _, what, args = heapq.heappop(self.events)
            what(*args)
            if until_broken and self.result.broken:
                break
        result = self.result
        result.simulated = self.t
        result.wall = time.monotonic() - begun
        return result

    def _fill(self) -> None:
        setup, rnd = self.setup, self.random
        default = Rules(setup.delay / 1000, setup.places)
        for slot in self.slots:
            self.rules[slot] = default
            if rnd.random() < setup.own_rules:
                self.rules[slot] = self._some_rules()
                text = self._text(self.rules[slot])
                self.wire.ask("HSET", KEYS.politeness, str(slot), text)
            self.checker.places[slot] = [(0.0, self.rules[slot].places)]
        seeder = self._worker(7)
        count = 1 if setup.chained else setup.per
        requests = [
            self._request(n * setup.slots + slot)
            for n in range(count)
            for slot in range(setup.slots)
        ]
        self.wire.ask(*self._clock_words(0.0))
        self._call(seeder.frontier.register("seeder", commit=0))
        for first in range(0, len(requests), 100):
            commit = Commit(1 + first // 100, requests[first : first + 100])
            self._call(seeder.frontier.commit(commit))
        self._call(seeder.frontier.leave(finished=False))

    def _clock_words(self, t: float) -> list[Any]:
        return ["SET", CLOCK, int(EPOCH + t * (1 + self.drift) + self.skew)]

    def _call(self, call: Any) -> Any:
        replies = self.wire.send([self.wire.pack_call(call)])
        self.wire.wait_for(replies)
        call.raw = replies[0]
        return call.reply()

    def _some_rules(self) -> Rules:
        rnd = self.random
        if rnd.random() < 0.5:
            return Rules(0.0, rnd.choice([1, 2, 3, 8, 20]))
        delay = min(rnd.choice([20, 50, 100, 200, 400, 1000, 3000]), self.setup.longest)
        return Rules(delay / 1000, rnd.choice([1, 1, 4, 8]))

    @staticmethod
    def _text(rules: Rules) -> str:
        return f"{round(rules.delay * 1000)} {rules.places}"

    def _request(self, number: int) -> NewRequest:
        slot = self.slots[number % self.setup.slots]
        name = str(number)
        score = float(number * 7 % 3)
        # Some are filtered, the others are part of the page that found them.
        return NewRequest(name.encode(), score, name if number % 2 else "", slot=slot)

    def _worker(self, number: int) -> PoliteWorker:
        rnd, setup = self.random, self.setup
        return PoliteWorker(
            number,
            ttl=TTL,
            rules=Rules(setup.delay / 1000, setup.places),
            capacity=rnd.choice(setup.capacity),
            horizon=rnd.choice([50, 300, 1500]),
            portion=rnd.choice([3, 8, 20]),
            seats=8,
            turn=rnd.choice(setup.turns),
            faults=self.faults,
        )

    def _spawn(self) -> None:
        rnd = self.random
        member = _Member(
            self._worker(rnd.getrandbits(51) + 8),
            offset=rnd.uniform(-3.6e6, 3.6e6),
            rate=1 + rnd.uniform(-2e-4, 2e-4),
            slow=rnd.choice([0.3, 2, 10, 40]),
        )
        self.members.append(member)
        self._exchange(member)

    def _absent(self, member: _Member, again: Callable[..., None], *args: Any) -> bool:
        """Whether *member* is dead, or frozen: *again* comes when it is not."""
        if member.is_dead:
            return True
        if member.frozen > self.t:
            self.at(member.frozen + self.random.random(), again, member, *args)
            return True
        return False

    # Round trips

    def _exchange(self, member: _Member) -> None:
        if member.is_busy or self._absent(member, self._exchange):
            return
        member.is_busy = True
        core, now = member.core, member.local(self.t)
        frontier = core.frontier
        wire = self.wire
        if not core.is_known:
            join = frontier.register("w", commit=core.commits)
            self._send(member, [wire.pack_call(join)], self._joined, (join,))
        elif core.compares or 0 < core.compares_at < now:
            if core.compares_at < now:
                core.compares_at = 0.0
            number = frontier.worker
            seats = frontier.held_seats()
            commands = [
                wire.pack_call(seats),
                pack(["ZRANGEBYSCORE", KEYS.leases, number, number]),
            ]
            self._send(member, commands, self._compared, (seats,))
        elif self._wants_to_visit(member):
            assert core.visit is not None
            visit = frontier.visit(core.visit, core.manners())
            self._send(member, [wire.pack_call(visit)], self._visited, (visit,))
        else:
            ask = core.ask(now)
            round_ = _Round(frontier)
            round_.store(ask)
            round_.report(ask, "", "")
            round_.take(ask)
            commands = [wire.pack_call(call) for call in round_.calls]
            self._send(member, commands, self._answered, (ask, round_, now))

    def _wants_to_visit(self, member: _Member) -> bool:
        core = member.core
        if core.visit is None or self.t < member.next_visit or core.yielding:
            return False
        return not core.is_fenced(member.local(self.t))

    def _send(
        self,
        member: _Member,
        commands: list[bytes],
        read: Callable[..., None],
        args: tuple[Any, ...],
    ) -> None:
        rnd = self.random
        up, down = (rnd.expovariate(1 / member.slow) for _ in "ud")
        if rnd.random() < 0.002:
            down += rnd.uniform(200, 3000)
        if rnd.random() < 0.002:
            up += rnd.uniform(50, 800)
        self.result.counts["round trips"] += 1
        luck = rnd.random()
        if luck < self.setup.lost / 2:
            self.at(self.t + PATIENCE, self._lost, member)
            return
        is_lost = luck < self.setup.lost or up + down > PATIENCE
        up = min(up, PATIENCE)
        if is_lost and rnd.random() < self.setup.late:
            # Its connection is given up, but what was sent comes all the same.
            self.at(self.t + PATIENCE, self._lost, member)
            up = PATIENCE + rnd.uniform(0, 3000)
            self.at(self.t + up, self._execute_late, commands)
            return
        self.at(self.t + up, self._execute, member, commands, down, is_lost, read, args)

    def _execute_late(self, commands: list[bytes]) -> None:
        self.result.counts["carried out late"] += 1
        self.wire.send([self.clock(self.t), *commands])

    def _execute(
        self,
        member: _Member,
        commands: list[bytes],
        down: float,
        is_lost: bool,
        read: Callable[..., None],
        args: tuple[Any, ...],
    ) -> None:
        """At Redis; whatever has become of the worker since."""
        replies = self.wire.send([self.clock(self.t), *commands])
        if is_lost:
            self.at(self.t + PATIENCE, self._lost, member)
        else:
            self.at(self.t + down, self._reply, member, replies, read, args)

    def _lost(self, member: _Member) -> None:
        if self._absent(member, self._lost):
            return
        member.is_busy = False
        self.result.counts["lost replies"] += 1
        member.core.lost(member.local(self.t))
        self._exchange(member)

    def _reply(
        self,
        member: _Member,
        replies: list[Any],
        read: Callable[..., None],
        args: tuple[Any, ...],
    ) -> None:
        if self._absent(member, self._reply, replies, read, args):
            return
        self.wire.wait_for(replies)
        member.is_busy = False
        read(member, replies[1:], *args)

    def _joined(self, member: _Member, replies: list[Any], join: Any) -> None:
        join.raw = replies[0]
        join.reply()
        member.core.is_known = True
        self._exchange(member)

    def _compared(self, member: _Member, replies: list[Any], seats: Any) -> None:
        seats.raw = replies[0]
        leases = {id_.decode() for id_ in replies[1]}
        member.core.compare({*seats.reply()}, leases, member.local(self.t))
        self._exchange(member)

    def _visited(self, member: _Member, replies: list[Any], visit: Any) -> None:
        core, now = member.core, member.local(self.t)
        visit.raw = replies[0]
        found = visit.reply()
        if found is None:
            core._forget()
            core.commits = 0
        else:
            seat = core.visited(core.visit, found, now)
            if seat is not None:
                self.result.counts["visits"] += 1
                seat.queue.append(("", -next(self.visits)))
                core.queued += 1
                core.visit = None
                self._serve(member, seat)
            elif self.t - member.visit_since > 60_000:
                self.result.counts["visits given up"] += 1
                core.visit = None
            else:
                wait = 100.0 if found.wait is None else min(500, found.wait * 1000)
                member.next_visit = self.t + max(1.0, wait)
        self._exchange(member)

    def _answered(
        self, member: _Member, replies: list[Any], ask: Any, round_: Any, sent: float
    ) -> None:
        core, now = member.core, member.local(self.t)
        for call, reply in zip(round_.calls, replies, strict=True):
            call.raw = reply
        answer = round_.read()
        was_fenced = core.is_fenced(now)
        if core.beat is not None and core.is_late(now):
            # It may have counted as dead meanwhile, and its downloads count no more.
            self._end_downloads(member)
        if not core.read(ask, answer, sent, now):
            self.result.counts["not known any more"] += 1
            self._exchange(member)
            return
        if answer.granted is not None:
            self.result.counts["grants"] += len(answer.granted.grants)
        seats = core.seats
        served = (
            [*seats]
            if was_fenced or answer.granted is None
            else [grant.name for grant in answer.granted.grants]
        )
        for name in served:
            if name in seats:
                self._serve(member, seats[name])
        pause = self.random.uniform(5, 60)
        if not answer.leases and not core.acks and not core.yielding:
            wait = answer.granted.wait if answer.granted else None
            least = 300.0 if wait is None else min(300.0, wait * 1000)
            pause = max(pause, least)
            if core.visit is not None:
                pause = min(pause, max(1.0, member.next_visit - self.t))
            if core.seats and answer.granted:
                pause = min(pause, 20 + core.horizon * 300)
        self.at(self.t + pause, self._exchange, member)

    # Downloads

    def _serve(self, member: _Member, seat: Seat) -> None:
        """Start what may be started in *seat*."""
        core, t = member.core, self.t
        now = member.local(t)
        if core.is_fenced(now) or member.is_dead:
            return
        while (found := core.start(seat, now)) is not None:
            delay = seat.delay
            key = next(self.visits)
            member.running[key] = (seat.slot, True)
            self.checker.start(t, seat.slot, delay, t - (now - seat.since))
            self.last_start = t
            member.starts += 1
            latency = self.random.expovariate(1 / self.setup.latency) + 5
            if self.setup.deaths and self.random.random() < 0.003:
                latency += 4000
            self.at(t + latency, self._finish, member, seat, found, key)
            if member.doomed:
                self._kill(member)
                return
        if seat.queue and seat.ready > now and seat.timer <= t:
            seat.timer = t + (seat.ready - now) / member.rate + 0.001
            self.at(seat.timer, self._again, member, seat)

    def _downloads(self, slot: int) -> tuple[int, int]:
        """Those in *slot* of workers that may start others; its places in Redis.

        One that was started just before that ended may outlive it.
        """
        count = sum(
            counts and where == slot
            for member in self.members
            if not member.core.is_late(member.local(self.t))
            for where, counts in member.running.values()
        )
        rules = self.wire.ask("HGET", KEYS.politeness, str(slot))
        return count, int(rules.split()[1]) if rules else self.setup.places

    def _again(self, member: _Member, seat: Seat) -> None:
        if self._absent(member, self._again, seat):
            return
        if member.core.seats.get(seat.name) is seat:
            self._serve(member, seat)

    def _finish(
        self, member: _Member, seat: Seat, lease: tuple[str, int], key: int
    ) -> None:
        if self._absent(member, self._finish, seat, lease, key):
            return
        core, setup, rnd = member.core, self.setup, self.random
        id_, number = lease
        slot, counts = member.running.pop(key)
        if counts:
            self.checker.active[slot] -= 1
        found: list[NewRequest] = []
        if number >= 0:
            if not self.done[number]:
                self.done[number] = 1
                self.left -= 1
            following = number + setup.slots
            if setup.chained and following < self.total:
                found.append(self._request(following))
        if seat.delay > 0 and setup.learns and rnd.random() < setup.learns:
            self._learn(member, seat)
        was_full = core.active >= core.capacity
        core.finish(seat, id_, found)
        if was_full:
            for one in [*core.seats.values()]:
                self._serve(member, one)
        elif core.seats.get(seat.name) is seat:
            self._serve(member, seat)
        if len(core.acks) > 20:
            self._exchange(member)

    def _learn(self, member: _Member, seat: Seat) -> None:
        """As AutoThrottle does; and some sites say when to come again."""
        rnd = self.random
        if rnd.random() < 0.2:
            later = member.local(self.t) + rnd.uniform(500, 3000)
            seat.ready = max(seat.ready, later)
            return
        before = seat.delay
        seat.total = self.checker.places[seat.slot][-1][1]
        rules = self.rules[seat.slot]
        seat.learned = max(1, int(1000 * rules.delay * rnd.uniform(0.5, 2))) or before
        seat.delay = seat.learned
        seat.ready += max(0, seat.learned - before)

    # Mischief

    def _mischief(self) -> None:
        setup, rnd = self.setup, self.random
        part = 0.25
        for member in [*self.members]:
            if rnd.random() < setup.deaths * part:
                self._kill(member)
            elif rnd.random() < setup.freezes * part and member.frozen < self.t:
                self._freeze(member)
            elif member.core.visit is None and rnd.random() < setup.visits * part:
                member.core.visit = rnd.choice(self.slots)
                member.visit_since = member.next_visit = self.t
        if rnd.random() < setup.changes * part:
            self._change_rules()
        if rnd.random() < setup.leaps * part:
            self.result.counts["leaps"] += 1
            leap = rnd.choice([-1, 1]) * rnd.choice([500, 5e3, 3.6e6])
            self.skew += leap
            if leap > 0:
                self.checker.incident = self.t
        if rnd.random() < setup.rollbacks * part:
            self._keep_snapshot()
        self.at(self.t + 1000 * part, self._mischief)

    def _kill(self, member: _Member) -> None:
        if member.is_dead:
            return
        member.is_dead = True
        self.members.remove(member)
        self._end_downloads(member)
        self.result.counts["deaths"] += 1
        if member.core.is_known and self.random.random() < 0.2:
            # In order, but with all that it has.
            leave = member.core.frontier.leave(finished=False)
            self.wire.send([self.clock(self.t), self.wire.pack_call(leave)])
        self.at(self.t + self.random.uniform(10, 4000), self._spawn)

    def _end_downloads(self, member: _Member) -> None:
        for number, (slot, counts) in member.running.items():
            self.checker.active[slot] -= counts
            member.running[number] = (slot, False)

    def _freeze(self, member: _Member) -> None:
        rnd = self.random
        self.result.counts["freezes"] += 1
        length = rnd.choice(
            [300, 2000, TTL * rnd.uniform(0.8, 0.99), TTL * 1.5, TTL * 3]
        )
        member.frozen = self.t + length
        if length > TTL * 0.9:
            # Its connections are not the cluster's any more.
            self._end_downloads(member)
        elif rnd.random() < 0.5:
            member.doomed = True  # dies at its next start

    def _change_rules(self) -> None:
        slot = self.random.choice(self.slots)
        rules = self._some_rules()
        if self.random.random() < 0.5:  # then no more than before may be under way
            rules = replace(rules, places=self.rules[slot].places)
        self.rules[slot] = rules
        self.result.counts["changes of rules"] += 1
        self.checker.places[slot].append((self.t, rules.places))
        command = ["HSET", KEYS.politeness, str(slot), self._text(rules)]
        self.wire.send([pack(command)])

    def _keep_snapshot(self) -> None:
        """What Redis will be set back to in a while."""
        keys = self.wire.ask("KEYS", "*")
        data = [(key, self.wire.ask("DUMP", key)) for key in keys]
        places = {slot: [*changes] for slot, changes in self.checker.places.items()}
        later = self.t + self.random.choice([50, 500, 1000, 3000])
        self.at(later, self._roll_back, data, dict(self.rules), places)

    def _roll_back(
        self,
        data: list[tuple[bytes, bytes]],
        rules: dict[int, Rules],
        places: dict[int, list[tuple[float, int]]],
    ) -> None:
        self.result.counts["rollbacks"] += 1
        self.wire.ask("FLUSHALL")
        for key, value in data:
            self.wire.ask("RESTORE", key, 0, value)
        self.rules = rules
        for slot, changes in places.items():
            before = self.checker.places[slot]
            after = [*before, (self.t, changes[-1][1])]
            self.checker.places[slot] = after if changes != before else before
        self.checker.incident = self.t

    # Looking

    def _look(self) -> None:
        self.at(self.t + 2000, self._look)
        if self.left == 0 or self.result.counts["looks"] % 10 == 0:
            where = self._places()
            self.result.counts["requests in two places"] += where[1]
            if where[1]:
                self.result.broken.append(f"{self.t:.0f} a request in two places")
            unsent = sum(
                len(m.core.acks) + len(m.core.found) + bool(m.core.commit)
                for m in self.members
            )
            if self.left == 0 and where[0] == 0 and not unsent:
                self.is_over = True
        self.result.counts["looks"] += 1
        if self.t - self.last_start > STALLED:
            self.result.broken.append(f"{self.t:.0f} nobody goes on: {self.left} left")
            self.is_over = True

    def _places(self) -> tuple[int, int]:
        """How many requests Redis has, and how many of them are in two places."""
        pending = self.wire.ask("ZRANGE", KEYS.requests, 0, -1)
        suspects = self.wire.ask("ZRANGE", KEYS.suspects, 0, -1)
        leased = self.wire.ask("HKEYS", KEYS.leased)
        owned = self.wire.ask("ZRANGE", KEYS.leases, 0, -1)
        ids = [m[8:24] for m in pending] + [m[8:24] for m in suspects] + leased
        twice = len(ids) - len({*ids}) + len({*leased} ^ {*owned})
        return len(ids), twice


def setups(seed: int, *, large: bool = False) -> Iterator[Setup]:
    """Rounds, without an end; *large*: of many slots, which take less time a start."""
    for number in itertools.count(seed):
        rnd = random.Random(number)
        is_large = large and number % 5 > 0
        slots = rnd.choice([1000, 3000] if is_large else [1, 3, 10, 30])
        yield Setup(
            seed=number,
            workers=rnd.choice([8, 16] if is_large else [1, 2, 3, 4, 8, 16]),
            slots=slots,
            per=(90_000 if is_large else 1500) // slots,
            delay=rnd.choice([0, 20, 50, 200] if is_large else [0, 50, 200, 1000]),
            places=rnd.choice([1, 3, 8]),
            own_rules=rnd.choice([0.0, 0.3, 1.0]),
            longest=400 if is_large else 3000,
            chained=rnd.random() < (0.1 if is_large else 0.3),
            capacity=(100, 200) if is_large else (4, 16, 40),
            latency=rnd.choice([10, 80, 80 if is_large else 300]),
            late=rnd.choice([0.0, 0.3]),
            leaps=rnd.choice([0.0, 0.0, 0.03]),
            rollbacks=rnd.choice([0.0, 0.0, 0.03]),
        )


@contextlib.contextmanager
def server_for_simulations() -> Iterator[str]:
    """The unix socket of a redis-server."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        with RedisServer(Path(folder), unixsocket=path):
            yield path


def simulate(
    path: str,
    setup: Setup,
    *,
    mistake: Mistake | None = None,
    faults: tuple[str, ...] = (),
    until_broken: bool = False,
) -> Result:
    """One round on the redis-server at *path*, which is emptied."""
    wire = Wire(path, mistake)
    try:
        return Simulation(setup, wire, faults).run(until_broken=until_broken)
    finally:
        wire.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1 << 30)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    total = Result()
    with server_for_simulations() as path:
        for setup in itertools.islice(
            setups(args.seed, large=not args.small), args.rounds
        ):
            result = simulate(path, setup)
            print(f"{setup}\n    {result}", flush=True)
            total.add(result)
            if total.starts >= args.starts:
                break
    print(f"In all: {total}")
    raise SystemExit(bool(total.broken))


if __name__ == "__main__":
    main()
