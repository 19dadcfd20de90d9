"""Which requests a worker is given of a polite crawl in memory, and of which slots.

As the scripts of Redis do it: see lease_polite.lua, yield.lua and visit.lua.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.brokers.memory.lending import Lending
from scrapy_dist.brokers.memory.seats import count_seats, index_of
from scrapy_dist.core.politeness import Grant, Granted, Visit, slot_of_seat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scrapy_dist.core.frontier import Lease, Left
    from scrapy_dist.core.politeness import Manners, Yield


class PoliteLending(Lending):
    """Hands out requests of slots that the worker has or takes."""

    def give_back(self, yields: Iterable[Yield]) -> None:
        self._state.seats.give_back(self.worker, yields, self._state.now())

    def visit(self, slot: int, manners: Manners) -> Visit | None:
        """See `Visit`; None: this worker is not known."""
        state, name = self._state, str(slot)
        seats, now = state.seats, state.now()
        if self.worker not in state.workers:
            return None
        rules = seats.rules_of_seat(name, manners.seats)
        if seats.taken.get(name) == self.worker:
            return Visit(True, 0.0, rules)
        if seats.is_wanted(slot, self.worker, now):
            return Visit(False, None, rules)
        wait = seats.waits(name, now)
        if wait == 0:
            seats.taken[name] = self.worker
            seats.wanted.pop(slot, None)
            return Visit(True, 0.0, rules)
        seats.want(slot, self.worker, now)
        return Visit(False, None if wait is None else wait / 1000, rules)

    def lease_politely(
        self, want: int, most: int, manners: Manners
    ) -> tuple[list[Lease], Left, Granted]:
        """See `Ask`; the leases are in the order of the grants."""
        state = self._state
        if self.worker not in state.workers:
            return [], self.left(), Granted()
        grants: list[Grant] = []
        leases: list[Lease] = []
        alone, may_more = False, not state.is_paused
        if may_more:
            leases, alone, may_more = self.lease_suspects(want, most, self._may_go)
        for lease in leases:
            state.seats.taken[str(lease.slot)] = self.worker
            grants.append(self._grant(str(lease.slot), manners, 1))
        suspects = {lease.slot for lease in leases}
        most = want if may_more else len(leases)  # with these
        taken, wanted = self._renew(most - len(leases), manners, grants, leases)
        self._take(most - len(leases), manners, suspects, grants, leases)
        waits = [wait for _, wait in self._found(manners)]
        ready = sum(wait == 0 for wait in waits)
        if not ready and self._is_beyond_share():
            ready = 1
        elif not (ready or grants or state.is_paused or alone):
            self._may_be_in_vain(most)
        wait = min(waits) / 1000 if waits else None
        granted = Granted(grants, taken, wanted, wait, ready)
        return leases, self.left(alone=alone), granted

    def _may_go(self, slot: int) -> bool:
        seats, name = self._state.seats, str(slot)
        is_mine = seats.taken.get(name) == self.worker
        return is_mine or seats.waits(name, self._state.now()) == 0

    def _grant(
        self, name: str, manners: Manners, leases: int, under_way: int | None = None
    ) -> Grant:
        rules = self._state.seats.rules_of_seat(name, manners.seats, under_way)
        return Grant(name, rules, leases)

    def _renew(
        self, want: int, manners: Manners, grants: list[Grant], leases: list[Lease]
    ) -> tuple[list[str], list[str]]:
        """More of the seats that this worker has; those it has not, and is to give back."""
        seats, now = self._state.seats, self._state.now()
        taken, wanted = [], []
        for name, most, under_way in manners.renewals:
            slot = slot_of_seat(name)
            count = count_seats(seats.rules_of(slot), manners.seats)
            if seats.taken.get(name) != self.worker:
                taken.append(name)
            elif seats.is_wanted(slot, self.worker, now) or index_of(name) >= count:
                wanted.append(name)
            else:
                new = self.lease_of(slot, min(most, want), leases)
                grants.append(self._grant(name, manners, new, under_way))
                want -= new
        return taken, wanted

    def _take(
        self,
        want: int,
        manners: Manners,
        suspects: set[int],
        grants: list[Grant],
        leases: list[Lease],
    ) -> None:
        """Seats that nobody has, a fair share of them."""
        state = self._state
        found = [name for name, wait in self._found(manners) if wait == 0]
        if self._is_beyond_share(len(found), more=1):
            return
        share = -(-len(found) // max(1, state.alive(self._limits.ttl)))
        for i, name in enumerate(found):
            slot = slot_of_seat(name)
            is_wanted = state.seats.is_wanted(slot, self.worker, state.now())
            if not (share > 0 and want > 0) or slot in suspects or is_wanted:
                continue
            left = min(share, len(found) - i)
            most = min(want, self._portion(slot, manners, max(1, want // left)))
            new = self.lease_of(slot, most, leases)
            if not new and slot in state.pending.slots:
                break  # the answer is large enough
            if not new:
                continue
            state.seats.taken[name] = self.worker
            grants.append(self._grant(name, manners, new, 0))
            want -= new
            share -= 1

    def _is_beyond_share(self, free: int = 0, more: int = 0) -> bool:
        """Whether another worker has no seat, and this one would have more than its share.

        That is of those that are taken, or *free*, when it had *more* than it has.
        """
        state, seats = self._state, self._state.seats
        share = -(-(len(seats.taken) + free) // max(1, state.alive(self._limits.ttl)))
        has = len(seats.held(self.worker)) + more
        return seats.is_somebody_without(state.now()) and has > share

    def _may_be_in_vain(self, want: int) -> None:
        """This worker gets nothing of *want*."""
        state = self._state
        has_others = state.alive(self._limits.ttl) > 1 and len(state.pending) > 0
        if want > 0 and has_others and not state.seats.held(self.worker):
            state.seats.ask_in_vain(state.now())

    def _portion(self, slot: int, manners: Manners, part: int) -> int:
        """Of a seat; without a delay *part* at the most, as others want some, too."""
        delay = self._state.seats.rules_of(slot).delay
        if delay <= 0:
            return min(manners.portion, part)
        return min(manners.portion, 1 + int(manners.horizon / delay))

    def _found(self, manners: Manners) -> list[tuple[str, int]]:
        """The free seats of slots that have requests, and ms until they may be taken."""
        state, now = self._state, self._state.now()
        return [
            seat
            for slot, waiting in state.pending.slots.items()
            for seat in state.seats.free_seats(slot, manners.seats, now)[: len(waiting)]
        ]
