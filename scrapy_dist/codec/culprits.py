"""What keeps a request from being stored, and what its author can do about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from scrapy.http import Request

from scrapy_dist.base.escaping import quote
from scrapy_dist.codec.attributes import Attributes
from scrapy_dist.codec.messagepack import Coder
from scrapy_dist.codec.objects import Learner, SharedClasses, resolve
from scrapy_dist.codec.request_fields import STATE
from scrapy_dist.compat.extension_points import path_of
from scrapy_dist.exceptions import Unserializable

#: Names of what every Request has: in its ``__dict__`` up to Scrapy 2.18, else in slots.
SAMPLE = Request("data:,")
BASE_NAMES = frozenset(
    {*Attributes(Request).take(SAMPLE), *getattr(Request, "__slots__", ())}
)


class Culprits:
    """Finds them; *dump* is what stores, by a pickle or not."""

    def __init__(
        self,
        shared: SharedClasses,
        dump: Callable[[dict[str, Any]], bytes],
        *,
        is_pickle: bool,
    ) -> None:
        self._shared = shared
        self._dump = dump
        self._is_pickle = is_pickle

    def find(self, fields: dict[str, Any], error: Exception) -> Unserializable:
        """Name the value that *error* is about, or all classes that are to be allowed."""
        learner = Learner(self._shared)
        coder = Coder(learner)
        asking = []
        for where, value in _parts(fields):
            before = len(learner.missing)
            try:
                if not self._is_pickle:
                    coder.dumps(value)
                if len(learner.missing) == before:
                    self._dump({"value": value})
            except Exception as e:  # noqa: BLE001 - it becomes the reason
                reason = quote(str(e) or repr(e), 200)
                return Unserializable(f"{where} cannot be stored: {reason}")
            if len(learner.missing) > before:
                asking.append(where)
        if learner.missing:
            return Unserializable(
                f"{', '.join(asking)} cannot be stored: {self._say_missing(learner)}",
                learner.missing,
            )
        reason = quote(str(error) or repr(error), 200)
        return Unserializable(f"it cannot be stored: {reason}")

    def with_hint(self, error: Unserializable, request: Request) -> Unserializable:
        """*error*, about the class of *request*, and what else is to be allowed."""
        if not error.missing or self._is_pickle:
            return error
        learner = Learner(self._shared)
        values: dict[str, Any] = {"meta": request.meta, "cb_kwargs": request.cb_kwargs}
        try:
            values["state"] = Attributes(type(request), BASE_NAMES).take(request)
            Coder(learner).dumps(values)
        except Unserializable:
            return error
        if not learner.missing:
            return error
        return Unserializable(
            f"{error}; and {self._say_missing(learner)}",
            {*error.missing, *learner.missing},
        )

    def _say_missing(self, learner: Learner) -> str:
        paths = [*map(path_of, self._shared.classes), *learner.missing]
        hints = [how_to_import(path, cls) for path, cls in learner.missing.items()]
        return (
            "to allow the classes of these objects write"
            f" FRONTIER_SHARED_CLASSES = {json.dumps(paths)}{''.join(hints)}"
        )


def how_to_import(path: str, cls: type) -> str:
    """What to do first if *cls* cannot be imported by *path*; else ''."""
    if resolve(path) is cls:
        return ""
    return (
        f" (move {cls.__name__} to the level of its module, where it can be imported)"
    )


def _parts(fields: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for field, value in fields.items():
        if field == STATE:
            yield from ((f"its attribute {key}", part) for key, part in value.items())
        elif field in ("meta", "cb_kwargs"):
            for key, part in value.items():
                yield (
                    f"{field}[{quote(key)}]",
                    part if type(key) is str else {key: part},
                )
        else:
            yield f"its {field}", value
