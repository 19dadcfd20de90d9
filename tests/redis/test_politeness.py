"""No two starts of a slot are too close, and no more of its places are taken than it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.politeness_mistakes import IN_LUA, IN_THE_WORKER, notice
from tests.support.politeness_sim import Setup, simulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.redis_server import RedisServer


@pytest.fixture
def path(make_redis: Callable[..., RedisServer], tmp_path: Path) -> str:
    """The unix socket of a redis-server of this test's own."""
    path = str(tmp_path / "socket")
    make_redis(unixsocket=path)
    return path


#: The rest is done by `tox -e politeness`.
ROUNDS = [
    Setup(seed=1, workers=1, slots=4, per=60),
    Setup(seed=2, workers=3, slots=10, per=60, delay=50, chained=False),
    Setup(seed=3, workers=8, slots=6, per=60, deaths=0.1, freezes=0.2, lost=0.03),
    Setup(seed=4, workers=4, slots=6, per=60, delay=0, places=3, own_rules=0.3),
    Setup(seed=5, workers=4, slots=6, per=60, leaps=0.1),
    Setup(seed=6, workers=4, slots=6, per=60, rollbacks=0.1),
]


@pytest.mark.parametrize("setup", ROUNDS, ids=lambda setup: str(setup.seed))
def test_simulated_crawl_is_polite_and_done(path, setup):
    result = simulate(path, setup)
    assert result.broken == [], f"{setup}: {result}"
    assert result.starts >= setup.slots * setup.per
    incidents = result.counts["leaps"] + result.counts["rollbacks"]
    assert result.excused == 0 or incidents, f"{setup}: {result}"


@pytest.mark.parametrize(
    "name", ["a yield forgets the rest", "a visitor does not wait", "no spacing"]
)
def test_mistake_is_noticed(path, name):
    """Of these at once; of the others by `tests.support.politeness_mistakes`."""
    assert name in {*IN_LUA, *IN_THE_WORKER}
    assert notice(path, name).broken
