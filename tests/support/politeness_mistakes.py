"""Deliberate mistakes, each of which the simulation of politeness must notice.

    python -m tests.support.politeness_mistakes

tells of each after how many starts it was noticed. What the workers' own account covers
is not among them (who gives back what is not its own): tests/contract has that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.support.polite_worker import FAULTS
from tests.support.politeness_sim import Result, Setup, server_for_simulations, simulate

if TYPE_CHECKING:
    from tests.support.politeness_wire import Mistake

#: In the Lua: name -> text, and what takes its place.
IN_LUA: dict[str, Mistake] = {
    "a yield forgets the rest": (
        "string.format('%.0f', now + ms)",
        "string.format('%.0f', now)",
    ),
    "an emptied slot does not rest": (
        "if slot == name and tonumber(ms) > 0 then",
        "if false then",
    ),
    "what rests comes back at once": (
        "times[i] or ready",
        "ready",
    ),
    "a grant does not make an owner": (
        "mine[#mine + 1], mine[#mine + 2] = mark, name",
        "mine[1], mine[2] = mark, name",
    ),
    "each seat has all places": (
        "return math.floor(count / seats) + (seat < count % seats and 1 or 0)",
        "return count",
    ),
    "slots with a delay have many seats": (
        "delay > 0 and 1 or math.min(count, most_seats)",
        "math.min(count, most_seats)",
    ),
    "a dead worker's slot does not rest": (
        "string.format('%.0f', now + delay), name",
        "string.format('%.0f', now), name",
    ),
    "a dead worker's seats stay": ("if #taken > 0 then", "if false then"),
    "suspects do not wait for their slots": (
        "return ready <= now or ready == own",
        "return true",
    ),
    "a suspect does not bring its slot": (
        "mine[#mine + 1], mine[#mine + 2] = mark, slot",
        "granted[slot] = true",
    ),
    "a visitor does not wait": (
        "if is_mine and ready <= now then",
        "if is_mine and ready < own then",
    ),
    "a visitor takes no seat": (
        "call('ZADD', slots, string.format('%.0f', own), slot)",
        "call('ZCARD', slots)",
    ),
    "a visit forgets who rests": (
        "tonumber(mark or call('ZSCORE', resting, slot) or 0)\nlocal who",
        "tonumber(mark or 0)\nlocal who",
    ),
    "seats are opened at once": ("and under_way <= count then", "then"),
    "what is late is carried out": ("> tonumber(round)", "> 1e9"),
    "the clock of slots goes back": (
        "math.min(math.max(now, seen), seen + 10000)",
        "math.min(now, seen + 10000)",
    ),
}
#: In the worker, see `polite_worker.FAULTS`.
IN_THE_WORKER = tuple(sorted(FAULTS))


def rounds() -> Iterator[Setup]:
    """In which all kinds of things happen often."""
    for seed in range(1, 9):
        yield Setup(
            seed=seed,
            workers=6,
            slots=12,
            per=150,
            delay=(400, 1000)[seed % 2],
            own_rules=0.6,
            chained=seed % 3 > 0,
            latency=(80, 300)[seed % 2],
            # Deaths mend a lot.
            deaths=0.1 if seed % 4 else 0.0,
            freezes=0.2 if seed % 4 else 0.0,
            lost=0.05,
            late=0.5,
            visits=1.0,
            leaps=(0.0, 0.02)[seed % 4 == 3],
        )
    # Of no delay and of a short one, in turn.
    for seed in range(9, 13):
        yield Setup(
            seed=seed,
            workers=6,
            slots=4,
            per=1500,
            delay=50,
            own_rules=0.0,
            longest=100,
            chained=False,
            latency=300,
            capacity=(100,),
            freezes=0.0,
            changes=(0.5, 3.0)[seed % 2],
        )


def notice(path: str, name: str) -> Result:
    """The rounds with the mistake *name*, until it is noticed."""
    total = Result()
    faults = (name,) if name in FAULTS else ()
    for setup in rounds():
        total.add(
            simulate(
                path, setup, mistake=IN_LUA.get(name), faults=faults, until_broken=True
            )
        )
        if total.broken:
            break
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    missed = 0
    with server_for_simulations() as path:
        for name in parser.parse_args().names or ["", *IN_LUA, *IN_THE_WORKER]:
            result = notice(path, name)
            is_right = bool(result.broken) == bool(name)
            missed += not is_right
            told = result.broken[0] if result.broken else "nothing broken"
            print(
                f"{'' if is_right else 'NOT NOTICED '}{name or 'no mistake'}:"
                f" {result.starts} starts, {result.wall:.1f} s, {told}",
                flush=True,
            )
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
