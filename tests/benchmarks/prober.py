"""A process that asks Redis PING a thousand times a second, beside its SLOWLOG.

Both go by the clock, so that they also see a Redis that waits for a processor. How long
it had one while a PING waited is what Linux says (``/proc/PID/schedstat``, see
https://docs.kernel.org/scheduler/sched-stats.html).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.light import Connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection as Pipe

    from typing_extensions import Self

#: Seconds between two PINGs.
_EVERY = 0.001
#: Milliseconds for which Redis may be blocked.
LIMIT_MS = 10.0
#: Entries of its SLOWLOG.
_ENTRIES = 10_000
#: Microseconds from which on Redis notes a command.
_SLOW_US = 500


@dataclass(frozen=True)
class Watched:
    """The longest command of Redis, and the longest wait for a PING, in ms.

    *slowest* is the name of that command, *above* is how many took more than LIMIT_MS,
    *working_ms* is the most that Redis was on a processor while a PING waited, *seconds*
    is how long Redis was watched.
    """

    command_ms: float
    slowest: str
    above: int
    ping_ms: float
    working_ms: float
    seconds: float


class Prober:
    """Watches the Redis at *port*; ends with the ``with`` block."""

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._connection = Connection(port)
        info = self._connection.command("INFO", "server").decode()
        pid = int(info.partition("process_id:")[2].split()[0])
        self._process = context.Process(
            target=_probe, args=(port, pid, theirs), daemon=True
        )
        self._process.start()
        self._connection.command("CONFIG", "SET", "slowlog-log-slower-than", _SLOW_US)
        self._connection.command("CONFIG", "SET", "slowlog-max-len", _ENTRIES)
        self._ask()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._pipe.send(False)
        self._process.join(10)
        self._pipe.close()
        self._connection.close()

    def watch(self, operation: Callable[[], object]) -> Watched:
        """Watch while *operation* runs, and a moment longer: memory is freed later."""
        self._connection.command("SLOWLOG", "RESET")
        self._ask()
        started = time.monotonic()
        operation()
        time.sleep(0.2)
        ping, working = self._ask()
        seconds = time.monotonic() - started
        entries = self._connection.command("SLOWLOG", "GET", _ENTRIES)
        # Emptying a long SLOWLOG takes its time, too, and is not what is watched.
        found = [
            (entry[2] / 1000, entry[3][0].decode("ascii", "replace"))
            for entry in entries
            if entry[3][0] != b"SLOWLOG"
        ]
        longest, name = max(found, default=(0.0, ""))
        above = sum(took > LIMIT_MS for took, _ in found)
        return Watched(longest, name, above, ping, working, seconds)

    def _ask(self) -> tuple[float, float]:
        """The longest wait, and work of Redis in a wait, since the last time, in ms."""
        self._pipe.send(True)
        longest: tuple[float, float] = self._pipe.recv()
        return longest


def _probe(port: int, pid: int, pipe: Pipe) -> None:
    # So that what is busy beside us does not look like a busy Redis.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    ping = b"*1\r\n$4\r\nPING\r\n"
    longest = most = 0.0
    on_processor = Path(f"/proc/{pid}/task/{pid}/schedstat")
    with Connection(port) as connection, on_processor.open("rb", buffering=0) as stat:

        def worked() -> float:
            """Seconds that the main thread of Redis was on a processor."""
            return int(os.pread(stat.fileno(), 100, 0).split()[0]) / 1e9

        while True:
            if pipe.poll():
                if not pipe.recv():
                    return
                pipe.send((longest * 1000, most * 1000))
                longest = most = 0.0
            before, started = worked(), time.perf_counter()
            connection.send(ping)
            connection.read()
            took = time.perf_counter() - started
            longest, most = max(longest, took), max(most, worked() - before)
            time.sleep(max(0.0, _EVERY - took))
