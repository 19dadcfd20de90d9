"""Keys of dicts and sets whose hashes a stranger can choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy_dist.exceptions import BadPayload

if TYPE_CHECKING:
    from collections.abc import Collection

#: Keys of one dict or set whose hash a stranger can choose. Equal hashes make a table
#: quadratic: 20,000 such integers take three seconds, these take 0.1.
MAX_ODD_KEYS = 4096
#: Types whose hash cannot be chosen freely: salted, or of 64 bits.
_SAFE_KEYS = frozenset({str, bytes, float, bool, type(None)})


def check_keys(keys: Collection[Any]) -> None:
    """Raise BadPayload if too many of *keys* have a hash that can be chosen."""
    if len(keys) <= MAX_ODD_KEYS:
        return
    odd = sum(1 for key in keys if type(key) not in _SAFE_KEYS and not is_int64(key))
    if odd > MAX_ODD_KEYS:
        raise BadPayload(
            f"{odd} keys of one dict or set are neither text nor small numbers;"
            f" at most {MAX_ODD_KEYS} can be"
        )


def is_int64(value: Any) -> bool:
    """Whether *value* is an int that MessagePack has."""
    return type(value) is int and -(1 << 63) <= value < 1 << 64
