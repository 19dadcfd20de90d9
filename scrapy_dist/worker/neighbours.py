"""The other workers on this machine, and whether their processes are gone.

A worker that was killed is silent, and so is one that is frozen or cut off: only time
tells, FRONTIER_WORKER_TTL. On one machine the kernel tells at once. Each worker stores
which process it is: the boot of the machine, the namespaces that the numbers are of, the
pid, and when it was started. Where pidfds are to be had the event loop waits for the end
of each; else /proc is looked at with each beat. Without /proc the TTL has to do.

What stands in Redis is untrusted: it can make a worker look at a pid, no more.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

__all__ = ["Neighbours", "find_self", "is_gone", "process_age"]

#: Neighbours that are watched at the most.
_MOST = 100
#: How often one process is declared dead: a last beat may have been on its way. One that
#: comes back yet is on another machine, a copy of this one.
_TELL = 2
#: Processes that were declared dead and are remembered.
_MOST_TOLD = 1000
#: Seconds between two questions who is here, for each 100 workers of the crawl.
_ASK = 1.0

_PROCESS = re.compile(r"([1-9][0-9]{0,9}) ([0-9]{1,20})")

Key = tuple[str, str]


def find_self() -> tuple[str, str] | None:
    """Machine and process of this worker; None where the system does not tell."""
    pid = os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        if str(pid) != str(Path("/proc/self").readlink()):
            return None  # that /proc is of another namespace
        spaces = [
            str(Path(f"/proc/self/ns/{kind}").stat().st_ino)
            for kind in ("pid", "time")
            if Path(f"/proc/self/ns/{kind}").exists()
        ]
        _, start = _read_stat(pid)
    except (OSError, ValueError, IndexError):
        return None
    return " ".join([boot, "/".join(spaces)]), f"{pid} {start}"


def _read_stat(pid: int) -> tuple[bytes, int]:
    """State and time of start, in ticks since the boot."""
    data = Path(f"/proc/{pid}/stat").read_bytes()
    fields = data[data.rindex(b")") + 2 :].split()  # a name may have spaces
    return fields[0], int(fields[19])


def process_age() -> float:
    """Seconds since this process was started; 0 where the system does not tell."""
    try:
        _, start = _read_stat(os.getpid())
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        return max(0.0, now - start / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def is_gone(pid: int, start: int) -> bool | None:
    """Whether the process that was started at *start* has ended; None: unknown."""
    try:
        state, started = _read_stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        pass
    except (OSError, ValueError, IndexError):
        return None
    else:
        return started != start or state in (b"Z", b"X", b"x")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return None  # it is there, and hidden (hidepid)


class Neighbours:
    """Watches the processes of other workers of this machine.

    *gone* are the number and process of workers that Redis is to be told of, with
    ``told`` afterwards; *on_gone* is called when there is one more. *seen*: whether the
    processes can be seen at all.
    """

    def __init__(self, on_gone: Callable[[], None], *, seen: bool = True) -> None:
        self.gone: dict[Key, None] = {}
        self.seen = seen
        self._on_gone = on_gone
        #: How often workers had come when it was last asked who is here.
        self._met = self._heard = -1
        self._ask_at = 0.0
        #: pidfd of each that is watched; -1: /proc is looked at.
        self._watched: dict[Key, int] = {}
        self._told: dict[Key, int] = {}
        self._every = _ASK

    def heard(self, met: int, alive: int) -> None:
        """A beat told how often workers have come, and how many are *alive*."""
        if met != self._heard:
            self._heard = met
            # Where many come at once, all of them would ask for each.
            self._ask_at = max(self._ask_at, time.monotonic())
        self._every = _ASK * max(1.0, alive / 100)

    def ask_in(self) -> float | None:
        """Seconds until Redis should be asked who is here; None: no need."""
        if not self.seen or self._met == self._heard:
            return None
        return max(0.0, self._ask_at - time.monotonic())

    def see(self, met: int, others: Iterable[Key]) -> None:
        """Redis has told who is here: the number and process of each."""
        self._met = met
        if self._heard == -1:
            self._heard = met
        self._ask_at = time.monotonic() + self._every
        here = dict.fromkeys(list(others)[:_MOST])
        for key in self._watched.keys() - here.keys():
            self._forget(key)
        for key in here:
            if key not in self._watched and key not in self.gone:
                self._watch(key)

    def ask_again(self) -> None:
        """What was told of this worker, or of others, may not be so any more."""
        self._met = -2

    def look(self) -> None:
        """Look after those that cannot be waited for."""
        for key, fd in list(self._watched.items()):
            pid, start = _parse(key[1]) or (0, 0)
            if fd < 0 and is_gone(pid, start):
                self._is_gone(key)

    def told(self, gone: Sequence[Key]) -> None:
        """Redis knows of these."""
        for key in gone:
            self.gone.pop(key, None)
            self._told[key] = self._told.get(key, 0) + 1
        self.ask_again()
        while len(self._told) > _MOST_TOLD:
            del self._told[next(iter(self._told))]

    def close(self) -> None:
        for key in list(self._watched):
            self._forget(key)

    def _watch(self, key: Key) -> None:
        found = _parse(key[1])
        if found is None or found[0] == os.getpid():
            return
        if self._told.get(key, 0) >= _TELL:
            return
        pid, start = found
        fd = _open(pid)
        # Only now is it certain that the descriptor is of that process.
        gone = is_gone(pid, start)
        if gone is None and fd >= 0:
            os.close(fd)
            return
        self._watched[key] = fd
        if gone:
            self._is_gone(key)
        elif fd >= 0:
            try:
                asyncio.get_running_loop().add_reader(fd, self._is_gone, key)
            except (NotImplementedError, OSError, ValueError):
                os.close(fd)
                self._watched[key] = -1

    def _is_gone(self, key: Key) -> None:
        self._forget(key)
        self.gone[key] = None
        self._on_gone()

    def _forget(self, key: Key) -> None:
        fd = self._watched.pop(key)
        if fd >= 0:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)


def _open(pid: int) -> int:
    """A pidfd, or -1."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError, OverflowError):
        return -1


def _parse(process: str) -> tuple[int, int] | None:
    """Pid and time of start; None for what no worker has written."""
    found = _PROCESS.fullmatch(process)
    return None if found is None else (int(found[1]), int(found[2]))
