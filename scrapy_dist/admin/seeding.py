"""Pushing seeds: check them as the workers will, and store them in batches.

``SeedMaker`` turns what people write into a seed or says what is wrong with it; ``Sower``
collects seeds and pushes some hundred with one command.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from scrapy import Spider

from scrapy_dist.base.escaping import quote
from scrapy_dist.base.settings import flag
from scrapy_dist.codec.request_fields import MAX_PRIORITY
from scrapy_dist.codec.seed import parse_seed
from scrapy_dist.compat.extension_points import overridden
from scrapy_dist.exceptions import BadSeed

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

    from scrapy_dist.codec.seed_rules import SeedRules

T = TypeVar("T")
Value = str | bytes | Mapping[str, Any]

#: Seeds pushed with one command, and bytes of them, at the most.
BATCH, BATCH_BYTES = 500, 1 << 20


class Seed(NamedTuple):
    """What is pushed, and the score that it gets in a sorted set."""

    data: bytes
    priority: int = 0


class SeedMaker:
    """Makes seeds of URLs and JSON objects, by the rules of the workers.

    *spider*: an object of the class that will read them; None if it is not known here:
    then any callback may be named. *meta* and *priority* are for seeds that do not say
    otherwise themselves.
    """

    def __init__(
        self,
        rules: SeedRules,
        *,
        spider: Spider | None = None,
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
    ) -> None:
        #: Those of the workers.
        self.rules = rules
        self._spider = spider
        self._added: dict[str, Any] = {}
        if meta:
            self._added["meta"] = dict(meta)
        if priority is not None:
            self._added["priority"] = priority
        #: Whether the spider reads seeds in a way of its own, which cannot be checked.
        self.own_form = bool(overridden(type(spider), ["make_request_from_data"]))
        if self._added:
            # What is wrong with every seed is said once.
            parse_seed(self.dump({"url": "http://a/", **self._added}), rules, _NOBODY)

    def make(self, value: Value) -> Seed:
        """The seed for a URL, JSON text, or the object itself. Raises BadSeed."""
        if isinstance(value, Mapping):
            data = self.dump(dict(value))
        elif not isinstance(value, (str, bytes)):
            raise BadSeed(
                f"{quote(repr(value))} is no seed: write a URL, JSON text or an object"
            )
        else:
            data = self._encode(value.strip()) if isinstance(value, str) else value
        priority = self._check(data)
        if self._added:
            data = self._add(data)
            priority = self._check(data)
        return Seed(data, priority)

    def _check(self, data: bytes) -> int:
        """The priority of *data*. Raises BadSeed."""
        if not self.own_form:
            spider = self._spider or self._stand_in(data)
            return parse_seed(data, self.rules, spider).priority
        if not data or len(data) > self.rules.max_size:
            raise BadSeed(
                f"the seed has {len(data):,} bytes; it can have 1 to"
                f" FRONTIER_SEED_MAX_SIZE, {self.rules.max_size:,}"
            )
        seed = self.load(data)
        priority = seed.get("priority")
        if type(priority) is int and abs(priority) <= MAX_PRIORITY:
            return priority
        return 0

    def _add(self, data: bytes) -> bytes:
        seed = self.load(data)
        if not seed:
            text = data.decode(self.rules.encoding, "replace")
            seed = {"url": text.lstrip("\ufeff").strip()}
        meta = seed.get("meta", {})
        if "meta" in self._added and isinstance(meta, dict):
            seed["meta"] = {**self._added["meta"], **meta}
        return self.dump({**self._added, **seed})

    def load(self, data: bytes) -> dict[str, Any]:
        """The object that *data* is as JSON; {} if it is none."""
        try:
            seed = json.loads(data.decode(self.rules.encoding).lstrip("\ufeff"))
        except (ValueError, RecursionError):
            return {}
        return seed if type(seed) is dict else {}

    def dump(self, seed: dict[str, Any]) -> bytes:
        """*seed* as JSON text. Raises BadSeed."""
        try:
            text = json.dumps(seed, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as e:
            raise BadSeed(f"the seed is no JSON: {quote(str(e), 200)}") from None
        return self._encode(text)

    def _encode(self, text: str) -> bytes:
        try:
            return text.encode(self.rules.encoding)
        except UnicodeError:
            raise BadSeed(
                f"the seed cannot be written as {self.rules.encoding}, the encoding"
                f" that REDIS_ENCODING says: {quote(text)}"
            ) from None

    def _stand_in(self, data: bytes) -> Spider:
        """A spider that has the callbacks that *data* names, where the real is unknown."""
        if b"back" not in data:
            return _NOBODY
        seed = self.load(data)
        names = (seed.get("callback"), seed.get("errback"))
        methods: dict[str, Any] = {
            name: _some_callback
            for name in names
            if isinstance(name, str) and name.isidentifier() and name[:2] != "__"
        }
        methods["__module__"] = "project"  # SpiderMethods looks where a class is from
        spider: Spider = object.__new__(type("AnySpider", (Spider,), methods))
        return spider


def _some_callback(self: Spider, response: Any) -> None:
    """What a seed may name where the spider is not known."""


_NOBODY: Spider = object.__new__(Spider)


class Sower(Generic[T]):
    """Has *send* push what *make* makes of seeds, in batches, in the order they came.

    *make* raises BadSeed. *send* tells how many were not there before. *size*: bytes of one.
    """

    def __init__(
        self,
        make: Callable[[Value], T],
        send: Callable[[list[T]], Awaitable[int]],
        size: Callable[[T], int],
    ) -> None:
        self._make, self._send, self._size = make, send, size
        self._batch: list[T] = []
        self._bytes = 0
        #: What Redis was asked to take; and what was not there before.
        self.pushed = 0
        self.new = 0

    @property
    def waiting(self) -> int:
        """How many are in the batch that is not pushed yet."""
        return len(self._batch)

    @property
    def is_full(self) -> bool:
        """Whether it is time to push."""
        return len(self._batch) >= BATCH or self._bytes >= BATCH_BYTES

    def take(self, value: Value) -> None:
        """Add a seed to the batch. Raises BadSeed."""
        made = self._make(value)
        self._batch.append(made)
        self._bytes += self._size(made)

    async def push(self) -> None:
        """Push the batch.

        Raises RedisUnavailable: then the batch may have been stored, unless Redis
        refused it; and ConfigurationError for a key of another type.
        """
        if self._batch:
            self.new += await self._send(self._batch)
            self.pushed += len(self._batch)
            self._batch, self._bytes = [], 0

    async def push_all(self, seeds: Iterable[Value]) -> int:
        """Push *seeds*; how many there were.

        Raises BadSeed for the first that is no good: those before it are pushed, those
        after it are not. Otherwise as `push`.
        """
        before = self.pushed
        for value in seeds:
            try:
                self.take(value)
            except BadSeed:
                await self.push()
                raise
            if self.is_full:
                await self.push()
        await self.push()
        return self.pushed - before


def kind_of_new_key(settings: BaseSettings) -> str:
    """The type of a key of seeds that does not exist yet, as the settings have it."""
    if flag(settings, "REDIS_START_URLS_AS_ZSET"):
        return "zset"
    return "set" if flag(settings, "REDIS_START_URLS_AS_SET") else "list"


async def chunks(
    values: Iterable[T] | AsyncIterable[T], size: int
) -> AsyncIterator[list[T]]:
    """*values* in their order, *size* at a time."""
    if not isinstance(values, AsyncIterable):
        rest = iter(values)
        while some := list(itertools.islice(rest, size)):
            yield some
        return
    some = []
    async for value in values:
        some.append(value)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
