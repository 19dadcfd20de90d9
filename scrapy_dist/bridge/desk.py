"""From messages to tasks, and back to who sent them when the tasks have ended."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.base.escaping import quote
from scrapy_dist.base.waits import cancel, sleep_until
from scrapy_dist.bridge import weight
from scrapy_dist.bridge.bodies import (
    Results,
    message_id,
    result_body,
    status_message,
    steps_of,
)
from scrapy_dist.bridge.publisher import Message, Publisher
from scrapy_dist.bridge.refusals import Refusals, reason_of
from scrapy_dist.bridge.replies import Replies
from scrapy_dist.core.tasks import NewTask, OnDuplicate, Submission, Task, TaskState
from scrapy_dist.exceptions import BadSeed, ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.admin.task_maker import TaskMaker
    from scrapy_dist.bridge.intake import Delivery, Intake
    from scrapy_dist.bridge.line import RedisSide
    from scrapy_dist.bridge.link import Link
    from scrapy_dist.bridge.notices import Notices

#: Messages that become tasks in one step, and bytes of them, which are checked meanwhile.
_STEP, _STEP_BYTES = 100, 1 << 20
#: Seconds between two looks at the tasks, at first and at the most; with so many of them.
_SHORTEST, _LONGEST, _MANY = 0.05, 1.0, 2000
#: Seconds after its end for which a task without an id is known by its body.
_RECENT = 600.0
#: Tasks that end at the same time: their results are in memory.
_ENDING = 200
#: Tasks followed with ``--ack stored``, at the most.
_MOST = 10_000


@dataclass(frozen=True)
class Sinks:
    """Where what is told of tasks goes: names of a queue and an exchange; '': nowhere."""

    status: str
    results: str
    publisher: Publisher
    #: Publishes to the exchange: one that is missing ends the connection.
    to_results: Publisher


@dataclass(eq=False)
class _Followed:
    """A task, and the messages that wait for its end."""

    id: str
    deliveries: list[Delivery] = field(default_factory=list)
    #: States that were told, of the run with *token*.
    token: str = ""
    told: int = 0
    is_ending: bool = False


class _Made(NamedTuple):
    """What a message is made into, and whether its task has an id of its own."""

    task: NewTask
    delivery: Delivery
    is_named: bool


class Desk:
    """*is_stored_enough*: acknowledge a message when the frontier has its task."""

    def __init__(
        self,
        crawl: Crawl,
        sinks: Sinks,
        redis: RedisSide,
        notices: Notices,
        *,
        is_stored_enough: bool,
    ) -> None:
        self._crawl = crawl
        self._tasks = Tasks(crawl)
        self._sinks = sinks
        self._redis = redis
        self._is_stored_enough = is_stored_enough
        self._makers: dict[int | None, TaskMaker] = {}
        self._followed: dict[str, _Followed] = {}
        #: Bytes of messages that were acknowledged, and are submitted again if need be.
        self._kept = 0
        self._work: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Semaphore(_ENDING)
        self._statuses: asyncio.Queue[tuple[Message, asyncio.Future[None] | None]]
        self._statuses = asyncio.Queue(1000)
        self._changed = asyncio.Event()
        self._replies = Replies(sinks.publisher, notices)
        self._refusals = Refusals(crawl, redis, notices)
        self._results = Results(crawl.port, redis)
        self.intake: Intake

    @property
    def is_full(self) -> bool:
        """Whether no more tasks can be followed."""
        return len(self._followed) >= _MOST or self._kept >= weight.BUDGET

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until *stopping*; then what ends just now is finished."""
        loops = asyncio.gather(
            self._submit(stopping), self._look(stopping), self._wake(stopping)
        )
        telling = asyncio.ensure_future(self._tell_states())
        try:
            ends: list[asyncio.Future[Any]] = [loops, self._failed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for each in ends:
                if each.done():
                    each.result()
            while self._work:
                await asyncio.wait(self._work)
        finally:
            await cancel([loops, telling, *self._work])

    async def _wake(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self.intake.arrived.set()
        self._changed.set()

    def lose(self, link: Link) -> None:
        """What came over *link* comes again: nobody waits here for the ends of its tasks."""
        for followed in list(self._followed.values()):
            followed.deliveries = [
                each
                for each in followed.deliveries
                if each.link is not link or each.is_settled
            ]
            if not (followed.deliveries or followed.is_ending):
                del self._followed[followed.id]

    def _spawn(self, doing: Coroutine[Any, Any, None]) -> None:
        work = asyncio.create_task(doing)
        self._work.add(work)

        def end(done: asyncio.Task[None]) -> None:
            self._work.discard(done)
            error = None if done.cancelled() else done.exception()
            if error is not None and not self._failed.done():
                self._failed.set_exception(error)

        work.add_done_callback(end)

    # In

    async def _submit(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            if not await sleep_until(self.intake.arrived, _LONGEST):
                continue
            await self._submit_some(self.intake.take(_STEP, _STEP_BYTES))

    async def _submit_some(self, deliveries: Sequence[Delivery]) -> None:
        made: list[_Made] = []
        taken: set[str] = set()
        for delivery in deliveries:
            try:
                made.append(self._make(delivery, taken))
            except (BadSeed, ConfigurationError) as e:
                self._spawn(self._refuse(delivery, reason_of(delivery, e)))
        # One that came before has been a task, which may have ended.
        again = [
            each.task.id
            for each in made
            if each.delivery.redelivered and not each.is_named
        ]
        old = await self._redis.ask(lambda: self._ended_long_ago(again))
        groups: dict[OnDuplicate, list[_Made]] = {}
        for each in made:
            is_known = each.delivery.redelivered and each.task.id not in old
            mode = OnDuplicate.REUSE if is_known else OnDuplicate.JOIN
            groups.setdefault(mode, []).append(each)
        for mode, group in groups.items():
            new = [each.task for each in group]
            outcomes = await self._redis.ask(partial(self._tasks.push, new, mode))
            for (task, delivery, is_named), outcome in zip(
                group, outcomes, strict=True
            ):
                id_, is_joined = task.id, outcome is Submission.JOINED
                if is_joined and not (is_named or delivery.redelivered):
                    # Another message with the same body has that task.
                    own = self._maker(delivery).make(delivery.body)
                    push = partial(self._tasks.push, [own], OnDuplicate.JOIN)
                    await self._redis.ask(push)
                    id_ = own.id
                self._follow(id_, delivery)

    def _maker(self, delivery: Delivery) -> TaskMaker:
        priority = delivery.priority
        if priority not in self._makers:
            self._makers[priority] = self._tasks.maker(priority=priority)
        return self._makers[priority]

    async def _ended_long_ago(self, ids: Sequence[str]) -> set[str]:
        """Those of *ids*, which were made up, whose tasks ended some time ago.

        The same body is more likely to be another message by then than the same one again.
        """
        if not ids:
            return set()
        tasks = await self._tasks.tasks_of(ids)
        now_ms = (await self._crawl.status()).time.timestamp() * 1000
        return {
            task.id
            for task in tasks
            if task is not None
            and task.state.is_end
            and now_ms - task.ended_ms >= _RECENT * 1000
        }

    def _make(self, delivery: Delivery, taken: set[str]) -> _Made:
        """The task that *delivery* asks for.

        Without an id it gets one that the same body has again when it comes again: the
        first that no message here has. Raises BadSeed, ConfigurationError.
        """
        if isinstance(delivery.id, bytes):
            raise BadSeed(
                f"the message_id is not valid UTF-8: {quote(repr(delivery.id))}"
            )
        if len(delivery.body) > (most := self._crawl.options.max_seed):
            raise BadSeed(
                f"the message has more than the {most:,} bytes that"
                " FRONTIER_SEED_MAX_SIZE allows"
            )
        made = _made_id(delivery)
        names = (f"{made}-{number}" for number in count())
        name = next(n for n in names if n not in self._followed and n not in taken)
        task = self._maker(delivery).make(delivery.body, otherwise=delivery.id or name)
        taken.add(task.id)
        return _Made(task, delivery, task.id != name)

    def _follow(self, id_: str, delivery: Delivery) -> None:
        if delivery.is_gone:
            return
        if self._is_stored_enough:
            self.intake.ack(delivery)
            wanted = delivery.reply_to or self._sinks.status or self._sinks.results
            if not wanted:
                return
        followed = self._followed.get(id_)
        if followed is None or followed.is_ending:
            self._followed[id_] = followed = _Followed(id_)
        followed.deliveries.append(delivery)
        if delivery.is_settled:
            self._kept += len(delivery.body)
        self._changed.set()

    async def _refuse(self, delivery: Delivery, reason: str) -> None:
        """Set aside what can be no task, and say so to who asked."""
        with self._refusals.known(delivery) as source:
            await self._refusals.set_aside(delivery, source, reason)
            name = delivery.id if isinstance(delivery.id, str) else ""
            state, spider = TaskState.FAILED, self._crawl.name
            task = Task(name or _made_id(delivery), state, failed=1, reason=reason)
            if queue := self._sinks.status:
                await self._sinks.publisher.deliver(
                    [status_message(queue, spider, task, state)],
                    unless=lambda: delivery.is_gone,
                )
            if not delivery.is_gone:
                await self._tell_result(task, [delivery], [])
            self.intake.ack(delivery)

    # How they stand

    async def _look(self, stopping: asyncio.Event) -> None:
        pause = _SHORTEST
        while not stopping.is_set():
            waiting = [each for each in self._followed.values() if not each.is_ending]
            if waiting:
                found = await self._redis.ask(
                    lambda: self._tasks.tasks_of([each.id for each in waiting])  # noqa: B023
                )
                ended = 0
                for followed, task in zip(waiting, found, strict=True):
                    ended += await self._see(followed, task)
                longest = min(_LONGEST, 4 * _SHORTEST + len(waiting) / _MANY)
                pause = _SHORTEST if ended else min(longest, pause * 1.5)
            self._changed.clear()
            if not waiting and not self._followed:
                await sleep_until(self._changed, _LONGEST)
                pause = _SHORTEST
            else:
                await sleep_until(stopping, pause)

    async def _see(self, followed: _Followed, task: Task | None) -> bool:
        """Whether it has ended."""
        if self._followed.get(followed.id) is not followed or followed.is_ending:
            return False
        if task is None:
            # Redis has forgotten it.
            self._forget(followed)
            for delivery in followed.deliveries:
                self.intake.again(delivery)
            return False
        if followed.token != task.token:
            followed.token, followed.told = task.token, 0
        last = await self._tell(followed, task)
        if task.state.is_end:
            followed.is_ending = True
            self._spawn(self._end(followed, task, last))
        return task.state.is_end

    async def _tell(
        self, followed: _Followed, task: Task
    ) -> asyncio.Future[None] | None:
        """Tell the states that are new; what is set when the last one has been told."""
        if not self._sinks.status:
            return None
        steps = list(steps_of(task))
        told: asyncio.Future[None] | None = None
        for state in steps[followed.told :]:
            message = status_message(self._sinks.status, self._crawl.name, task, state)
            if state.is_end:
                told = asyncio.get_running_loop().create_future()
            await self._statuses.put((message, told))
        followed.told = len(steps)
        return told

    async def _tell_states(self) -> None:
        while True:
            some = [await self._statuses.get()]
            while len(some) < _STEP and not self._statuses.empty():
                some.append(self._statuses.get_nowait())
            await self._sinks.publisher.deliver([message for message, _ in some])
            for _, told in some:
                if told is not None and not told.done():
                    told.set_result(None)

    # The end

    async def _end(
        self, followed: _Followed, task: Task, told: asyncio.Future[None] | None
    ) -> None:
        async with self._room:
            items: list[bytes] = []
            is_asked = any(d.reply_to for d in followed.deliveries)
            if task.items and (self._sinks.results or is_asked):
                items = await self._results.first(task)
            await self._tell_result(task, followed.deliveries, items)
        if told is not None:
            await told
        self._forget(followed)
        for delivery in followed.deliveries:
            self.intake.ack(delivery)

    def _forget(self, followed: _Followed) -> None:
        settled = [each for each in followed.deliveries if each.is_settled]
        self._kept -= sum(len(each.body) for each in settled)
        if self._followed.get(followed.id) is followed:
            del self._followed[followed.id]

    async def _tell_result(
        self, task: Task, deliveries: Sequence[Delivery], items: Sequence[bytes]
    ) -> None:
        """Tell the exchange, and who has asked, how *task* has ended."""
        asked = [delivery for delivery in deliveries if delivery.reply_to]
        if not (asked or self._sinks.results):
            return
        name = message_id(task, "result")
        body = result_body(self._crawl.name, task, items)
        if self._sinks.results:
            key = f"{self._crawl.name}.{task.state}"
            exchange = self._sinks.results
            message = Message(key, body, name, "result", exchange=exchange)
            await self._sinks.to_results.deliver([message])
        for delivery in asked:
            await self._replies.send(delivery, body, name, task.id)


def _made_id(delivery: Delivery) -> str:
    """What a message without an id is called, whenever it comes."""
    return f"amqp-{hashlib.sha256(delivery.body).hexdigest()[:24]}"
