"""The fixtures of tests/support/fake_redis.py."""

from tests.support.fake_redis import backend, client

__all__ = ["backend", "client"]
