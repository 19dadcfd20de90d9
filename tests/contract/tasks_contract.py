"""What every broker does with tasks: their end is exact, whatever happens to workers.

A test class of a broker inherits `TasksContract` beside `FrontierContract`. Its broker has
an attribute ``tasks``: `core.ports.Tasks` of the crawl, and puts dead letters back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from scrapy_dist.core.frontier import (
    ChainLink,
    Claim,
    Commit,
    End,
    Lease,
    LeaveOutcome,
    NewRequest,
    Outcome,
    Reject,
    Settlement,
)
from scrapy_dist.core.politeness import Manners, Rules
from scrapy_dist.core.tasks import (
    Batch,
    Begin,
    Beginning,
    NewTask,
    OnDuplicate,
    Run,
    Submission,
    Task,
    TaskState,
)
from tests.contract.frontier_contract import ITEMS, SEEDS, Worker, payloads

if TYPE_CHECKING:
    from scrapy_dist.core.ports import Tasks

#: A key of seeds that no worker of the contract reads.
UNREAD = "s:more_urls"


class Broker(Protocol):
    """What the tests need of a broker beside `frontier_contract.Broker`."""

    tasks: Tasks

    async def push_seeds(self, *seeds: bytes) -> None: ...
    async def retry(self) -> None:
        """Put all dead letters back."""

    async def letters(self) -> list[tuple[bytes, str, int]]: ...


def token(number: int) -> str:
    return f"{number:016x}"


def seed_of(id_: str, name: str, batch: str = "") -> bytes:
    fields = {"url": "http://a/", "id": id_, "batch": batch, "task": name}
    return json.dumps({k: v for k, v in fields.items() if v}).encode()


def new_task(id_: str, name: str, batch: str = "") -> NewTask:
    return NewTask(id_, name, seed_of(id_, name, batch), batch=batch)


def child(name: str, task: str) -> NewRequest:
    return NewRequest(name.encode(), 0, name, task=task)


def shown(task: Task | None) -> tuple[str, int, int, int, int]:
    """State, open, done, failed, items."""
    assert task is not None
    return (task.state.value, task.open, task.done, task.failed, task.items)


class TasksContract:
    """Inherit it, too; see `FrontierContract`."""

    @pytest.fixture
    def submit(self, broker: Broker) -> Any:
        async def submit(
            *tasks: NewTask,
            key: str = SEEDS,
            on_duplicate: OnDuplicate = OnDuplicate.REFUSE,
        ) -> list[Submission]:
            return await broker.tasks.submit(
                tasks, key=key, kind="list", on_duplicate=on_duplicate
            )

        return submit

    @pytest.fixture
    def look(self, broker: Broker) -> Any:
        """``await look(id)``: the task, shown."""

        async def look(id_: str = "t") -> Any:
            [task] = await broker.tasks.tasks_of([id_])
            return None if task is None else shown(task)

        return look

    @pytest.fixture
    def seed(self, broker: Broker, submit: Any) -> Any:
        """``await seed(worker)``: the lease of a submitted task's seed, not begun."""

        async def seed(worker: Worker, id_: str = "t", batch: str = "") -> Lease:
            name = token(len(id_))
            assert await submit(new_task(id_, name, batch)) == [Submission.SUBMITTED]
            [lease] = (await worker.ask(seeds=1)).seeds
            return lease

        return seed

    @pytest.fixture
    def run(self, seed: Any) -> Any:
        """``await run(worker)``: the lease of a task's first page, which has begun."""

        async def run(worker: Worker, id_: str = "t", batch: str = "") -> Lease:
            lease = await seed(worker, id_, batch)
            name = token(len(id_))
            begin = Begin(lease.id, id_, name, batch)
            assert await begins(worker, begin) == [Beginning.BEGUN]
            return replace(lease, task=name)

        return run

    # Their way

    async def test_a_task_is_queued_then_runs_then_is_done(self, broker, join, seed):
        worker = await join(seed_keys=[SEEDS])
        lease = await seed(worker, batch="b")
        [queued] = await broker.tasks.tasks_of(["t"])

        assert shown(queued) == ("queued", 1, 0, 0, 0)
        assert (queued.id, queued.batch, queued.token) == ("t", "b", token(1))
        assert (queued.started_ms, queued.ended_ms, queued.worker) == (0, 0, "")
        assert lease.task == ""
        assert json.loads(lease.payload)["id"] == "t"

        await begins(worker, Begin(lease.id, "t", token(1), "b"))
        [running] = await broker.tasks.tasks_of(["t"])
        assert shown(running) == ("running", 1, 0, 0, 0)
        assert running.worker == f"host:{worker.process}"
        assert 0 < queued.submitted_ms == running.submitted_ms <= running.started_ms

        await worker.settle(Settlement(lease.id, task=token(1)))
        [done] = await broker.tasks.tasks_of(["t"])
        assert shown(done) == ("done", 0, 1, 0, 0)
        assert running.started_ms == done.started_ms <= done.ended_ms
        assert done.reason == ""

    async def test_a_raw_seed_with_an_id_is_a_task_when_it_begins(
        self, broker, join, look
    ):
        worker = await join(seed_keys=[SEEDS])
        await broker.push_seeds(b'{"url": "http://a/", "id": "t", "batch": "b"}')
        [lease] = (await worker.ask(seeds=1)).seeds
        assert await look() is None

        begin = Begin(lease.id, "t", token(9), "b", is_new=True)
        assert await begins(worker, begin) == [Beginning.BEGUN]
        assert await look() == ("running", 1, 0, 0, 0)
        await worker.settle(Settlement(lease.id, task=token(9)))
        assert await look() == ("done", 0, 1, 0, 0)
        assert (await broker.tasks.batch("b")).done == 1

    async def test_to_begin_may_be_asked_again(self, broker, join, seed, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await seed(worker)
        await broker.push_seeds(b"raw")
        [raw] = (await worker.ask(seeds=1)).seeds
        for _ in range(3):
            found = await begins(
                worker,
                Begin(lease.id, "t", token(1)),
                Begin(raw.id, "raw", token(9), is_new=True),
            )
            assert found == [Beginning.BEGUN, Beginning.BEGUN]
        assert await look() == await look("raw") == ("running", 1, 0, 0, 0)

    async def test_only_who_holds_the_lease_begins(self, join, seed, look):
        worker, other = await join(seed_keys=[SEEDS]), await join(seed_keys=[SEEDS])
        lease = await seed(worker)

        begin = Begin(lease.id, "t", token(1))
        assert await begins(other, begin) == [Beginning.NOT_OWNED]
        assert await look() == ("queued", 1, 0, 0, 0)

    async def test_a_second_seed_of_a_living_id_is_refused(
        self, broker, join, run, look
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await broker.push_seeds(b"again")
        [again] = (await worker.ask(seeds=1)).seeds
        begin = Begin(again.id, "t", token(9), is_new=True)

        assert await begins(worker, begin) == [Beginning.REFUSED]
        await worker.ask(rejects=[Reject(again.id, "seed", "it is still running")])
        assert await look() == ("running", 1, 0, 0, 0)
        await worker.settle(Settlement(lease.id, task=token(1)))
        assert await look() == ("done", 0, 1, 0, 0)

    async def test_an_id_may_be_used_again_when_its_task_has_ended(
        self, broker, join, run, submit, look
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.settle(Settlement(lease.id, task=token(1)))

        assert await submit(new_task("t", token(9))) == [Submission.SUBMITTED]
        assert await look() == ("queued", 1, 0, 0, 0)
        [task] = await broker.tasks.tasks_of(["t"])
        assert task.token == token(9)

    async def test_a_record_that_was_lost_is_made_anew(self, broker, join, look):
        worker = await join(seed_keys=[SEEDS])
        await broker.push_seeds(seed_of("t", token(1)))
        [lease] = (await worker.ask(seeds=1)).seeds

        begin = Begin(lease.id, "t", token(1))
        assert await begins(worker, begin) == [Beginning.BEGUN]
        assert await look() == ("running", 1, 0, 0, 0)

    async def test_two_copies_of_a_seed_are_one_task(self, broker, join, look):
        worker = await join(seed_keys=[SEEDS])
        await broker.push_seeds(seed_of("t", token(1)), seed_of("t", token(1)))
        leases = [
            *(await worker.ask(seeds=2)).seeds,
            *(await worker.ask(seeds=2)).seeds,
        ]
        found = await begins(worker, *(Begin(x.id, "t", token(1)) for x in leases))
        assert found == [Beginning.BEGUN, Beginning.BEGUN]
        assert await look() == ("running", 2, 0, 0, 0)
        await worker.settle(Settlement(leases[0].id, task=token(1)))
        assert await look() == ("running", 1, 1, 0, 0)
        await worker.settle(Settlement(leases[1].id, task=token(1)))
        assert await look() == ("done", 0, 2, 0, 0)

    # What counts

    async def test_children_keep_it_open_and_duplicates_do_not(self, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        new = [child(name, lease.task) for name in ("a", "b", "a")]
        reply = await worker.commit(new)
        assert list(reply.duplicates) == [2]
        assert await look() == ("running", 3, 0, 0, 0)
        await worker.settle(
            Settlement(lease.id, [NewRequest(b"c", 0)], task=lease.task)
        )
        assert await look() == ("running", 3, 1, 0, 0)

        leases = await worker.lease()
        assert payloads(leases) == ["a", "b", "c"]
        assert {each.task for each in leases} == {lease.task}
        for left, each in zip((2, 1), leases, strict=False):
            await worker.settle(Settlement(each.id, task=each.task))
            assert (await look())[:2] == ("running", left)
        await worker.settle(Settlement(leases[2].id, task=lease.task))
        assert await look() == ("done", 0, 4, 0, 0)

    async def test_a_commit_that_is_repeated_counts_once(self, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        page = Settlement(lease.id, items=[(ITEMS, b"i")], task=lease.task)
        commit = Commit(1, [child("a", lease.task)], settlements=[page])
        for outcome in (Outcome.STORED, Outcome.REPEATED):
            [reply] = (await worker.ask(commits=[commit])).commits
            assert reply.outcome is outcome
            assert await look() == ("running", 1, 1, 0, 1)

    async def test_a_seed_that_became_requests_is_no_page(self, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        new = [NewRequest(b"a", 0), NewRequest(b"b", 0)]
        await worker.settle(Settlement(lease.id, new, counts=False, task=lease.task))
        assert await look() == ("running", 2, 0, 0, 0)

    async def test_parts_that_go_ahead_count_with_what_follows(self, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        part = Settlement(
            lease.id, [NewRequest(b"a", 0)], [(ITEMS, b"1")], End.OPEN, task=lease.task
        )
        await worker.settle(part)
        assert await look() == ("running", 2, 0, 0, 1)
        await worker.settle(
            Settlement(lease.id, items=[(ITEMS, b"2")], task=lease.task)
        )
        assert await look() == ("running", 1, 1, 0, 2)

    async def test_hops_that_ran_ahead_are_pages(self, broker, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        chain = [
            ChainLink("a"),
            ChainLink("b", is_page=False),
            ChainLink("c", "HTTP 500", b"c"),
            ChainLink("d"),
        ]
        await worker.commit([child("e", lease.task)])
        await worker.settle(Settlement(lease.id, chain=chain, task=lease.task))

        assert await look() == ("running", 1, 3, 1, 0)
        last = await worker.lease_one()
        await worker.settle(Settlement(last.id, task=last.task))
        assert await look() == ("failed", 0, 4, 1, 0)
        [task] = await broker.tasks.tasks_of(["t"])
        assert task.reason == "HTTP 500"

    async def test_a_request_of_an_unknown_task_is_crawled_and_counted_nowhere(
        self, broker, join
    ):
        worker = await join()
        await worker.commit([child("a", token(77))])
        lease = await worker.lease_one()
        await worker.settle(
            Settlement(lease.id, items=[(ITEMS, b"i")], task=lease.task)
        )
        assert [task async for some in broker.tasks.tasks() for task in some] == []
        assert (await worker.counts()).is_drained

    # Failures

    async def test_a_dead_letter_fails_it_when_all_is_over(
        self, broker, join, run, look
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.commit([child("a", lease.task)])
        await worker.settle(Settlement(lease.id, task=lease.task))
        page = await worker.lease_one()
        await worker.settle(
            Settlement(page.id, end=End.FAILED, reason="HTTP 404\nbad", task=page.task)
        )

        assert await look() == ("failed", 0, 1, 1, 0)
        [task] = await broker.tasks.tasks_of(["t"])
        assert task.reason == "HTTP 404 bad"
        [(payload, _, _)] = await broker.letters()
        assert payload == b"a"

    async def test_a_letter_that_is_put_back_opens_it_again(
        self, broker, join, run, look
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.commit([child("a", lease.task)])
        await worker.settle(Settlement(lease.id, task=lease.task))
        page = await worker.lease_one()
        await worker.ask(rejects=[Reject(page.id, "request", "cannot be read")])
        assert await look() == ("failed", 0, 1, 1, 0)

        await broker.retry()
        assert await look() == ("running", 1, 1, 0, 0)
        [task] = await broker.tasks.tasks_of(["t"])
        assert task.ended_ms == 0
        page = await worker.lease_one()
        assert (page.payload, page.task) == (b"a", lease.task)
        await worker.settle(Settlement(page.id, task=page.task))
        assert await look() == ("done", 0, 2, 0, 0)

    async def test_the_seed_itself_may_fail_and_come_back(
        self, broker, join, run, look
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.ask(rejects=[Reject(lease.id, "seed", "no good")])
        assert await look() == ("failed", 0, 0, 1, 0)

        await broker.retry()
        assert await look() == ("running", 1, 0, 0, 0)
        again = await take(worker)
        assert json.loads(again.payload)["task"] == lease.task
        if not again.task:  # it came as it was submitted
            begin = Begin(again.id, "t", lease.task)
            assert await begins(worker, begin) == [Beginning.BEGUN]
        await worker.settle(Settlement(again.id, task=lease.task))
        assert await look() == ("done", 0, 1, 0, 0)

    @pytest.mark.parametrize("is_cancelled", [False, True])
    async def test_a_seed_may_fail_before_it_begins(
        self, broker, join, seed, look, is_cancelled
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await seed(worker)
        if is_cancelled:
            await broker.tasks.cancel(["t"])
        await worker.ask(rejects=[Reject(lease.id, "seed", "too large")])
        state = "cancelled" if is_cancelled else "failed"
        assert await look() == (state, 0, 0, 1, 0)

        await broker.retry()
        again = await take(worker)
        if not again.task:  # it came as it was submitted
            begin = Begin(again.id, "t", token(1))
            assert await begins(worker, begin) == [Beginning.BEGUN]
        await worker.settle(Settlement(again.id, task=token(1)))
        assert await look() == ("done", 0, 1, 0, 0)
        assert (await broker.tasks.tasks_of(["t"]))[0].seconds is not None

    async def test_what_finds_no_room_among_the_dead_letters_is_still_open(
        self, broker, join, run, look
    ):
        worker = await join(seed_keys=[SEEDS], failed_limit=1)
        lease = await run(worker)
        await worker.commit([child("a", lease.task), child("b", lease.task)])
        await worker.settle(Settlement(lease.id, task=lease.task))
        for page in await worker.lease():
            end = Settlement(page.id, end=End.FAILED, reason="bad", task=page.task)
            await worker.settle(end)
        assert await look() == ("running", 1, 1, 1, 0)

        await broker.retry()
        await worker.ask(readmit=True)
        for page in await worker.lease():
            assert page.task == lease.task
            await worker.settle(Settlement(page.id, task=page.task))
        for page in await worker.lease():
            await worker.settle(Settlement(page.id, task=page.task))
        assert await look() == ("done", 0, 3, 0, 0)

    # Workers come and go

    async def test_a_death_in_the_middle_counts_nothing_twice(
        self, join, kill, run, look
    ):
        worker, other = await join(seed_keys=[SEEDS]), await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.commit([child("a", lease.task), child("b", lease.task)])
        await kill(worker, other)
        assert await look() == ("running", 3, 0, 0, 0)

        again = await take(other)
        while again.payload[:1] != b"{":
            await other.settle(Settlement(again.id, task=again.task))
            again = await take(other)
        assert (again.task, again.is_seed) == (lease.task, True)
        assert not (await other.commit([child("c", again.task)])).duplicates
        assert len((await other.commit([child("a", again.task)])).duplicates) == 1
        await other.settle(Settlement(again.id, task=again.task))
        while leases := await other.lease():
            for each in leases:
                await other.settle(Settlement(each.id, task=each.task))
        assert await look() == ("done", 0, 4, 0, 0)

    async def test_the_commit_of_one_that_was_taken_for_dead_counts_nothing(
        self, join, kill, run, look
    ):
        worker, other = await join(seed_keys=[SEEDS]), await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await kill(worker, other)
        again = await take(other)
        page = Settlement(
            lease.id, [NewRequest(b"x", 0)], [(ITEMS, b"late")], task=lease.task
        )
        reply = await worker.settle(page)

        assert reply.outcome is Outcome.UNKNOWN_WORKER or reply.not_owned == 1
        assert await look() == ("running", 1, 0, 0, 0)
        await other.settle(Settlement(again.id, items=[(ITEMS, b"i")], task=again.task))
        assert await look() == ("done", 0, 1, 0, 1)

    async def test_one_that_kills_its_workers_fails(self, broker, join, kill, run):
        other = await join(seed_keys=[SEEDS])
        lease = await run(other)
        await other.commit([child("a", lease.task)])
        await other.settle(Settlement(lease.id, task=lease.task))
        for _ in range(3):
            worker = await join()
            await worker.lease_one()
            await kill(worker, other)

        [task] = await broker.tasks.tasks_of(["t"])
        assert shown(task) == ("failed", 0, 1, 1, 0)
        assert "workers died" in task.reason

    async def test_a_lease_that_is_given_back_keeps_its_task(self, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.ask(releases=[lease.id])
        assert await look() == ("running", 1, 0, 0, 0)

        again = await take(worker)
        assert (again.task, again.payload) == (lease.task, lease.payload)
        await worker.settle(Settlement(again.id, task=again.task))
        assert await look() == ("done", 0, 1, 0, 0)

    # Results

    @pytest.mark.keeps("s:more_items", reason="a second key of items")
    async def test_results_are_its_items_in_the_order_of_commits(
        self, broker, join, run
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        other = await run(worker, "other")
        await worker.commit([child("a", lease.task)])
        first = [(ITEMS, b"1"), ("s:more_items", b"2")]
        await worker.settle(
            Settlement(lease.id, items=first, task=lease.task),
            Settlement(other.id, items=[(ITEMS, b"x")], task=other.task),
        )
        page = await worker.lease_one()
        await worker.settle(
            Settlement(page.id, items=[(ITEMS, b"\xff\n")], task=page.task)
        )
        [task] = await broker.tasks.tasks_of(["t"])

        assert task.items == 3
        assert await broker.tasks.results(task, 0, 100) == [b"1", b"2", b"\xff\n"]
        assert await broker.tasks.results(task, 1, 1) == [b"2"]
        assert await broker.tasks.results(task, 3, 10) == []
        assert sorted(await broker.items()) == [b"1", b"x", b"\xff\n"]

    async def test_items_of_nobody_are_no_results(self, broker, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.commit(items=[(ITEMS, b"i")])
        await worker.settle(Settlement(lease.id, task=lease.task))
        assert await look() == ("done", 0, 1, 0, 0)

    # Cancelling

    async def test_cancelling_drops_what_is_pending_and_finishes_what_runs(
        self, broker, join, run, look
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker, batch="b")
        await worker.commit([child("a", lease.task), *map_new("other")])
        [before, missing] = await broker.tasks.cancel(["t", "nobody"])
        assert (before.state, missing) == (TaskState.RUNNING, None)
        assert (await look())[0] == "cancelled"

        leases = await worker.lease()
        assert payloads(leases) == ["other"]
        reply = await worker.commit([child("b", lease.task)])
        assert (list(reply.duplicates), list(reply.dropped)) == ([], [0])
        page = Settlement(
            lease.id, [NewRequest(b"c", 0)], [(ITEMS, b"i")], task=lease.task
        )
        await worker.settle(page, Settlement(leases[0].id))
        assert await look() == ("cancelled", 0, 1, 0, 1)
        assert (await worker.counts()).is_drained
        assert await broker.tasks.batch("b") == Batch("b", cancelled=1)
        assert (await worker.session.status()).tasks_by_state == {
            **Batch("").states,
            "cancelled": 1,
        }

    async def test_what_stays_in_its_worker_is_dropped_too(self, broker, join, run):
        worker = await join(seed_keys=[SEEDS])
        lease, other = await run(worker), await run(worker, "other")
        await broker.tasks.cancel(["t"])
        claims = [
            Claim("a", [lease.id]),
            Claim("b", [other.id]),
            Claim("c", [lease.id, other.id]),
            Claim("", [lease.id]),
            Claim("", [other.id]),
            Claim("", [other.id]),
        ]
        told = (await worker.ask(claims=claims)).claims
        assert told == [None, True, True, None, True, True]
        new = map_new("a", "b", "c")
        assert list((await worker.commit(new)).duplicates) == [1, 2]

    async def test_a_polite_crawl_drops_it_too(self, broker, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease, other = await run(worker), await run(worker, "other")
        new = [replace(child(f"t{n}", lease.task), slot=n % 3) for n in range(9)]
        new += [replace(child(f"o{n}", other.task), slot=n % 3) for n in range(9)]
        await worker.commit(new)
        await broker.tasks.cancel(["t"])

        manners = Manners(Rules(0.0, 8), portion=8)
        leases: list[Lease] = []
        for _ in range(9):
            leases += (await worker.ask(leases=9, suspects=8, manners=manners)).leases
        assert sorted(payloads(leases)) == [f"o{n}" for n in range(9)]
        assert {each.task for each in leases} == {other.task}
        assert await look() == ("cancelled", 1, 0, 0, 0)
        assert await look("other") == ("running", 10, 0, 0, 0)

    async def test_what_was_dropped_does_not_count_as_seen(self, broker, join, run):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await broker.tasks.cancel(["t"])
        reply = await worker.commit([*map_new("b"), child("a", lease.task)])
        assert (list(reply.duplicates), list(reply.dropped)) == ([], [1])
        new = [child("b", lease.task), *map_new("a")]
        reply = await worker.commit(new)
        assert (list(reply.duplicates), list(reply.dropped)) == ([0], [])

    async def test_a_letter_of_it_that_is_put_back_lets_it_run_again(
        self, broker, join, run, look
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker, batch="b")
        await broker.tasks.cancel(["t"])
        await worker.ask(rejects=[Reject(lease.id, "seed", "bad")])
        assert await look() == ("cancelled", 0, 0, 1, 0)

        await broker.retry()
        assert await look() == ("running", 1, 0, 0, 0)
        assert await broker.tasks.batch("b") == Batch("b", running=1)
        again = await take(worker)
        assert (again.task, again.is_seed) == (lease.task, True)
        await worker.settle(Settlement(again.id, task=again.task))
        assert await look() == ("done", 0, 1, 0, 0)

    async def test_very_many_are_submitted_looked_at_and_cancelled_in_their_order(
        self, broker, submit
    ):
        ids = [f"t{n}" for n in range(250)]
        tasks = [new_task(id_, token(n)) for n, id_ in enumerate(ids)]
        tasks[:7] = [replace(t, seed=t.seed + b" " * 200_000) for t in tasks[:7]]
        assert await submit(*tasks) == [Submission.SUBMITTED] * len(ids)
        assert await submit(*tasks[:3]) == [Submission.SUBMITTED] * 3  # once more
        found = await broker.tasks.tasks_of([*ids, "nobody"])
        assert [task and task.id for task in found] == [*ids, None]
        before = await broker.tasks.cancel([*ids, "nobody"])
        assert [task and task.state for task in before] == [
            *[TaskState.QUEUED] * len(ids),
            None,
        ]
        found = await broker.tasks.tasks_of(ids)
        assert {task.state for task in found} == {TaskState.CANCELLED}
        await submit(new_task("new", token(999)))
        newest = await broker.tasks.newest_tasks(5)
        assert newest[0].id == "new"
        assert {task.id for task in newest[1:]} < {*ids}
        assert len(newest) == 5

    async def test_a_queued_task_is_cancelled_before_it_begins(
        self, broker, join, submit, look
    ):
        worker = await join(seed_keys=[SEEDS])
        await submit(new_task("t", token(1)))
        [before] = await broker.tasks.cancel(["t"])
        assert before.state is TaskState.QUEUED

        for lease in (await worker.ask(seeds=1)).seeds:
            begin = Begin(lease.id, "t", token(1))
            assert await begins(worker, begin) == [Beginning.CANCELLED]
            await worker.settle(Settlement(lease.id, end=End.EMPTY, counts=False))
        assert await look() == ("cancelled", 0, 0, 0, 0)
        assert (await worker.counts()).is_drained

    async def test_what_is_given_back_of_a_cancelled_task_is_dropped(
        self, broker, join, run, look
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await broker.tasks.cancel(["t"])
        await worker.ask(releases=[lease.id])
        assert await worker.lease() == []
        assert await look() == ("cancelled", 0, 0, 0, 0)
        assert (await worker.counts()).is_drained

    async def test_what_the_dead_held_of_a_cancelled_task_is_dropped(
        self, broker, join, kill, run, look
    ):
        worker, other = await join(seed_keys=[SEEDS]), await join(seed_keys=[SEEDS])
        await run(worker)
        await broker.tasks.cancel(["t"])
        await kill(worker, other)
        assert await other.lease() == []
        assert await look() == ("cancelled", 0, 0, 0, 0)
        assert (await other.counts()).is_drained

    async def test_an_earlier_run_is_not_the_newest_one(self, broker, submit):
        first, second = (Run("t", token(n)) for n in (1, 2))
        await submit(new_task("t", first.token))
        restart = OnDuplicate.RESTART
        await submit(new_task("t", second.token), on_duplicate=restart)
        await broker.tasks.cancel([first])
        asked = [first, "t", Run("t", token(3)), second, "nobody"]
        found = await broker.tasks.tasks_of(asked)
        states = [task and (task.token, task.state.value) for task in found]
        newest = (second.token, "queued")
        assert states == [(first.token, "cancelled"), newest, None, newest, None]
        await broker.tasks.cancel([second])
        assert (await broker.tasks.tasks_of(["t"]))[0].state is TaskState.CANCELLED

    async def test_what_has_ended_is_not_cancelled(self, broker, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.settle(Settlement(lease.id, task=lease.task))
        [task] = await broker.tasks.cancel(["t"])
        assert task.state is TaskState.DONE
        assert await look() == ("done", 0, 1, 0, 0)

    # The same id again

    async def test_one_that_has_ended_is_reused_only_by_who_says_so(
        self, broker, join, run, submit
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.settle(Settlement(lease.id, task=lease.task))
        again = new_task("t", token(9))
        assert await submit(again, on_duplicate=OnDuplicate.REUSE) == [
            Submission.JOINED
        ]
        assert (await broker.tasks.tasks_of(["t"]))[0].token == token(1)
        assert await submit(again, on_duplicate=OnDuplicate.JOIN) == [
            Submission.SUBMITTED
        ]
        assert (await broker.tasks.tasks_of(["t"]))[0].token == token(9)

    @pytest.mark.parametrize(
        ("on_duplicate", "outcome", "newest"),
        [
            (OnDuplicate.REFUSE, Submission.REFUSED, token(1)),
            (OnDuplicate.JOIN, Submission.JOINED, token(1)),
            (OnDuplicate.RESTART, Submission.RESTARTED, token(9)),
            (OnDuplicate.REUSE, Submission.JOINED, token(1)),
        ],
    )
    async def test_the_same_id_again(
        self, broker, join, run, submit, on_duplicate, outcome, newest
    ):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        found = await submit(
            new_task("t", token(9)), new_task("u", token(8)), on_duplicate=on_duplicate
        )
        assert found == [outcome, Submission.SUBMITTED]
        [task] = await broker.tasks.tasks_of(["t"])
        assert task.token == newest

        await worker.settle(Settlement(lease.id, task=lease.task))
        tasks = {
            task.token: task
            async for some in broker.tasks.tasks()
            for task in some
            if task.id == "t"
        }
        first = "cancelled" if outcome is Submission.RESTARTED else "done"
        assert shown(tasks.pop(token(1)))[:3] == (first, 0, 1)
        assert [shown(task)[:2] for task in tasks.values()] == (
            [("queued", 1)] if outcome is Submission.RESTARTED else []
        )

    # Many

    async def test_batches_count_the_states(self, broker, join, submit):
        worker = await join(seed_keys=[SEEDS])
        names = [new_task(f"t{n}", token(n), "b") for n in range(5)]
        await submit(*names, new_task("x", token(7)), new_task("y", token(8), "c"))
        seeds = {}
        while leases := (await worker.ask(seeds=7)).seeds:
            seeds |= {json.loads(s.payload)["id"]: s for s in leases}
        for n in range(4):
            lease = seeds[f"t{n}"]
            await begins(worker, Begin(lease.id, f"t{n}", token(n), "b"))
        await worker.settle(Settlement(seeds["t0"].id, task=token(0)))
        await worker.ask(rejects=[Reject(seeds["t1"].id, "seed", "bad")])
        await broker.tasks.cancel(["t2"])

        batch = Batch("b", queued=1, running=1, done=1, failed=1, cancelled=1)
        assert await broker.tasks.batch("b") == batch
        assert (batch.total, batch.ended) == (5, 3)
        found = [each async for some in broker.tasks.batches() for each in some]
        assert sorted(found, key=lambda each: each.name) == [
            batch,
            Batch("c", queued=1),
        ]
        assert await broker.tasks.batch("nobody") == Batch("nobody")
        for state, id_ in (("running", "t3"), ("failed", "t1"), ("queued", "t4")):
            ids = [
                task.id
                async for some in broker.tasks.tasks(batch="b", state=TaskState(state))
                for task in some
            ]
            assert ids == [id_]
        every = [t.id async for some in broker.tasks.tasks() for t in some]
        assert sorted(every) == ["t0", "t1", "t2", "t3", "t4", "x", "y"]

    async def test_hundreds_of_requests_of_many_tasks(self, broker, join, submit):
        worker = await join(seed_keys=[SEEDS])
        await submit(*(new_task(f"t{n}", token(n)) for n in range(60)))
        begun = []
        while leases := (await worker.ask(seeds=100)).seeds:
            found = [
                Begin(
                    each.id,
                    json.loads(each.payload)["id"],
                    json.loads(each.payload)["task"],
                )
                for each in leases
            ]
            assert set(await begins(worker, *found)) == {Beginning.BEGUN}
            begun += found
        assert len(begun) == 60
        for begin in begun:
            await worker.commit(
                [child(f"{begin.id} {n}", begin.token) for n in range(8)],
                settlements=[Settlement(begin.lease, task=begin.token)],
            )
        while leases := await worker.lease():
            await worker.settle(
                *(Settlement(each.id, task=each.task) for each in leases)
            )
        tasks = [t async for some in broker.tasks.tasks() for t in some]
        assert len(tasks) == 60
        assert {shown(task) for task in tasks} == {("done", 0, 9, 0, 0)}

    # The end of the crawl

    async def test_a_drained_frontier_ends_what_was_lost(self, join, submit, look):
        worker = await join(seed_keys=[SEEDS])
        await submit(new_task("t", token(1)), key=UNREAD)
        for _ in range(20):
            await worker.ask(count=True, heartbeat=True)
            if (await look())[0] == "failed":
                break
        # None of its requests has become a dead letter.
        assert await look() == ("failed", 0, 0, 0, 0)

    async def test_tasks_outlive_their_crawl(self, broker, join, run, look):
        worker = await join(seed_keys=[SEEDS])
        lease = await run(worker)
        await worker.settle(
            Settlement(lease.id, items=[(ITEMS, b"i")], task=lease.task)
        )
        assert await worker.leave() is LeaveOutcome.DELETED
        assert await look() == ("done", 0, 1, 0, 1)
        [task] = await broker.tasks.tasks_of(["t"])
        assert await broker.tasks.results(task, 0, 10) == [b"i"]


def map_new(*names: str) -> list[NewRequest]:
    return [NewRequest(name.encode(), 0, name) for name in names]


async def begins(worker: Worker, *asked: Begin) -> Sequence[Beginning] | None:
    return (await worker.ask(begins=asked)).begun


async def take(worker: Worker) -> Lease:
    """A lease of anything that is there, seeds among it."""
    answer = await worker.ask(leases=1, suspects=8, seeds=1)
    [lease] = [*answer.leases, *answer.seeds]
    return lease
