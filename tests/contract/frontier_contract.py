"""What every broker does, as tests of the port: I1 to I3, and what workers rely on.

A test class of a broker inherits `FrontierContract` and has a fixture ``broker``: a
`Broker`. Nothing here waits for time.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from scrapy_dist.core.frontier import (
    Answer,
    Ask,
    ChainLink,
    Claim,
    Commit,
    CommitReply,
    Counts,
    End,
    JoinOutcome,
    Lease,
    LeaveOutcome,
    NewRequest,
    Outcome,
    Reject,
    Settlement,
)

if TYPE_CHECKING:
    from scrapy_dist.core.frontier_port import Frontier

#: Key of items, and of seeds.
ITEMS, SEEDS = "s:items", "s:start_urls"
#: Machine that all workers are on.
MACHINE = "machine"


class Broker(Protocol):
    """How a broker is built, and what people do with a crawl from outside."""

    def session(self, **options: Any) -> Frontier:
        """A session of one more worker; *options*: see the sessions of brokers."""

    async def push_seeds(self, *seeds: bytes) -> None: ...
    async def items(self) -> list[bytes]: ...
    async def letters(self) -> list[tuple[bytes, str, int]]:
        """Payload, reason and deliveries of the dead letters."""

    async def delete_letters(self) -> None: ...
    async def pause(self, paused: bool) -> None: ...
    async def stop(self, worker: Worker) -> None: ...
    async def roll_back(self) -> None:
        """Forget all workers, as if the broker went back to before they came."""

    async def pass_time(self, seconds: float) -> None:
        """Let the clock of slots go on, by less than 10 s."""

    async def stats(self) -> dict[str, str]: ...


@dataclass
class Worker:
    """A worker, its session, and the number of its last commit."""

    session: Frontier
    process: str
    commits: int = 0
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def ask(self, **what: Any) -> Answer:
        return await self.session.exchange(Ask(**what))

    async def commit(
        self, requests: Sequence[NewRequest] = (), **parts: Any
    ) -> CommitReply:
        commit = Commit(next(self.numbers), requests, **parts)
        [reply] = (await self.ask(commits=[commit])).commits
        return reply

    async def settle(self, *settlements: Settlement) -> CommitReply:
        return await self.commit(settlements=settlements)

    async def lease(
        self, most: int = 100, suspects: int = 8, enough: Sequence[int] = ()
    ) -> list[Lease]:
        ask = self.ask(leases=most, suspects=suspects, enough=enough)
        return (await ask).leases

    async def lease_one(self, **limits: Any) -> Lease:
        [lease] = await self.lease(1, **limits)
        return lease

    async def counts(self) -> Counts:
        counts = (await self.ask(count=True)).counts
        assert counts is not None
        return counts

    async def leave(self, finished: bool | None = True, persist: bool = False) -> Any:
        outcome, _ = await self.session.leave(
            finished=finished, persist=persist, reason="finished"
        )
        return outcome


def new(*names: str, score: float = 0, slot: int = 0) -> list[NewRequest]:
    return [NewRequest(name.encode(), score, name, slot=slot) for name in names]


def many(count: int, slot: int) -> list[NewRequest]:
    """*count* requests of *slot*."""
    return new(*(f"{slot} {n}" for n in range(count)), slot=slot)


def payloads(leases: Sequence[Lease]) -> list[str]:
    return [lease.payload.decode() for lease in leases]


def of_slots(leases: Sequence[Lease]) -> Counter[int]:
    """How many *leases* each slot has."""
    return Counter(lease.slot for lease in leases)


class FrontierContract:
    """Inherit it, and say by a fixture ``broker`` how yours is built."""

    @pytest.fixture
    def join(self, broker: Broker) -> Any:
        """``await join(…)``: one more worker, which has joined."""
        numbers = itertools.count(1)

        async def join(
            *,
            flush: bool = False,
            persist: bool = False,
            age: float = 0.0,
            outcome: JoinOutcome = JoinOutcome.JOINED,
            **options: Any,
        ) -> Worker:
            process = f"{next(numbers)} 7"
            session = broker.session(process=(MACHINE, process), **options)
            joined = await session.join(
                f"host:{process}", commit=0, flush=flush, persist=persist, age=age
            )
            assert joined.outcome is outcome
            worker = Worker(session, process)
            if outcome is not JoinOutcome.LATE:
                await worker.ask(meet=True, heartbeat=True)
            return worker

        return join

    @pytest.fixture
    def kill(self) -> Any:
        """``await kill(worker, by)``: its process is gone, and *by* reaps it."""

        async def kill(worker: Worker, by: Worker, **more: Any) -> tuple[int, int]:
            answer = await by.ask(meet=True)
            assert answer.met is not None
            [number] = [n for n, process in answer.met[1] if process == worker.process]
            suspects = failed = ended = 0
            await by.ask(gone=[(number, worker.process)])
            while not ended:
                deaths = (await by.ask(reap=True, **more)).deaths
                assert deaths is not None
                suspects += deaths.suspects
                failed += deaths.failed
                ended += deaths.ended
            return suspects, failed

        return kill

    # Commits

    async def test_committed_requests_are_leased_in_order(self, join):
        worker = await join()
        await worker.commit(new("a", "b"))
        await worker.commit(new("c"))
        assert payloads(await worker.lease()) == ["a", "b", "c"]

    async def test_lower_scores_come_first(self, join):
        worker = await join()
        await worker.commit([*new("a"), *new("b", score=-5), *new("c", score=2)])
        assert payloads(await worker.lease()) == ["b", "a", "c"]

    async def test_the_newest_come_first_if_the_crawl_says_so(self, join):
        worker = await join(newest_first=True)
        await worker.commit(new("a", "b", "c"))
        assert payloads(await worker.lease()) == ["c", "b", "a"]

    async def test_duplicates_are_named_by_position(self, join):
        worker = await join()
        reply = await worker.commit(new("a", "b", "a"))
        assert (reply.outcome, list(reply.duplicates)) == (Outcome.STORED, [2])
        reply = await worker.commit(new("c", "b"))
        assert list(reply.duplicates) == [1]
        assert payloads(await worker.lease()) == ["a", "b", "c"]

    async def test_requests_without_fingerprint_are_not_filtered(self, join):
        worker = await join()
        same = [NewRequest(b"a", 0), NewRequest(b"a", 0)]
        assert not (await worker.commit(same)).duplicates
        assert payloads(await worker.lease()) == ["a", "a"]

    async def test_start_request_is_taken_once_per_crawl_even_if_it_was_seen(
        self, join
    ):
        worker, other = await join(), await join()
        await worker.commit(new("a"))
        start = [NewRequest(b"a", 0, "a", start=1)]
        assert not (await worker.commit(start)).duplicates
        assert list((await other.commit(start)).duplicates) == [0]

    async def test_equal_start_requests_are_told_apart_by_their_occurrence(self, join):
        worker, other = await join(), await join()
        start = [NewRequest(b"a", 0, "a", start=n) for n in (1, 2, 3)]
        assert not (await worker.commit(start)).duplicates
        assert list((await other.commit(start)).duplicates) == [0, 1, 2]
        assert list((await worker.commit(new("a"))).duplicates) == [0]

    async def test_commit_that_is_repeated_is_stored_once(self, join):
        worker = await join()
        commit = Commit(1, new("a"), [(ITEMS, b"i")])
        for outcome in (Outcome.STORED, Outcome.REPEATED, Outcome.REPEATED):
            [reply] = (await worker.ask(commits=[commit])).commits
            assert reply.outcome is outcome
        assert (await worker.counts()).pending == 1

    async def test_commit_behind_a_gap_is_not_stored(self, join):
        worker = await join()
        [reply] = (await worker.ask(commits=[Commit(2, new("a"))])).commits
        assert reply.outcome is Outcome.GAP
        assert (await worker.counts()).pending == 0

    async def test_commits_of_one_round_trip_are_stored_in_order(self, join):
        worker = await join()
        answer = await worker.ask(
            commits=[Commit(1, new("a")), Commit(2, new("a", "b"))]
        )
        assert [list(reply.duplicates) for reply in answer.commits] == [[], [0]]

    async def test_unknown_worker_is_told_so(self, join, broker):
        worker = await join()
        await broker.roll_back()
        reply = await worker.commit(new("a"))
        assert reply.outcome is Outcome.UNKNOWN_WORKER
        answer = await worker.ask(heartbeat=True, leases=5, seeds=5)
        assert answer.heartbeat is not None
        assert not answer.heartbeat.known
        assert not answer.leases
        assert not answer.seeds
        assert (await worker.counts()).pending == 0

    # Settlements

    async def test_page_is_acknowledged_together_with_what_it_produced(self, join):
        worker = await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        assert await worker.session.held() == {page.id}
        answer = await worker.ask(
            commits=[Commit(2, new("child"), settlements=[Settlement(page.id)])],
            heartbeat=True,
            leases=16,
            count=True,
        )
        assert payloads(answer.leases) == ["child"]
        assert answer.heartbeat is not None
        assert (answer.heartbeat.held, answer.heartbeat.commit) == (0, 2)
        assert answer.counts is not None
        assert (answer.counts.pending, answer.counts.leased) == (0, 1)

    async def test_what_is_part_of_a_lease_is_stored_by_its_owner_only(
        self, join, broker
    ):
        worker, other = await join(), await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        own = Settlement(page.id, [NewRequest(b"child", 0)], [(ITEMS, b"item")])
        reply = await other.settle(own)
        assert (reply.outcome, reply.not_owned) == (Outcome.STORED, 1)
        assert not await broker.items()
        assert await worker.session.held() == {page.id}
        assert (await worker.settle(own)).not_owned == 0
        assert await broker.items() == [b"item"]
        assert (await worker.counts()).pending == 1

    async def test_reply_that_is_repeated_tells_of_leases_of_others(self, join):
        worker, other = await join(), await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        commit = Commit(1, settlements=[Settlement(page.id)])
        for _ in range(2):
            [reply] = (await other.ask(commits=[commit])).commits
            assert reply.not_owned == 1

    async def test_open_part_does_not_end_the_lease(self, join, broker):
        worker = await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        await worker.settle(
            Settlement(page.id, [NewRequest(b"child", 0)], [(ITEMS, b"1")], End.OPEN)
        )
        assert await worker.session.held() == {page.id}
        await worker.settle(Settlement(page.id, items=[(ITEMS, b"2")]))
        assert await broker.items() == [b"1", b"2"]
        assert not await worker.session.held()

    async def test_failed_page_is_a_dead_letter(self, join, broker):
        worker = await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        await worker.settle(Settlement(page.id, end=End.FAILED, reason="why"))
        assert await broker.letters() == [(b"page", "why", 1)]
        assert (await worker.counts()).is_drained

    async def test_failed_page_waits_while_there_is_no_room(self, join, broker):
        worker = await join(failed_limit=1)
        await worker.commit(new("a", "b"))
        for page in await worker.lease():
            await worker.settle(Settlement(page.id, end=End.FAILED, reason="why"))
        assert len(await broker.letters()) == 1
        counts = await worker.counts()
        assert (counts.waiting, counts.suspects, counts.is_stuck) == (1, 1, True)
        answer = await worker.ask(leases=5, suspects=5, readmit=True)
        assert not answer.leases
        assert answer.readmitted == 1
        await broker.delete_letters()
        answer = await worker.ask(readmit=True)
        assert answer.readmitted == 0
        assert payloads(await worker.lease()) == ["b"]

    async def test_chain_is_seen_when_its_lease_ends(self, join, broker):
        worker = await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        chain = [ChainLink("x"), ChainLink(""), ChainLink("y", "why", b"bad")]
        await worker.settle(Settlement(page.id, chain=chain))
        assert list((await worker.commit(new("x", "y", "z"))).duplicates) == [0, 1]
        assert await broker.letters() == [(b"bad", "why", 1)]

    async def test_chain_of_a_lease_of_another_is_not_seen(self, join, broker):
        worker, other = await join(), await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        chain = [ChainLink("x"), ChainLink("y", "why", b"bad")]
        await other.settle(Settlement(page.id, chain=chain))
        assert not (await worker.commit(new("x", "y"))).duplicates
        assert not await broker.letters()

    async def test_items_are_stored_in_order(self, join, broker):
        worker = await join()
        await worker.commit(items=[(ITEMS, b"%d" % n) for n in range(5)])
        assert await broker.items() == [b"0", b"1", b"2", b"3", b"4"]

    # Leases

    async def test_nobody_gets_what_another_one_holds(self, join):
        worker, other = await join(), await join()
        await worker.commit(new(*"abcd"))
        mine, theirs = await worker.lease(), await other.lease()
        assert sorted(payloads([*mine, *theirs])) == list("abcd")

    async def test_each_gets_a_fair_share(self, join):
        worker, other = await join(), await join()
        await worker.commit(new(*map(str, range(10))))
        assert len(await worker.lease()) == 5
        assert not await worker.lease()
        assert len(await other.lease()) == 5

    async def test_no_more_is_leased_than_was_asked_for(self, join):
        worker = await join()
        await worker.commit(new(*map(str, range(10))))
        assert len(await worker.lease(3)) == 3
        assert len(await worker.lease(30)) == 7

    async def test_more_than_a_hundred_come_in_one_answer(self, join):
        worker = await join()
        for first in range(0, 250, 50):
            await worker.commit(new(*map(str, range(first, first + 50))))
        assert payloads(await worker.lease(250)) == [str(n) for n in range(250)]

    async def test_released_request_has_its_place_again(self, join):
        worker = await join()
        await worker.commit(new("a", "b"))
        lease = await worker.lease_one()
        await worker.ask(releases=[lease.id])
        assert not await worker.session.held()
        assert payloads(await worker.lease()) == ["a", "b"]

    async def test_only_its_owner_releases_or_rejects_a_lease(self, join, broker):
        worker, other = await join(), await join()
        await worker.commit(new("a"))
        lease = await worker.lease_one()
        await other.ask(
            releases=[lease.id], rejects=[Reject(lease.id, "request", "why")]
        )
        assert await worker.session.held() == {lease.id}
        assert not await broker.letters()

    async def test_rejected_request_is_a_dead_letter(self, join, broker):
        worker = await join()
        await worker.commit(new("a"))
        lease = await worker.lease_one()
        await worker.ask(rejects=[Reject(lease.id, "request", "why")])
        assert await broker.letters() == [(b"a", "why", 1)]
        assert (await worker.counts()).is_drained

    async def test_request_that_is_too_large_stays_where_it_is(self, join, broker):
        worker = await join(max_payload=100, max_seed=100)
        await worker.commit([NewRequest(b"x" * 1000, 0), *new("b")])
        large, small = await worker.lease()
        assert large.too_large == 1000
        assert len(large.payload) <= 1
        assert (small.payload, small.too_large) == (b"b", 0)
        await worker.ask(rejects=[Reject(large.id, "request", "large")])
        [(_, reason, _)] = await broker.letters()
        assert reason == "large"

    # Slots

    async def test_slots_take_turns(self, join):
        worker = await join()
        await worker.commit([*many(4, 1), *many(4, 2), *many(4, 3)])
        first = [(await worker.lease_one()).slot for _ in range(3)]
        assert sorted(first) == [1, 2, 3]
        assert [(await worker.lease_one()).slot for _ in range(9)] == first * 3

    async def test_order_is_exact_inside_a_slot(self, join):
        worker = await join()
        await worker.commit([*new("b", "c", slot=1), *new("y", slot=2, score=7)])
        await worker.commit(
            [*new("a", slot=1, score=-0.5), *new("x", slot=2, score=-7)]
        )
        await worker.commit(
            [*new("d", slot=1, score=1e300), *new("z", slot=2, score=8)]
        )
        found: dict[int, str] = {1: "", 2: ""}
        while leases := await worker.lease(3):
            for lease in leases:
                found[lease.slot] += lease.payload.decode()
        assert found == {1: "abcd", 2: "xyz"}

    async def test_the_newest_come_first_inside_a_slot_if_the_crawl_says_so(self, join):
        worker = await join(newest_first=True)
        await worker.commit(
            [*new("a", "b", slot=1), *new("x", slot=2), *new("c", slot=1)]
        )
        assert [p for p in payloads(await worker.lease()) if p != "x"] == list("cba")

    async def test_one_order_holds_for_all_hosts_where_there_are_no_slots(self, join):
        worker = await join()
        await worker.commit(
            [*new("a/2", score=2), *new("b/0", "a/0"), *new("b/1", score=1)]
        )
        assert payloads(await worker.lease(3)) == ["b/0", "a/0", "b/1"]
        assert payloads(await worker.lease()) == ["a/2"]

    @pytest.mark.parametrize("want", [1, 2, 3, 7, 8, 9, 10, 11, 23])
    async def test_slots_have_equal_shares_as_far_as_they_go(self, join, want):
        worker = await join()
        there = Counter({1: 1, 2: 2, 3: 9, 4: 9, 5: 2})
        await worker.commit([r for slot, n in there.items() for r in many(n, slot)])
        given = of_slots(await worker.lease(want))
        assert given.total() == want
        goes_on = [given[slot] for slot in there if given[slot] < there[slot]]
        assert max(given.values()) - min(goes_on, default=want) <= 1

    async def test_shares_are_equal_where_slots_do_not_divide_what_is_asked(self, join):
        worker = await join()
        await worker.commit([r for slot in range(1, 61) for r in many(5, slot)])
        given = of_slots(await worker.lease(100))
        assert Counter(given.values()) == {2: 40, 1: 20}

    async def test_there_is_a_lease_for_every_ask_while_anything_is_pending(self, join):
        worker = await join()
        await worker.commit([*many(3, 1), *many(1, 2), *many(1, 3), *many(2, 4)])
        for _ in range(7):
            await worker.lease_one()
        assert not await worker.lease(1)

    async def test_slot_of_which_a_worker_has_enough_is_left_out(self, join):
        worker = await join()
        await worker.commit([*many(3, 1), *many(3, 2), *many(3, 3)])
        assert of_slots(await worker.lease(2, enough=[1, 3])) == {2: 2}
        assert of_slots(await worker.lease(enough=[1])) == {2: 1, 3: 3}
        assert not await worker.lease(enough=[1, 2, 3, 4])
        assert of_slots(await worker.lease(enough=[2, 3])) == {1: 3}

    async def test_slots_behind_many_that_are_left_out_are_found(self, join):
        worker = await join()
        await worker.commit([r for slot in range(1, 51) for r in many(1, slot)])
        for slot in range(50, 0, -1):
            enough = [n for n in range(1, 51) if n != slot]
            assert (await worker.lease_one(enough=enough)).slot == slot

    async def test_slot_that_ran_empty_comes_back(self, join):
        worker = await join()
        await worker.commit([*many(1, 1), *many(2, 2)])
        assert of_slots(await worker.lease(2)) == {1: 1, 2: 1}
        await worker.commit(new("again", slot=1))
        assert of_slots(await worker.lease()) == {1: 1, 2: 1}
        await worker.commit(new("once more", slot=1))
        assert payloads(await worker.lease()) == ["once more"]

    async def test_released_request_has_its_place_in_its_slot_again(self, join):
        worker = await join()
        await worker.commit([*new("a", "b", slot=1), *new("x", "y", slot=2)])
        leases = await worker.lease(2)
        assert sorted(payloads(leases)) == ["a", "x"]
        await worker.ask(releases=[lease.id for lease in leases])
        again = await worker.lease()
        assert {(x.id, x.slot) for x in leases} < {(x.id, x.slot) for x in again}
        for slot, names in ((1, "ab"), (2, "xy")):
            assert payloads([x for x in again if x.slot == slot]) == list(names)

    async def test_last_of_a_slot_is_leased_again_when_it_was_released(self, join):
        worker = await join()
        await worker.commit(new("a", slot=7))
        lease = await worker.lease_one()
        await worker.ask(releases=[lease.id])
        assert await worker.lease_one() == lease

    async def test_suspects_come_in_one_order_whatever_their_slots(self, join, kill):
        worker, other = await join(), await join()
        await other.commit([*new("c", slot=1, score=2), *new("b", slot=2, score=1)])
        await other.commit([*new("d", slot=2, score=2), *new("a", slot=3, score=-1)])
        await other.commit(new("e", "f", "g", "h", slot=4, score=3))
        held = await worker.lease(4, enough=[4])
        await kill(worker, other)
        suspects = await other.lease(4, suspects=8, enough=[1, 2, 3, 4])
        assert payloads(suspects) == list("abcd")
        assert [lease.slot for lease in suspects] == [3, 2, 1, 2]
        assert {lease.id for lease in held} == {lease.id for lease in suspects}

    async def test_suspect_that_is_released_or_fails_keeps_its_slot(
        self, join, kill, broker
    ):
        worker, other = await join(failed_limit=0), await join(failed_limit=0)
        await other.commit([*new("a", slot=3), *new("b", slot=4)])
        await worker.lease_one()
        await kill(worker, other)
        [suspect] = [x for x in await other.lease() if x.suspect]
        await other.ask(releases=[suspect.id])
        again = await other.lease_one()
        assert (again.id, again.slot) == (suspect.id, suspect.slot)
        await other.settle(Settlement(again.id, end=End.FAILED, reason="why"))
        last = await join(failed_limit=1)
        await last.ask(readmit=True)
        again = await last.lease_one()
        assert (again.id, again.slot) == (suspect.id, suspect.slot)

    async def test_link_of_a_chain_that_waits_for_room_keeps_its_slot(self, join):
        worker = await join(failed_limit=0)
        await worker.commit(new("page", slot=1))
        page = await worker.lease_one()
        chain = [
            ChainLink("9 x", "why", b"1", slot=9),
            ChainLink("", "2", b"2", slot=8),
        ]
        await worker.settle(Settlement(page.id, chain=chain))
        last = await join(failed_limit=2)
        await last.ask(readmit=True)
        leases = await last.lease()
        assert [(x.payload, x.slot) for x in leases] == [(b"1", 9), (b"2", 8)]
        assert list((await last.commit(new("9 x"))).duplicates) == [0]

    async def test_request_with_a_claim_keeps_its_slot(self, join):
        worker = await join()
        await worker.commit(new("page", slot=5))
        page = await worker.lease_one()
        assert (await worker.ask(claims=[Claim("x", [page.id])])).claims == [True]
        await worker.ask(releases=[page.id])
        again = await worker.lease_one(enough=[5])
        assert (again.id, again.slot, again.suspect) == (page.id, 5, True)

    async def test_page_yields_requests_of_many_slots(self, join):
        worker = await join()
        await worker.commit(new("page", slot=1))
        page = await worker.lease_one()
        parts = [NewRequest(b"%d" % n, -n, slot=n % 50) for n in range(100)]
        filtered = [r for n in range(50) for r in new(f"f{n}", slot=n, score=-1000)]
        await worker.commit(
            [*filtered, *new("f1", slot=9)], settlements=[Settlement(page.id, parts)]
        )
        found: dict[int, list[str]] = {slot: [] for slot in range(50)}
        for lease in await worker.lease(200):
            found[lease.slot].append(lease.payload.decode())
        assert found == {n: [f"f{n}", f"{n + 50}", f"{n}"] for n in range(50)}

    async def test_a_thousand_slots_of_one_request_are_handed_out_once(self, join):
        worker = await join()
        for first in range(1, 1001, 100):
            slots = range(first, first + 100)
            await worker.commit([r for slot in slots for r in many(1, slot)])
        found: Counter[int] = Counter()
        for _ in range(10):
            leases = await worker.lease(100)
            assert len(leases) == 100
            found.update(of_slots(leases))
        assert found == dict.fromkeys(range(1, 1001), 1)

    async def test_answer_that_is_large_leaves_the_rest_for_the_next(self, join, kill):
        worker, other = await join(), await join()
        for slot in (1, 1, 2, 2, 3, 3):
            await other.commit([NewRequest(b"x" * 1_000_000, 0, slot=slot)] * 4)
        assert len(await worker.lease(5)) == 5
        await kill(worker, other)
        assert [x.suspect for x in await other.lease()] == [True] * 5
        rest = [await other.lease() for _ in range(5)]
        assert 0 < len(rest[0]) < 19 == len([*itertools.chain(*rest)])

    async def test_number_of_a_slot_is_exact(self, join, kill):
        numbers = {2**52 - 1: "a", 2**52 - 2: "b", 2**51 + 1: "c", 1: "d", 0: "e"}
        worker, other = await join(), await join()
        for slot, name in numbers.items():
            await other.commit(new(name, slot=slot))
        [lease] = await worker.lease(1, enough=list(numbers)[1:])
        assert (lease.slot, lease.payload) == (2**52 - 1, b"a")
        await kill(worker, other)
        leases = await other.lease()
        assert {x.slot: x.payload.decode() for x in leases} == numbers

    # Deaths

    async def test_what_a_dead_worker_held_is_a_suspect(self, join, kill):
        worker, other = await join(), await join()
        await other.commit(new("a", "b"))
        [held] = await worker.lease()
        assert await kill(worker, other) == (1, 0)
        leases = await other.lease()
        assert [(x.id, x.suspect) for x in leases if x.id == held.id] == [
            (held.id, True)
        ]
        reply = await worker.settle(Settlement(held.id))
        assert reply.outcome is Outcome.UNKNOWN_WORKER

    async def test_after_so_many_deaths_it_is_a_dead_letter(self, join, kill, broker):
        last = await join(max_deliveries=2)
        await last.commit(new("poison"))
        for suspects, failed in ((1, 0), (0, 1)):
            victim = await join(max_deliveries=2)
            await victim.lease_one()
            assert await kill(victim, last) == (suspects, failed)
        [(payload, reason, deliveries)] = await broker.letters()
        assert (payload, deliveries) == (b"poison", 2)
        assert "2 workers died" in reason
        assert (await last.counts()).is_drained

    async def test_suspect_whose_next_death_is_the_last_comes_alone(self, join, kill):
        last = await join(max_deliveries=2)
        await last.commit(new("poison", "b", "c"))
        victim = await join(max_deliveries=2)
        await victim.lease_one()
        await kill(victim, last)
        [lease] = await last.lease()
        assert (payloads([lease]), lease.alone) == (["poison"], True)
        assert not await last.session.held() - {lease.id}

    async def test_worker_that_holds_something_gets_no_lone_suspect(self, join, kill):
        last = await join(max_deliveries=2)
        await last.commit(new("a", "poison"))
        mine = await last.lease_one()
        victim = await join(max_deliveries=2)
        await victim.lease_one()
        await kill(victim, last)
        answer = await last.ask(leases=5, suspects=5)
        assert not answer.leases
        assert answer.left is not None
        assert answer.left.alone
        await last.settle(Settlement(mine.id))
        assert payloads(await last.lease()) == ["poison"]

    async def test_suspects_come_some_at_a_time(self, join, kill):
        last = await join(max_deliveries=5)
        await last.commit(new(*map(str, range(20))))
        victim = await join(max_deliveries=5)
        assert len(await victim.lease()) == 10
        await kill(victim, last)
        leases = await last.lease(50, suspects=4)
        assert Counter(lease.suspect for lease in leases) == {True: 4, False: 10}

    async def test_dead_worker_is_gone_once(self, join, kill):
        worker, other = await join(), await join()
        await kill(worker, other)
        heartbeat = (await other.ask(heartbeat=True)).heartbeat
        assert heartbeat is not None
        assert (heartbeat.alive, heartbeat.silent) == (1, 0)
        deaths = (await other.ask(reap=True)).deaths
        assert deaths is not None
        assert deaths.ended == 0

    async def test_process_of_another_number_ends_nobody(self, join):
        worker, other = await join(), await join()
        answer = await other.ask(meet=True)
        assert answer.met is not None
        [(number, process)] = answer.met[1]
        assert process == worker.process
        await other.ask(gone=[(number, "999 9")], reap=True)
        heartbeat = (await worker.ask(heartbeat=True)).heartbeat
        assert heartbeat is not None
        assert heartbeat.known

    # Claims

    async def test_claim_is_new_once(self, join):
        worker = await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        answer = await worker.ask(claims=[Claim("x", [page.id]), Claim("y", [])])
        assert answer.claims == [True, True]
        assert (await worker.ask(claims=[Claim("y", [])])).claims == [False]
        assert list((await worker.commit(new("x", "y"))).duplicates) == [0, 1]

    async def test_claim_of_a_start_request_is_of_this_crawl(self, join):
        worker = await join()
        await worker.commit(new("a"))
        for is_new in (True, False):
            answer = await worker.ask(claims=[Claim("a", [], start=1)])
            assert answer.claims == [is_new]

    async def test_claim_is_followed_again_by_who_gets_the_lease(self, join, kill):
        worker = await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        await worker.ask(claims=[Claim("x", [page.id])])
        other = await join()
        await kill(worker, other)
        again = await other.lease_one()
        assert again.id == page.id
        assert (await other.ask(claims=[Claim("x", [page.id])])).claims == [True]
        assert (await other.ask(claims=[Claim("x", [])])).claims == [False]

    async def test_claim_under_a_lease_that_is_lost_marks_nothing(self, join):
        worker, other = await join(), await join()
        await worker.commit(new("page"))
        page = await worker.lease_one()
        assert (await other.ask(claims=[Claim("x", [page.id])])).claims == [True]
        assert not (await worker.commit(new("x"))).duplicates

    # Seeds

    async def test_seeds_are_leased_as_they_were_pushed(self, join, broker):
        worker = await join(seed_keys=[SEEDS])
        await broker.push_seeds(b"http://a/", b'{"url": "http://b/"}')
        answer = await worker.ask(seeds=5)
        assert [(x.payload, x.is_seed) for x in answer.seeds] == [
            (b"http://a/", True),
            (b'{"url": "http://b/"}', True),
        ]
        assert answer.seeds_left == 0
        assert await worker.session.held() == {lease.id for lease in answer.seeds}

    async def test_seeds_are_shared_fairly(self, join, broker):
        worker, other = await join(seed_keys=[SEEDS]), await join(seed_keys=[SEEDS])
        await broker.push_seeds(*(b"%d" % n for n in range(10)))
        answer = await worker.ask(seeds=100)
        assert (len(answer.seeds), answer.seeds_left) == (5, 5)
        assert len((await other.ask(seeds=100)).seeds) == 5

    async def test_equal_seeds_are_all_leased(self, join, broker):
        worker = await join(seed_keys=[SEEDS])
        await broker.push_seeds(b"a", b"a", b"a")
        assert len((await worker.ask(seeds=1)).seeds) == 1
        assert len((await worker.ask(seeds=5)).seeds) == 2

    async def test_seed_that_waits_keeps_the_crawl_from_ending(self, join, broker):
        worker = await join(seed_keys=[SEEDS])
        await broker.push_seeds(b"a")
        counts = await worker.counts()
        assert (counts.seeds, counts.is_drained) == (1, False)

    async def test_released_seed_is_leased_again(self, join, broker):
        worker = await join(seed_keys=[SEEDS])
        await broker.push_seeds(b"a")
        [seed] = (await worker.ask(seeds=1)).seeds
        await worker.ask(releases=[seed.id])
        again = await worker.lease_one()
        assert (again.payload, again.is_seed) == (b"a", True)

    async def test_seed_that_is_too_large_stays_where_it_is(self, join, broker):
        worker = await join(seed_keys=[SEEDS], max_seed=100)
        await broker.push_seeds(b"x" * 1000)
        [seed] = (await worker.ask(seeds=5)).seeds
        assert (seed.too_large, seed.is_seed) == (1000, True)
        await worker.ask(rejects=[Reject(seed.id, "seed", "large")])
        assert [reason for _, reason, _ in await broker.letters()] == ["large"]

    # Heartbeats

    async def test_heartbeat_tells_the_account(self, join):
        worker, _ = await join(), await join()
        await worker.commit(new("a", "b", "c"))
        await worker.lease_one()
        heartbeat = (await worker.ask(heartbeat=True, info="{}")).heartbeat
        assert heartbeat is not None
        assert heartbeat.known
        assert (heartbeat.commit, heartbeat.held) == (1, 1)
        assert (heartbeat.alive, heartbeat.silent) == (2, 0)
        assert not heartbeat.paused
        assert not heartbeat.stop

    async def test_paused_crawl_hands_nothing_out(self, join, broker):
        worker = await join(seed_keys=[SEEDS])
        await worker.commit(new("a"))
        await broker.push_seeds(b"s")
        await broker.pause(True)
        answer = await worker.ask(heartbeat=True, seeds=5, leases=5)
        assert answer.heartbeat is not None
        assert answer.heartbeat.paused
        assert not answer.leases
        assert not answer.seeds
        await broker.pause(False)
        answer = await worker.ask(heartbeat=True, leases=5)
        assert answer.heartbeat is not None
        assert not answer.heartbeat.paused
        assert payloads(answer.leases) == ["a"]

    async def test_one_worker_is_asked_to_stop(self, join, broker):
        worker, other = await join(), await join()
        await broker.stop(worker)
        for each, stop in ((worker, True), (other, False)):
            heartbeat = (await each.ask(heartbeat=True)).heartbeat
            assert heartbeat is not None
            assert heartbeat.stop is stop

    async def test_watching_tells_once_that_something_came(self, join):
        worker, other = await join(), await join()
        told: list[int] = []
        if not await worker.session.watch(lambda: told.append(1)):
            pytest.skip("this broker is polled")
        await other.commit(new("a"))
        for _ in range(1000):
            if told:
                break
            await other.ask(heartbeat=True)
        await other.commit(new("b"))
        assert told == [1]

    async def test_stats_of_all_come_together(self, join, broker):
        worker, other = await join(), await join()
        for each, value in ((worker, "3"), (other, "4")):
            await each.ask(
                stats=[
                    ("inc", "count", value),
                    ("max", "most", value),
                    ("min", "least", value),
                    ("set", "text", value),
                ]
            )
        stats = await broker.stats()
        assert {name: float(value) for name, value in stats.items()} == {
            "count": 7,
            "most": 4,
            "least": 3,
            "text": 4,
        }

    # The end

    async def test_what_is_leased_or_in_hand_keeps_the_crawl_from_ending(self, join):
        worker = await join()
        assert (await worker.counts()).is_drained
        await worker.commit(new("a"))
        assert not (await worker.counts()).is_drained
        lease = await worker.lease_one()
        assert not (await worker.counts()).is_drained
        await worker.ask(heartbeat=True, busy=True)
        await worker.settle(Settlement(lease.id))
        assert not (await worker.counts()).is_drained
        await worker.ask(heartbeat=True, busy=False)
        assert (await worker.counts()).is_drained

    async def test_last_worker_out_of_a_finished_crawl_deletes_it(self, join):
        worker, other = await join(), await join()
        await worker.commit(new("a"))
        lease = await worker.lease_one()
        await worker.settle(Settlement(lease.id))
        assert await worker.leave() is LeaveOutcome.LEFT
        assert await other.leave() is LeaveOutcome.DELETED
        again = await join()
        assert not (await again.commit(new("a"))).duplicates

    async def test_crawl_that_is_kept_is_known_to_the_next_one(self, join):
        worker = await join(persist=True)
        start = NewRequest(b"s", 0, "s", start=1)
        await worker.commit([start, *new("a")])
        for lease in await worker.lease():
            await worker.settle(Settlement(lease.id))
        assert await worker.leave(persist=True) is LeaveOutcome.LEFT
        again = await join(persist=True)
        reply = await again.commit([start, *new("a", "b")])
        assert list(reply.duplicates) == [1]

    async def test_crawl_that_is_not_done_goes_on(self, join):
        worker = await join()
        await worker.commit(new("a"))
        assert await worker.leave(finished=False) is LeaveOutcome.LEFT
        again = await join()
        assert list((await again.commit(new("a"))).duplicates) == [0]
        assert payloads(await again.lease()) == ["a"]

    async def test_first_worker_flushes_an_earlier_crawl(self, join):
        worker = await join()
        await worker.commit(new("a"))
        await worker.leave(finished=False)
        again = await join(flush=True, outcome=JoinOutcome.FLUSHED)
        assert not (await again.commit(new("a"))).duplicates

    async def test_nobody_flushes_what_others_work_on(self, join):
        worker = await join()
        await worker.commit(new("a"))
        other = await join(flush=True, outcome=JoinOutcome.NOT_FLUSHED)
        assert (await other.counts()).pending == 1

    async def test_worker_that_was_started_before_the_end_begins_no_new_crawl(
        self, join
    ):
        worker = await join()
        await worker.commit(new("a"))
        lease = await worker.lease_one()
        await worker.settle(Settlement(lease.id))
        await worker.leave()
        await join(age=3600.0, outcome=JoinOutcome.LATE)
        late = await join()
        assert (await late.counts()).pending == 0

    async def test_worker_that_was_cut_off_while_the_others_finished_misses_the_end(
        self, join, broker
    ):
        worker, other = await join(), await join()
        await broker.roll_back()
        joined = await other.session.join(
            "x", commit=0, flush=False, persist=False, age=0
        )
        assert joined.outcome is JoinOutcome.JOINED
        assert await other.leave() is LeaveOutcome.DELETED
        joined = await worker.session.join(
            "x", commit=0, flush=False, persist=False, age=0
        )
        assert joined.outcome is JoinOutcome.MISSED

    async def test_worker_that_holds_what_it_does_not_know_leaves_it_to_others(
        self, join
    ):
        worker, other = await join(), await join()
        await worker.commit(new("a"))
        lease = await worker.lease_one()
        assert await worker.leave(finished=False) is LeaveOutcome.LEFT
        await other.ask(reap=True)
        again = await other.lease_one()
        assert (again.id, again.suspect) == (lease.id, True)
