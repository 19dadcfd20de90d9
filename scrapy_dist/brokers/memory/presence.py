"""Who works on a crawl in memory, and what becomes of the leases of the dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.core.frontier import Ask, Deaths, Heartbeat

if TYPE_CHECKING:
    from scrapy_dist.brokers.memory.state import Limits, State

#: Leases of a dead worker that are taken away in one round trip at the most.
_MOST = 100


class Presence:
    """What *worker* tells and learns of the others."""

    def __init__(
        self, state: State, worker: str, limits: Limits, process: tuple[str, str] | None
    ) -> None:
        self.worker = worker
        self._state = state
        self._limits = limits
        self._process = process

    def beat(self, ask: Ask) -> Heartbeat:
        state, now, ttl = self._state, self._state.now(), self._limits.ttl
        me = state.workers.get(self.worker)
        if me is None:
            return Heartbeat(False, 0, 0, 0, 0)
        if now - max(worker.beat for worker in state.workers.values()) > ttl:
            state.grace = now + ttl  # this process was away, not the others
        me.beat = now
        state.tasks.prune(self._limits.result_ttl)
        me.info = ask.info or me.info
        if ask.busy is not None and me.is_busy != ask.busy:
            me.is_busy = ask.busy
            state.changed()
        alive = state.alive(ttl)
        return Heartbeat(
            known=True,
            commit=me.commit,
            held=len(state.held(self.worker)),
            alive=alive,
            silent=len(self._dead()),
            paused=state.is_paused,
            stop=me.is_stopped,
            met=state.met,
        )

    def _dead(self) -> list[str]:
        state, now = self._state, self._state.now()
        since = 0 if now < state.grace else now - self._limits.ttl
        return [
            n for n, worker in state.workers.items() if worker.beat <= max(0, since)
        ]

    def reap(self) -> Deaths:
        state = self._state
        dead = self._dead()
        if not dead:
            return Deaths()
        suspects = failed = 0
        held = state.held(dead[0])[:_MOST]
        for lease in held:
            _, entry = state.leases.pop(lease)
            entry.deaths += 1
            if entry.deaths < self._limits.max_deliveries:
                state.put(entry)
            else:
                name = state.workers[dead[0]].name
                failed += state.bury_dead(entry, name, self._limits.failed_limit)
            suspects += 1
        state.active = state.now()
        if len(held) == _MOST:
            return Deaths(suspects - failed, failed)
        state.seats.end(dead[0], state.now())
        del state.workers[dead[0]]
        return Deaths(suspects - failed, failed, 1)

    def end(self, number: str, process: str) -> None:
        worker = self._state.workers.get(number)
        known = None if worker is None else worker.process
        if worker is not None and known is not None and known[1] == process:
            worker.beat = 0

    def meet(self) -> tuple[int, list[tuple[str, str]]]:
        state, me = self._state, self._state.workers.get(self.worker)
        if me is not None and me.process is None and self._process is not None:
            me.process = self._process
            state.met += 1
        others = [
            (number, worker.process[1])
            for number, worker in state.workers.items()
            if number != self.worker
            and worker.process is not None
            and self._process is not None
            and worker.process[0] == self._process[0]
        ]
        return state.met, others
