"""Random plays against the broker in memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.memory.state import Entry as Held
from scrapy_dist.brokers.memory.state import State, wall_clock
from tests.contract.frontier_contract import SEEDS
from tests.support.frontier_machine import OPTIONS, PLAYS, Entry, FrontierMachine, Look
from tests.support.frontiers import in_memory

if TYPE_CHECKING:
    from scrapy_dist.brokers.memory.frontier import MemoryFrontier


class MemoryMachine(FrontierMachine):
    def open_broker(self) -> None:
        self.leapt = 0
        self.state = State(now=lambda: wall_clock() + self.leapt)

    def session(self, number: int, **options: Any) -> MemoryFrontier:
        options |= {**OPTIONS, "seed_keys": [SEEDS], "process": ("m", f"{number} 1")}
        return in_memory(self.state, **options)

    def read(self) -> Look:
        state = self.state
        pending = sorted(
            (entry for heap in state.pending.slots.values() for entry in heap),
            key=place_in_line,
        )
        suspects = sorted(state.suspects, key=place_in_line)
        leased = [entry for _, entry in state.leases.values()]
        waiting = [held(entry, "suspect", float("inf")) for entry in state.waiting]
        return Look(
            entries=[
                *(held(entry, "pending") for entry in pending),
                *(held(entry, "suspect") for entry in suspects),
                *waiting,
                *(held(entry, "leased") for entry in leased),
            ],
            order=[entry.id for entry in pending],
            suspects=[entry.id for entry in suspects],
            turns=list(state.pending.slots),
            owners={id_: owner for id_, (owner, _) in state.leases.items()},
            seen=set(state.seen),
            items=Counter(state.items.get(self.items, ())),
            pushed=state.stored_items,
            letters=[
                (letter.entry.payload.decode(), letter.reason, letter.deliveries)
                for letter in state.letters.values()
            ],
            waiting=[seed.decode() for seed in state.seeds.get(SEEDS, ())],
            beats={number: known.beat for number, known in state.workers.items()},
            now=state.now(),
            commits={number: known.commit for number, known in state.workers.items()},
            tasks=dict(state.tasks.records),
            failures=Counter(
                x.entry.task for x in state.letters.values() if x.entry.task
            ),
            results=Counter(
                {token: len(items) for token, items in state.tasks.results.items()}
            ),
        )

    def push_seed(self, name: str) -> None:
        self.state.push_seeds(SEEDS, [name.encode()])

    def pause(self, paused: bool) -> None:
        self.state.is_paused = paused

    def let_time_pass(self, seconds: int) -> None:
        self.leapt += 1000 * seconds

    def last_beat(self, worker: str) -> None:
        if worker in self.state.workers:
            self.state.workers[worker].beat = 0

    def end_of_grace(self) -> None:
        self.state.grace = 0

    def is_gone(self) -> tuple[int, int]:
        state = self.state
        assert not any((state.crawl, state.workers, state.seen, state.started))
        [record] = state.records
        return record.items, record.failed


def place_in_line(entry: Held) -> tuple[float, int]:
    return entry.score, entry.order


def held(entry: Held, place: str, score: float | None = None) -> Entry:
    return Entry(
        entry.id,
        place,
        entry.payload.decode(),
        entry.score if score is None else score,
        entry.slot,
        entry.deaths,
        frozenset(entry.claims),
        entry.task,
    )


TestFrontierInMemory = MemoryMachine.TestCase
TestFrontierInMemory.settings = PLAYS
