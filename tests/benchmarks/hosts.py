"""Many hosts: what they cost Redis, and how fast workers are that wait for hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks import host_capacity

if TYPE_CHECKING:
    from tests.benchmarks.figures import Figure


def run(quick: bool, pairs: int) -> list[Figure]:
    """All figures of hosts."""
    return host_capacity.run(quick=quick, rounds=pairs)
