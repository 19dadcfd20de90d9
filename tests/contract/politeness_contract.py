"""What every broker does in a polite crawl: who may ask which slot, and when.

For a test class that is a `FrontierContract`, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from scrapy_dist.core.frontier import Answer, Settlement
from scrapy_dist.core.politeness import (
    Grant,
    Granted,
    Manners,
    Renewal,
    Rules,
    Visit,
    Yield,
)
from tests.contract.frontier_contract import Worker, many, new, payloads

#: Of all slots, where a test says nothing else: a delay, and places.
DELAY, PLACES = Rules(2.0, 8), Rules(0.0, 8)


async def ask(
    worker: Worker,
    want: int = 100,
    *,
    rules: Rules = DELAY,
    renew: Sequence[tuple[Any, ...]] = (),
    suspects: int = 8,
    portion: int = 8,
    **more: Any,
) -> Answer:
    renewals = [Renewal(*each) for each in renew]
    manners = Manners(rules, portion=portion, renewals=renewals)
    return await worker.ask(leases=want, suspects=suspects, manners=manners, **more)


async def lease(worker: Worker, want: int = 100, **options: Any) -> list[str]:
    """The payloads of what *worker* is handed."""
    return payloads((await ask(worker, want, **options)).leases)


async def granted(worker: Worker, want: int = 100, **options: Any) -> Granted:
    found = (await ask(worker, want, **options)).granted
    assert found is not None
    return found


async def visit(worker: Worker, slot: int, rules: Rules = DELAY) -> Visit:
    [found] = (await worker.ask(manners=Manners(rules), visits=[slot])).visits
    return found


async def give_back(worker: Worker, name: str, rest: float = 0.0, **more: Any) -> None:
    await worker.ask(yields=[Yield(name, rest, **more)])


def names(grants: Sequence[Grant]) -> list[str]:
    return [grant.name for grant in grants]


class PolitenessContract:
    """See `FrontierContract`, whose fixtures it needs."""

    # Slots with a delay

    async def test_slot_with_a_delay_has_one_owner(self, join):
        first, second = await join(), await join()
        await first.commit(many(4, 7))
        found = await granted(first)
        # For the starts of the next 0.3 s.
        assert list(found.grants) == [Grant("7", DELAY, 1)]
        assert await first.session.seats() == {"7"}
        found = await granted(second)
        assert list(found.grants) == []
        assert (found.ready, found.wait) == (0, None)
        assert await second.session.seats() == set()

    async def test_leases_come_in_the_order_of_the_grants(self, join):
        worker = await join()
        await worker.commit([*many(3, 7), *many(3, 8), *many(1, 9)])
        answer = await ask(worker, rules=Rules(0.1, 8))
        slots = [lease.slot for lease in answer.leases]
        assert answer.granted is not None
        assert slots == [
            grant.slot for grant in answer.granted.grants for _ in range(grant.leases)
        ]
        assert sorted(slots) == [7, 7, 7, 8, 8, 8, 9]

    async def test_grant_is_a_portion_at_the_most(self, join):
        worker = await join()
        await worker.commit(many(9, 7))
        assert len(await lease(worker, rules=Rules(0.001, 8), portion=5)) == 5
        assert len(await lease(worker, 2, renew=[("7", 9)])) == 2
        assert len(await lease(worker, renew=[("7", 9)])) == 2

    async def test_owner_goes_on_by_renewals_only(self, join):
        worker = await join()
        await worker.commit(many(3, 7))
        assert await lease(worker) == ["7 0"]
        assert await lease(worker) == []
        answer = await ask(worker, renew=[("7", 5)])
        assert payloads(answer.leases) == ["7 1", "7 2"]
        assert answer.granted is not None
        assert list(answer.granted.grants) == [Grant("7", DELAY, 2)]
        found = await granted(worker, renew=[("7", 5)])
        assert list(found.grants) == [Grant("7", DELAY, 0)]
        assert await worker.session.seats() == {"7"}

    async def test_seat_that_is_given_back_may_be_taken_when_it_has_rested(
        self, join, broker
    ):
        first, second = await join(), await join()
        await first.commit(many(2, 7))
        await lease(first)
        await give_back(first, "7", 1.5)
        assert await first.session.seats() == set()
        for worker in (first, second):
            found = await granted(worker)
            assert list(found.grants) == []
            assert found.wait is not None
            assert 0 < found.wait <= 1.5
        await broker.pass_time(1.6)
        assert await lease(second) == ["7 1"]

    async def test_emptied_slot_rests_too(self, join, broker):
        first, second = await join(), await join()
        await first.commit(many(1, 7))
        await lease(first)
        await give_back(first, "7", 1.5)
        await second.commit(new("late", slot=7))
        assert await lease(second) == []
        assert not (await visit(second, 7)).granted
        await broker.pass_time(1.6)
        assert await lease(second) == ["late"]

    async def test_only_its_owner_gives_a_seat_back(self, join):
        first, second = await join(), await join()
        await first.commit(many(2, 7))
        await lease(first)
        await give_back(second, "7")
        assert await lease(second) == []
        assert await first.session.seats() == {"7"}

    async def test_seat_that_is_not_its_own_is_taken_away_from_who_renews_it(
        self, join
    ):
        first, second = await join(), await join()
        await first.commit(many(2, 7))
        await lease(first)
        found = await granted(second, renew=[("7", 5), ("8", 5)])
        assert list(found.taken) == ["7", "8"]
        assert list(found.grants) == []

    # Rules

    async def test_rules_come_with_a_seat_that_is_given_back(self, join):
        worker = await join()
        await worker.commit([*many(3, 7), *many(3, 8)])
        await lease(worker)
        await give_back(worker, "7", rules=Rules(0.25, 4))
        found = await granted(worker, renew=[("8", 1)])
        assert list(found.grants) == [
            Grant("8", DELAY, 1),
            Grant("7", Rules(0.25, 4), 2),
        ]

    async def test_delay_that_was_learned_leaves_the_places(self, join):
        worker = await join()
        for slot in (7, 8):
            await worker.commit(many(2, slot))
        await worker.session.set_rules({7: Rules(2.0, 3)})
        while len(await worker.session.seats()) < 2:
            await lease(worker, portion=1)
        for name in ("7", "8"):
            await give_back(worker, name, rules=Rules(0.5, 0))
        found = await granted(worker, portion=1)
        assert {grant.name: grant.rules for grant in found.grants} == {
            "7": Rules(0.5, 3),
            "8": Rules(0.5, 8),
        }

    async def test_slots_have_rules_of_their_own(self, join):
        worker = await join()
        await worker.session.set_rules({7: Rules(0.0, 3), 8: Rules(0.5, 1)})
        await worker.commit([*many(1, 7), *many(1, 8), *many(1, 9)])
        found = await granted(worker)
        assert {grant.slot: grant.rules for grant in found.grants} == {
            7: Rules(0.0, 1),
            8: Rules(0.5, 1),
            9: DELAY,
        }

    async def test_new_rules_hold_from_the_next_renewal_on(self, join):
        worker = await join()
        await worker.commit(many(3, 7))
        await lease(worker)
        await worker.session.set_rules({7: Rules(5.0, 1)})
        found = await granted(worker, renew=[("7", 1)])
        assert [grant.rules for grant in found.grants] == [Rules(5.0, 1)]

    async def test_new_delay_brings_all_places_when_the_old_seats_are_back(self, join):
        first, second = await join(), await join()
        await first.commit(many(20, 7))
        for worker in (first, second):
            await lease(worker, rules=Rules(0.0, 3), portion=1)
        await first.session.set_rules({7: Rules(5.0, 4)})
        found = await granted(first, renew=[("7", 1)])
        assert [grant.rules for grant in found.grants] == [Rules(5.0, 1)]
        found = await granted(second, renew=[("7.1", 1)])
        assert list(found.wanted) == ["7.1"]
        await give_back(second, "7.1")
        found = await granted(first, renew=[("7", 1)])
        assert [grant.rules for grant in found.grants] == [Rules(5.0, 4)]

    async def test_places_are_not_shared_while_downloads_of_the_delay_are_under_way(
        self, join
    ):
        first, second = await join(), await join()
        await first.commit(many(20, 7))
        await lease(first, rules=Rules(5.0, 4), portion=1)
        await first.session.set_rules({7: Rules(0.0, 4)})
        for under_way in (4, 3):  # what it goes by, and what it has
            found = await granted(first, renew=[("7", 1, under_way)])
            assert [grant.rules for grant in found.grants] == [Rules(0.0, 1)]
            assert await lease(second, portion=1) == []
        await granted(first, 1, renew=[("7", 1, 1)])
        found = await granted(second, portion=1)
        assert names(found.grants)[0] == "7.1"

    async def test_free_seats_of_a_time_without_a_delay_are_closed_by_one(self, join):
        first, second = await join(), await join()
        await first.commit(many(20, 7))
        for worker in (first, second):
            await lease(worker, rules=PLACES, portion=1)
        for name in sorted(await second.session.seats()):
            await give_back(second, name)
        await granted(first, 1, renew=[("7", 1, 1)])
        await first.session.set_rules({7: PLACES})
        assert await lease(second, portion=1) == []

    async def test_who_has_no_slot_gets_some_of_those_who_have_more(self, join):
        first, second = await join(), await join()
        for slot in range(1, 5):
            await first.commit(many(4, slot))
        while len(await first.session.seats()) < 4:
            await lease(first)
        mine = [(str(slot), 1, 8) for slot in range(1, 5)]
        assert (await granted(first, renew=mine)).ready == 0
        assert await lease(second) == []
        assert (await granted(first, renew=mine)).ready == 1
        await give_back(first, "1")
        assert names((await granted(first)).grants) == []
        assert names((await granted(second)).grants) == ["1"]

    # Slots without a delay

    async def test_seats_share_the_places_of_a_slot_without_a_delay(self, join):
        workers = [await join() for _ in range(10)]
        await workers[0].commit(many(40, 7))
        found = [await granted(one, rules=PLACES, portion=1) for one in workers]
        assert [names(each.grants) for each in found[:8]] == [
            ["7"],
            *([f"7.{n}"] for n in range(1, 8)),
        ]
        assert sum(g.rules.places for each in found for g in each.grants) == 8
        assert [names(each.grants) for each in found[8:]] == [[], []]

    async def test_slots_without_a_delay_share_what_is_wanted(self, join):
        worker = await join()
        for slot in (7, 8, 9):
            await worker.commit(many(10, slot))
        found = await granted(worker, 10, rules=PLACES, portion=16)
        assert sorted(grant.leases for grant in found.grants) == [3, 3, 4]

    async def test_places_of_a_slot_are_in_use_with_the_second_answer(self, join):
        worker = await join()
        await worker.commit(many(40, 7))
        await lease(worker, 16, rules=PLACES)
        found = await granted(worker, 16, rules=PLACES)
        assert sorted(names(found.grants)) == [f"7.{n}" for n in range(1, 8)]
        assert sum(grant.leases for grant in found.grants) == 16

    async def test_no_more_seats_are_opened_than_requests_wait(self, join):
        first, second = await join(), await join()
        await first.commit(many(3, 7))
        await lease(first, 1, rules=PLACES)
        found = await granted(second, rules=PLACES, portion=1)
        assert (names(found.grants), found.ready) == (["7.1"], 1)

    async def test_slot_has_no_more_seats_than_places(self, join):
        workers = [await join() for _ in range(4)]
        await workers[0].commit(many(40, 7))
        rules = Rules(0.0, 3)
        found = [await granted(one, rules=rules, portion=1) for one in workers]
        assert [names(each.grants) for each in found] == [["7"], ["7.1"], ["7.2"], []]
        assert [g.rules.places for each in found for g in each.grants] == [1, 1, 1]

    async def test_places_that_do_not_divide_are_all_given(self, join):
        workers = [await join() for _ in range(8)]
        await workers[0].commit(many(40, 7))
        found = [await granted(w, rules=Rules(0.0, 11), portion=1) for w in workers]
        places = [grant.rules.places for each in found for grant in each.grants]
        assert places == [2, 2, 2, 1, 1, 1, 1, 1]

    async def test_seats_that_are_too_many_are_to_be_given_back(self, join):
        first, second = await join(), await join()
        await first.commit(many(9, 7))
        await lease(first, rules=PLACES, portion=1)
        await lease(second, rules=PLACES, portion=1)
        await first.session.set_rules({7: Rules(2.0, 8)})
        found = await granted(second, renew=[("7.1", 1)])
        assert (list(found.wanted), list(found.grants)) == (["7.1"], [])
        await give_back(second, "7.1")
        assert await lease(second) == []

    # Visits

    async def test_visit_gets_a_slot_that_nobody_has(self, join):
        first, second = await join(), await join()
        assert await visit(first, 7) == Visit(True, 0.0, DELAY)
        assert await first.session.seats() == {"7"}
        assert await visit(first, 7) == Visit(True, 0.0, DELAY)
        assert await visit(second, 7) == Visit(False, None, DELAY)
        await first.commit(many(1, 7))
        assert await lease(second) == []

    async def test_visitor_waits_for_the_delay(self, join, broker):
        worker = await join()
        await visit(worker, 7)
        await give_back(worker, "7", 1.5)
        found = await visit(worker, 7)
        assert not found.granted
        assert found.wait is not None
        assert 0 < found.wait <= 1.5
        await broker.pass_time(1.6)
        assert (await visit(worker, 7)).granted

    async def test_owner_gives_back_what_a_visitor_waits_for(self, join):
        owner, visitor, other = await join(), await join(), await join()
        await owner.commit(many(5, 7))
        await lease(owner)
        assert not (await visit(visitor, 7)).granted
        found = await granted(owner, renew=[("7", 5)])
        assert (list(found.wanted), list(found.grants)) == (["7"], [])
        await give_back(owner, "7")
        assert await lease(other) == []
        assert await lease(owner) == []
        assert not (await visit(other, 7)).granted
        assert (await visit(visitor, 7)).granted

    async def test_visitor_that_does_not_come_back_is_not_waited_for(
        self, join, broker
    ):
        owner, visitor = await join(), await join()
        await owner.commit(many(5, 7))
        await lease(owner)
        await visit(visitor, 7)
        await give_back(owner, "7")
        assert await lease(owner) == []
        await broker.pass_time(2.1)
        assert await lease(owner) == ["7 1"]
        assert await broker.wishes()
        await give_back(owner, "7")
        assert not await broker.wishes()

    async def test_visitor_that_comes_back_is_not_forgotten(self, join, broker):
        owner, visitor = await join(), await join()
        await owner.commit(many(5, 7))
        await lease(owner)
        await visit(visitor, 7)
        await broker.pass_time(1.9)
        await visit(visitor, 7)
        await broker.pass_time(1.9)
        await give_back(owner, "7")
        assert await lease(owner) == []
        assert (await visit(visitor, 7)).granted
        assert not await broker.wishes()

    # What people do

    async def test_delays_outlast_requests_that_are_cleared(self, join, broker):
        first, second = await join(), await join()
        await first.commit([*many(2, 7), *many(2, 8)])
        await lease(first)
        await lease(first)
        assert await first.session.seats() == {"7", "8"}
        await give_back(first, "7", 1.5)
        await broker.clear("requests")
        again = [*new("seven", slot=7), *new("eight", slot=8), *new("nine", slot=9)]
        await second.commit(again)
        assert await lease(second) == ["nine"]
        assert await first.session.seats() == {"8"}
        await give_back(first, "8")
        await broker.pass_time(1.6)
        assert sorted([*await lease(second), *await lease(second)]) == [
            "eight",
            "seven",
        ]

    # Deaths

    async def test_slot_of_a_dead_worker_may_be_asked_when_its_delay_is_over(
        self, join, kill, broker
    ):
        first, second = await join(), await join()
        await first.commit(many(2, 7))
        await lease(first)
        await lease(second)
        await kill(first, second)
        assert await lease(second) == []
        await broker.pass_time(0.5)
        assert await lease(second) == []
        await broker.pass_time(1.6)
        # What it died with comes first, and with its slot.
        answer = await ask(second)
        assert payloads(answer.leases) == ["7 0"]
        assert answer.granted is not None
        assert list(answer.granted.grants) == [Grant("7", DELAY, 1)]
        assert await lease(second, renew=[("7", 1)]) == ["7 1"]

    async def test_who_has_asked_for_nothing_lets_the_slots_of_the_dead_rest(
        self, join, kill, broker
    ):
        first, second = await join(), await join()
        await first.commit(many(2, 7))
        await lease(first)
        await kill(first, second, manners=Manners(DELAY))
        await broker.pass_time(0.5)
        assert await lease(second) == []
        await broker.pass_time(1.6)
        assert await lease(second) == ["7 0"]

    async def test_seats_of_a_dead_worker_come_back(self, join, kill):
        first, second = await join(), await join()
        await first.commit(many(20, 7))
        await lease(first, rules=PLACES, portion=1)
        await lease(second, rules=PLACES, portion=1)
        await kill(first, second)
        answer = await ask(second, rules=PLACES, portion=1)
        assert payloads(answer.leases)[0] == "7 0"
        assert await second.session.seats() >= {"7", "7.1"}

    async def test_suspects_wait_for_their_slots(self, join, kill, broker):
        first, second, third = await join(), await join(), await join()
        await first.commit([*many(1, 7), *many(1, 8)])
        assert await lease(first) == ["7 0"]
        assert await lease(first) == ["8 0"]
        await kill(first, third)
        await broker.pass_time(2.1)
        assert (await visit(second, 7)).granted
        assert await lease(third) == ["8 0"]
        # Who has the slot gets its suspect.
        answer = await ask(second)
        assert [(x.payload, x.suspect) for x in answer.leases] == [(b"7 0", True)]

    async def test_suspects_behind_many_that_wait_are_found(self, join, kill):
        first, second, third = await join(), await join(), await join()
        await first.session.set_rules({7: Rules(0.0, 1)})
        await first.commit([*many(70, 7), *many(1, 8)])
        for _ in range(2):  # a third of the slots each
            await ask(first, rules=PLACES, portion=70, renew=[("7", 70)])
        assert (await first.ask(heartbeat=True)).heartbeat.held == 71
        await kill(first, third)
        assert (await visit(second, 7)).granted
        assert await lease(third, rules=PLACES) == ["8 0"]

    async def test_worker_may_leave_with_seats(self, join, broker):
        first, second = await join(), await join()
        await first.commit(many(2, 7))
        answer = await ask(first)
        await first.settle(*(Settlement(x.id) for x in answer.leases))
        await first.leave()
        assert await lease(second) == []
        await broker.pass_time(2.1)
        assert await lease(second) == ["7 1"]

    async def test_paused_crawl_grants_nothing_and_seats_stay(self, join, broker):
        worker = await join()
        await worker.commit([*many(3, 7), *many(3, 8)])
        await lease(worker, 1)
        await broker.pause(True)
        found = await granted(worker, renew=[("7", 5)])
        assert [(grant.name, grant.leases) for grant in found.grants] == [("7", 0)]
        await broker.pause(False)
        assert sorted(await lease(worker, renew=[("7", 1)])) == ["7 1", "8 0"]

    # Shares and time

    async def test_slots_are_shared_between_those_that_are_alive(self, join):
        first, second = await join(), await join()
        await first.commit(new(*"abcd", slot=1))
        await first.commit([new(f"{n}", slot=n)[0] for n in range(10, 19)])
        assert len((await granted(first)).grants) == 5
        found = await granted(second)
        assert len(found.grants) == 3
        assert found.ready == 2

    async def test_unknown_worker_is_granted_nothing(self, join, broker):
        worker = await join()
        await worker.commit(many(1, 7))
        await broker.roll_back()
        answer = await ask(worker, visits=[7])
        assert not answer.leases
        assert [each.granted for each in answer.visits] == [False]
        assert await worker.session.seats() == set()

    async def test_slots_whose_turn_was_longer_ago_come_first(self, join, broker):
        worker = await join()
        await worker.commit([*many(2, 7), *many(2, 8)])
        assert await lease(worker, 1) == ["7 0"]
        await asyncio.sleep(0.005)  # turns are ordered by ms
        await give_back(worker, "7")
        await broker.pass_time(0.1)
        assert await lease(worker, 1) == ["8 0"]
        await asyncio.sleep(0.005)
        await give_back(worker, "8")
        assert await lease(worker, 1) == ["7 1"]

    async def test_large_answer_leaves_the_rest_for_the_next(self, join):
        worker = await join()
        size = 1 << 20
        big = [new(f"{n}".rjust(size - 100), slot=n)[0] for n in range(8)]
        await worker.commit(big)
        found: list[str] = []
        for _ in range(8):
            found += await lease(worker)
        assert sorted(name.strip() for name in found) == [*"01234567"]
