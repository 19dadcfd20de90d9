"""What tasks are made of: URLs and JSON objects, checked as the workers will."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scrapy_dist.admin.arguments import checked_name
from scrapy_dist.base.escaping import quote
from scrapy_dist.codec.seed import decode, load
from scrapy_dist.codec.seed_tasks import new_token
from scrapy_dist.core.tasks import NewTask
from scrapy_dist.exceptions import BadSeed, ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.admin.seeding import Value


class TaskMaker:
    """Makes tasks of URLs and JSON objects, by the rules of the workers.

    *batch* is for those that do not name one themselves. *timeout*: seconds that the
    download of a seed may take; *max_retries*: how often it is tried again.
    """

    def __init__(
        self,
        crawl: Crawl,
        *,
        batch: str | None = None,
        meta: Mapping[str, Any] | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> None:
        self._batch = "" if batch is None else checked_name(batch, "batch")
        limits = {"download_timeout": timeout, "max_retry_times": max_retries}
        given = {name: each for name, each in limits.items() if each is not None}
        if meta is not None and not isinstance(meta, Mapping):
            raise ConfigurationError(f"meta = {quote(meta)} is no dict.")
        self._seeds = crawl.seed_maker({**given, **(meta or {})}, priority)
        #: See `SeedMaker`.
        self.rules, self.own_form = self._seeds.rules, self._seeds.own_form

    def make(
        self, value: Value, id: str | int | None = None, *, otherwise: str | None = None
    ) -> NewTask:
        """The task for a URL, JSON text or an object; *id* None: its own, or a new one.

        *otherwise* is the id of one that would get a new one.
        An object may have an ``id`` and a ``batch`` itself. Raises BadSeed, and
        ConfigurationError for what is no name.
        """
        fields = self._fields(value)
        if "task" in fields:
            raise BadSeed(
                "the seed has the key 'task', which is made when it is pushed"
            )
        own, batch = fields.pop("id", None), fields.pop("batch", None)
        if own is not None and id is not None and str(own) != str(id):
            raise BadSeed(f"the seed has the id {quote(own)}, and id = {quote(id)}")
        chosen = own if id is None else id
        chosen = otherwise if chosen is None else chosen
        name = uuid.uuid4().hex if chosen is None else checked_name(chosen, "id")
        group = self._batch if batch is None else checked_name(batch, "batch")
        seed = self._seeds.make(fields)
        token = new_token()
        whole = self._seeds.load(seed.data) | {"id": name, "task": token}
        if group:
            whole["batch"] = group
        data = self._seeds.dump(whole)
        if len(data) > self.rules.max_size:
            raise BadSeed(
                f"the seed has {len(data):,} bytes; FRONTIER_SEED_MAX_SIZE allows"
                f" {self.rules.max_size:,}"
            )
        return NewTask(name, token, data, seed.priority, group)

    def _fields(self, value: Value) -> dict[str, Any]:
        """The object that *value* is, or stands for. Raises BadSeed."""
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, (str, bytes)):
            return load(decode(value, self.rules.encoding))
        raise BadSeed(
            f"{quote(repr(value))} is no seed: write a URL, JSON text or an object"
        )
