from __future__ import annotations

from tests.support.fake_redis import backend, client

__all__ = ["backend", "client"]
