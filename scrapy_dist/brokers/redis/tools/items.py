"""Items out of ``S:items``, so that none is lost when its reader dies.

A reader moves items, some at a time, to a list of its own, ``S:items:taken:NAME``, and
removes them from there when it is done with them. What a reader that died had taken is
what the next reader of that name gets first. When two have one name, the later one has
the list, and the earlier one is told so.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from scrapy_dist.base.escaping import quote
from scrapy_dist.brokers.redis.errors import is_wrong_type
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.brokers.redis.scripts import Call

#: Bytes of items after which one call takes no more.
_STEP_BYTES = 1 << 20
#: Seconds between two looks for new items, at first and at the most.
_SHORTEST, _LONGEST = 0.01, 0.5
#: How long it should take to work on what one call takes, in seconds: less, and the next
#: call takes more; longer, and it takes less, so that other readers get their share.
_QUICK, _SLOW = 0.1, 1.0

_NAME = re.compile(r"[\w.-]{1,200}")


def taken_key(items: str, consumer: str) -> str:
    """The list of what the reader *consumer* has taken from the list *items*.

    Raises ConfigurationError for a *consumer* that is no name.
    """
    if not isinstance(consumer, str) or not _NAME.fullmatch(consumer):
        raise ConfigurationError(
            f"consumer = {quote(consumer)} is not a name of a reader. Use letters, digits,"
            " '.', '_' and '-', for example 'importer'."
        )
    return f"{items}:taken:{consumer}"


class ItemReader:
    """`core.ports.ItemReader`. Its calls must not overlap.

    The next call tells Redis of what is *done*. All methods raise RedisUnavailable, after
    which what was not acknowledged may come again, under the name that it had; and
    ConfigurationError when another reader of this name has taken over, which one with
    *patience* lets be, or a key is of a wrong type.
    """

    def __init__(
        self, frontier: Frontier, consumer: str, patience: float | None = None
    ) -> None:
        self.done = 0
        self.names: list[str] = []
        self.stands_by = False
        self._frontier = frontier
        self._consumer = consumer
        self._taken = taken_key(frontier.keys.items, consumer)
        self._number = secrets.token_hex(8)
        self._patience_ms = None if patience is None else int(patience * 1000)
        #: That of its list as the last reply had it; empty: that is not known.
        self._mark = b""
        self._joined = False
        #: Items not acknowledged: those that are in its list, for all that is known, and
        #: older ones of which that is not known.
        self._known = self._doubtful = 0
        self._want = 1
        self._taken_at = 0.0

    async def take(
        self, *, follow: bool = False, timeout: float | None = None
    ) -> list[bytes]:
        self._adapt()
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _SHORTEST
        while True:
            drained = self._frontier.drained()
            items = await self._exchange([drained], self._want)
            # No item comes after the end: it is stored no later than its page's ack.
            if items or not follow or _reply(drained).is_drained:
                break
            if deadline is not None:
                pause = min(pause, deadline - time.monotonic())
                if pause <= 0:
                    break
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST)
        self._taken_at = time.monotonic()
        return items

    def _adapt(self) -> None:
        took = time.monotonic() - self._taken_at
        if took < _QUICK:
            self._want = min(BATCH, self._want * 4)
        elif took > _SLOW:
            self._want = max(1, self._want // 4)

    async def acknowledge(self) -> None:
        while self.done:
            await self._exchange([], 0)

    async def beat(self) -> None:
        names = self.names
        await self._exchange([], 0)
        self.names = names

    async def leave(self, *, keep: int = 0) -> None:
        await self.acknowledge()
        left = 1 if self._joined else 0
        while left > 0:
            left = await self._send("return_items", keep=keep, most=BATCH)
        self._forget()

    def _forget(self) -> None:
        self._joined, self._mark = False, b""
        self._known = self._doubtful = self.done = 0
        self.names = []

    async def _exchange(self, before: Sequence[Call[Any]], want: int) -> list[bytes]:
        known, done, mark = self._known, min(self.done, BATCH), self._mark
        remove = max(0, done - self._doubtful)
        # Without a reply nobody knows what the list holds: then it is read again.
        self._known, self._doubtful, self._mark = 0, self._doubtful + known, b""
        outcome, *rest = await self._send(
            "take_items",
            before,
            mark=mark,
            word=secrets.token_hex(6),
            patience=self._patience(),
            done=remove,
            known=known,
            want=want,
            limit=_STEP_BYTES,
        )
        if outcome == 0:
            return self._lost()
        self._joined, self.stands_by = True, False
        self.done -= done
        self._doubtful -= done
        if outcome < 0:
            # Redis came back from an older state: what this reader had may come again.
            return await self._exchange(before, want)
        items: list[bytes]
        self._mark, *items = rest
        self._known = known - remove + len(items)
        self._doubtful -= known - remove
        self.names = names_in(self._mark, known - remove, len(items))
        return items

    async def _send(
        self, script: str, before: Sequence[Call[Any]] = (), **values: Any
    ) -> Any:
        call = self._frontier.call(
            script, lambda raw: raw, taken=self._taken, reader=self._number, **values
        )
        await self._frontier.exchange([*before, call])
        return _reply(call)

    def _patience(self) -> int | str:
        if self._patience_ms is not None:
            return self._patience_ms
        return "" if self._joined else 0

    def _lost(self) -> list[bytes]:
        """Another reader has the list: nothing of it is this one's."""
        if self._patience_ms is None:
            raise ConfigurationError(
                f"Another reader named {self._consumer!r} has taken over the items of"
                f" {self._frontier.keys.items}. Give each reader that runs at the same"
                " time a name of its own: items(consumer=…)."
            )
        self._forget()
        self.stands_by = True
        return []


def names_in(mark: bytes, skip: int, count: int) -> list[str]:
    """*count* names of those that *mark* gives, after the first *skip*; see reader.lua."""
    found: list[str] = []
    for run in mark.split()[2:]:
        word, _, numbers = run.decode().partition(",")
        first, _, length = numbers.partition(",")
        begin, end = int(first) + skip, int(first) + int(length)
        skip = max(0, skip - int(length))
        found += [
            f"{word}-{n}" for n in range(begin, min(end, begin + count - len(found)))
        ]
    return found


def _reply(call: Call[Any]) -> Any:
    try:
        return call.reply()
    except ResponseError as e:
        if is_wrong_type(e):
            raise ConfigurationError(
                f"Items are read from a list, and {' or '.join(call.keys[:2])} is"
                f" something else: {e}. Name the list in REDIS_ITEMS_KEY."
            ) from e
        raise RedisUnavailable(f"Redis refuses: {e}") from e
