"""Runs side by side: alternating, compared with their neighbour, medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.benchmarks.figures import Figure

T = TypeVar("T")


@dataclass(frozen=True)
class Pair(Generic[T]):
    """A run and its neighbour of what it is compared with."""

    base: T
    other: T


def alternate(
    base: Callable[[], T], others: dict[str, Callable[[], T]], rounds: int
) -> dict[str, list[Pair[T]]]:
    """Run everything *rounds* times so that each run of *others* is next to a *base*.

    B 1 2 B 3 4 B 1 2 …: what else the machine does hits both sides of a pair alike.
    """
    order = [name for _ in range(rounds) for name in others]
    pairs: dict[str, list[Pair[T]]] = {name: [] for name in others}
    neighbour = base()
    for at, name in enumerate(order):
        if at % 2 == 0:
            pairs[name].append(Pair(neighbour, others[name]()))
        else:
            run = others[name]()
            neighbour = base()
            pairs[name].append(Pair(neighbour, run))
    return pairs


def compare(
    name: str,
    pairs: Sequence[Pair[T]],
    value: Callable[[T], float],
    *,
    unit: str,
    base_name: str,
    at_least: float | None = None,
    note: str = "",
) -> Figure:
    """The figure of a ratio: *value* of our run to that of its neighbour, *at_least*."""
    ratios = [value(pair.other) / value(pair.base) for pair in pairs]
    ratio = statistics.median(ratios)
    spread = f"ratios {min(ratios):.2f} to {max(ratios):.2f}"
    return Figure(
        name=name,
        ours=statistics.median(value(pair.other) for pair in pairs),
        unit=unit,
        base=statistics.median(value(pair.base) for pair in pairs),
        base_name=base_name,
        ratio=ratio,
        target="" if at_least is None else f">= {at_least:.2f}",
        met=None if at_least is None else round(ratio, 2) >= at_least,
        samples=[round(each, 4) for each in ratios],
        note="; ".join(filter(None, [spread, note])),
    )


def below(
    name: str,
    samples: Sequence[float],
    *,
    unit: str,
    at_most: float | None = None,
    base: float | None = None,
    base_name: str = "",
    note: str = "",
) -> Figure:
    """The figure of a median that must not be more than *at_most*."""
    ours = statistics.median(samples)
    return Figure(
        name=name,
        ours=ours,
        unit=unit,
        base=base,
        base_name=base_name,
        target="" if at_most is None else f"<= {at_most:g}",
        met=None if at_most is None else ours <= at_most,
        samples=[round(sample, 4) for sample in samples],
        note=note,
    )
