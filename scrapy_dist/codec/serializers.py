"""Serializers of requests: what SCHEDULER_SERIALIZER names."""

from __future__ import annotations

import json
from typing import Any, Protocol, cast

from scrapy_dist.codec.compact import Shorthand
from scrapy_dist.codec.envelope import JSON, MSGPACK, OTHER, PICKLE
from scrapy_dist.codec.objects import resolve
from scrapy_dist.exceptions import ConfigurationError


class Serializer(Protocol):
    """What SCHEDULER_SERIALIZER names: usually a module."""

    def dumps(self, obj: Any, /) -> bytes | str: ...

    def loads(self, data: bytes, /) -> Any: ...


def to_bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def format_of(serializer: Serializer) -> bytes:
    """The first byte of what *serializer* writes, found out by trying."""
    if isinstance(serializer, Shorthand):
        return MSGPACK
    try:
        sample = to_bytes(serializer.dumps({"url": ""}))
    except Exception as e:
        raise ConfigurationError(
            f"SCHEDULER_SERIALIZER = {serializer!r} cannot dump a dict: {e!r}."
            " Name a module whose dumps() turns a dict into bytes or text."
        ) from e
    if sample[:1] == PICKLE:
        return PICKLE
    return JSON if _is_json(sample) else OTHER


def _is_json(data: bytes) -> bool:
    # The brace alone does not tell: marshal's dicts begin with one too.
    try:
        return data.startswith(JSON) and isinstance(json.loads(data), dict)
    except ValueError:
        return False


def load_serializer(value: Any) -> Serializer | None:
    if value is None:
        return None
    serializer = resolve(value) if isinstance(value, str) else value
    if serializer is None or not all(
        callable(getattr(serializer, name, None)) for name in ("dumps", "loads")
    ):
        problem = (
            "cannot be imported" if serializer is None else "has no dumps and loads"
        )
        raise ConfigurationError(
            f"SCHEDULER_SERIALIZER = {value!r} {problem}. Name a module with both, such"
            " as 'json' or 'scrapy_dist.picklecompat', or leave the setting out to use"
            " MessagePack."
        )
    return cast("Serializer", serializer)
