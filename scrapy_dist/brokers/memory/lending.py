"""Which requests and seeds a worker is given of a crawl in memory."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Sequence

from scrapy_dist.brokers.memory.state import Entry, Limits, State
from scrapy_dist.core.frontier import Lease, Left

#: Bytes of requests or seeds in one answer, after which no more are handed out.
_ANSWER_BYTES = 4 << 20
#: Milliseconds that a worker waits to be alone with a suspect, and then nobody does.
_ALONE = 60_000
#: Suspects that are looked at, the first ones.
_LOOKED_AT = 16


class Lending:
    """Hands requests and seeds to *worker*."""

    def __init__(
        self, state: State, worker: str, limits: Limits, seed_keys: Sequence[str]
    ) -> None:
        self.worker = worker
        self._state = state
        self._limits = limits
        self._seed_keys = seed_keys

    def readmit(self) -> int:
        """Take up what has failed while there was no room; how many still wait."""
        state = self._state
        room = self._limits.failed_limit - len(state.letters)
        taken, state.waiting = state.waiting[:room], state.waiting[max(0, room) :]
        for entry in taken if room > 0 else []:
            if entry.deaths >= self._limits.max_deliveries:
                state.bury_dead(entry, "", self._limits.failed_limit)
            else:
                heapq.heappush(state.suspects, entry)
        return len(state.waiting)

    def lease(
        self, want: int, most: int, enough: Collection[int]
    ) -> tuple[list[Lease], Left]:
        """Hand out at most *want*, and *most* suspects; see `Ask` for *enough*."""
        state = self._state
        if self.worker not in state.workers or state.is_paused:
            return [], self.left()
        leases, alone, may_more = self.lease_suspects(want, most, lambda _: True)
        if may_more:
            share = self._share(want - len(leases), len(leases))
            size = _ANSWER_BYTES - sum(len(lease.payload) for lease in leases)
            leases += map(self._hand_out, state.pending.take(share, enough, size))
        return leases, self.left(alone=alone)

    def lease_of(self, slot: int, most: int, leases: list[Lease]) -> int:
        """Add at most *most* requests of *slot* to *leases*; how many."""
        size = _ANSWER_BYTES - sum(len(lease.payload) for lease in leases)
        taken = self._state.pending.take_of(slot, most, size)
        leases += map(self._hand_out, taken)
        return len(taken)

    def left(self, *, alone: bool = False) -> Left:
        state = self._state
        return Left(len(state.pending), len(state.suspects), len(state.waiting), alone)

    def _share(self, want: int, suspects: int) -> int:
        """How many pending requests this worker may take."""
        state = self._state
        everybody = len(state.pending) + len(state.suspects) + len(state.leases)
        share = math.ceil(everybody / max(1, state.alive(self._limits.ttl)))
        if share - (len(state.leases) - suspects) <= want:
            share -= len(state.held(self.worker))
        return max(0, min(want, len(state.pending), share))

    def lease_suspects(
        self, want: int, most: int, may_go: Callable[[int], bool]
    ) -> tuple[list[Lease], bool, bool]:
        """Suspects of slots that *may_go*; whether the worker is to be alone, and may get more.

        One that the next death sets aside is handed out alone, see lease.lua.
        """
        state, now = self._state, self._state.now()
        waits = False
        if state.alone is not None:
            worker, since = state.alone
            waits = worker == self.worker and now - since < _ALONE
            if now - since > 2 * _ALONE or worker not in state.workers:
                state.alone = None
        if not state.suspects or want <= 0:
            return [], False, True
        if most <= 0:
            return [], waits, not waits
        found = (entry for entry in state.suspects if may_go(entry.slot))
        first = heapq.nsmallest(_LOOKED_AT, found)
        lone = [entry for entry in first if self._dies_next(entry)][:1]
        if lone and not state.held(self.worker):
            state.alone = state.alone or (self.worker, now)
            return self._hand_out_suspects(lone, alone=True), True, False
        if lone and state.alone is None:
            state.alone, waits = (self.worker, now), True
        elif not lone and waits:
            state.alone, waits = None, False
        if waits:
            return [], True, False
        others = [entry for entry in first if not self._dies_next(entry)]
        return self._hand_out_suspects(others[: min(most, want)]), False, True

    def _dies_next(self, entry: Entry) -> bool:
        return entry.deaths > (0 if self._limits.max_deliveries < 3 else 1)

    def _hand_out_suspects(
        self, entries: list[Entry], *, alone: bool = False
    ) -> list[Lease]:
        gone = {id(entry) for entry in entries}
        self._state.suspects = [e for e in self._state.suspects if id(e) not in gone]
        heapq.heapify(self._state.suspects)
        return [self._hand_out(entry, alone=alone) for entry in entries]

    def _hand_out(self, entry: Entry, *, alone: bool = False) -> Lease:
        state = self._state
        state.leases[entry.id] = self.worker, entry
        state.active = state.now()
        most = self._limits.max_seed if entry.is_seed else self._limits.max_payload
        size = len(entry.payload)
        return Lease(
            entry.id,
            entry.payload if size <= most else b"",
            suspect=entry.deaths > 0 or bool(entry.claims),
            alone=alone,
            is_seed=entry.is_seed,
            too_large=size if size > most else 0,
            slot=entry.slot,
            task=entry.task,
        )

    def seeds_left(self) -> int:
        return self._state.count_seeds(self._seed_keys)

    def lease_seeds(self, want: int) -> list[Lease]:
        state = self._state
        if self.worker not in state.workers or state.is_paused:
            return []
        left = self.seeds_left()
        alive = max(1, state.alive(self._limits.ttl))
        share = math.ceil((left + len(state.leases)) / alive)
        want = min(want, share - len(state.held(self.worker)))
        leases: list[Lease] = []
        for key in self._seed_keys:
            seeds = state.seeds.get(key, ())
            while seeds and len(leases) < want:
                entry = Entry(state.next_order(), 0, seeds[0], is_seed=True)
                leases.append(self._hand_out(entry))
                state.seeds[key].popleft()
        return leases
