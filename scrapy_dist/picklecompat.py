"""Pickle as serializer: ``SCHEDULER_SERIALIZER = "scrapy_dist.picklecompat"``.

The name is scrapy-redis'. It stores whatever pickle can, such as items in ``meta``.
It is not the default, because loading a pickle runs what its author wants: with it,
everybody who can write to Redis can run code on every worker.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["dumps", "loads"]


def dumps(obj: Any) -> bytes:
    """Pickle *obj* with the newest protocol."""
    return pickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL)


def loads(s: bytes) -> Any:
    """Unpickle *s*, which must come from somebody trusted with this machine."""
    return pickle.loads(s)  # noqa: S301 - the setting asks for it
