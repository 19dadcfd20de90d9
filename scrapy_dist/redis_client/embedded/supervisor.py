"""The process that starts the embedded Redis, watches it and ends it.

Nothing is imported here but Python's own modules and what they do for this package.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from scrapy_dist.exceptions import EmbeddedRedisError
from scrapy_dist.redis_client.embedded import files
from scrapy_dist.redis_client.embedded.talk import clients_of, reply_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds that a server may take to save its data and end.
STOP_TIMEOUT = 60.0
#: Seconds between two looks of the supervisor at its server.
POLL_INTERVAL = 1.0


class _Supervisor:
    """Owns the server's life. Holds *lock*, an open file, as long as it runs."""

    def __init__(
        self, directory: Path, path: Path, linger: float, lock: IO[bytes]
    ) -> None:
        self.directory = directory
        self.path = path
        self.linger = linger
        self.lock = lock
        self.child: subprocess.Popen[bytes] | None = None
        #: Connections since the server's start, at the last look.
        self.connections = -1
        self.idle_since = time.monotonic()

    def run(self, server: str | None) -> None:
        """Start *server* (None: one is running), watch it, end it when it is idle."""
        if server is not None:
            self.child = start_server(server, self.directory, self.path)
        while self.has_server():
            files.bound_log(self.directory)
            if not self.is_idle():
                self.idle_since = time.monotonic()
            elif time.monotonic() - self.idle_since >= self.linger and self.stop():
                return
            time.sleep(POLL_INTERVAL)
        if self.child is not None and self.child.poll() is None:
            # Somebody deleted the folder: nobody can find the server any more.
            self.child.terminate()
            self.child.wait()

    def has_server(self) -> bool:
        """Whether the server runs, and in the folder that has our own lock."""
        ours = os.fstat(self.lock.fileno()).st_nlink > 0
        return ours and files.is_held(self.directory / files.SERVER_LOCK)

    def is_idle(self) -> bool:
        """Whether nobody is connected, nor was for a moment since the last look."""
        clients = clients_of(self.path)
        if clients is None:
            return False
        connected, connections = clients
        idle = connected == 1 and connections == self.connections + 1
        self.connections = connections
        return idle

    def stop(self) -> bool:
        """End the server if it is still idle; False if it goes on.

        Under the lock: nobody can be told that the server runs while it ends.
        """
        busy = (EmbeddedRedisError, FileNotFoundError)
        with contextlib.suppress(*busy), files.locked(self.directory, 0):
            if not self.is_idle():
                return False
            reply = reply_of(self.path, "SHUTDOWN")
            deadline = time.monotonic() + STOP_TIMEOUT
            while files.is_held(self.directory / files.SERVER_LOCK):
                if reply or time.monotonic() > deadline:
                    print(f"scrapy-dist: Redis does not end: {reply}", flush=True)
                    return False
                time.sleep(files.SHORT_WAIT)
            self.clean_up()
            self.lock.close()
            return True
        return False

    def clean_up(self) -> None:
        (self.directory / files.SOCKET).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        if self.path.parent != self.directory:
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()


def start_server(
    server: str, directory: Path, path: Path
) -> subprocess.Popen[bytes] | None:
    """Run *server* on the data in *directory*; None if one already runs there."""
    lock = files.take(directory / files.SERVER_LOCK)
    if lock is None:
        return None
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "logfile": str(directory / files.LOG),
        "pidfile": str(directory / files.PID),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    command = [server]
    for name, value in options.items():
        command += [f"--{name}", value]
    # Closing our copy of the lock leaves it to the server alone, for its whole life.
    with lock:
        return subprocess.Popen(
            command,
            # Redis 7 refuses to start when the locale of the environment is unknown.
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            pass_fds=[lock.fileno()],
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the supervisor of a folder; the calling process returns at once."""
    parser = argparse.ArgumentParser(
        prog="scrapy-dist's supervisor",
        description="Watches the embedded Redis of a project; started when needed.",
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--linger", type=float, required=True)
    parser.add_argument("--server", help="program to start, unless Redis runs")
    given = parser.parse_args(arguments)
    lock = files.take(given.directory / files.SUPERVISOR_LOCK)
    if lock is None:
        return
    # The lock is taken before the fork: whoever waits for this process to return sees
    # either a supervisor or a failure. The orphan is nobody's child, so no zombie.
    if os.fork():
        os._exit(0)
    _Supervisor(given.directory, given.socket, given.linger, lock).run(given.server)
