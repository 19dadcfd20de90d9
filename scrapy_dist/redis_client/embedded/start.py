"""Starting the embedded Redis, or joining it."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from scrapy_dist.base.escaping import escape
from scrapy_dist.base.trust import (
    Untrusted,
    check_files,
    open_private,
    own_folder,
    read_private,
)
from scrapy_dist.exceptions import EmbeddedRedisError
from scrapy_dist.redis_client.embedded import files
from scrapy_dist.redis_client.embedded.program import find_server, version_of
from scrapy_dist.redis_client.embedded.talk import reply_of

#: Seconds that a server may be silent while it starts. Loading data is not silence.
START_TIMEOUT = 30.0
#: Seconds to wait for other processes that start or join the server.
LOCK_TIMEOUT = 300.0

#: What the system calls a full disk, in Redis' replies and log.
_FULL = os.strerror(errno.ENOSPC)


def ensure_server(directory: Path, *, linger: float) -> Path:
    """Start the Redis of *directory*, or join it; return the path of its socket.

    Any number of processes may call this at once; one server comes out. It ends,
    saving its data, *linger* seconds after its last client left; the value of the
    process that starts the supervisor counts. Blocks until the server has loaded its
    data: call it in a thread. Raises EmbeddedRedisError.
    """
    if not files.CAN_LOCK:
        raise EmbeddedRedisError(
            "The embedded Redis needs Linux or another Unix."
            " Set REDIS_URL to a running Redis."
        )
    try:
        # Queued requests may hold cookies and passwords, and a server obeys what it
        # finds: folder and files are this user's alone.
        directory = own_folder(directory)
        check_files(directory, is_ours=files.is_ours, written=files.WRITTEN)
        with files.locked(directory, LOCK_TIMEOUT):
            return _start_or_join(directory, linger)
    except Untrusted as e:
        raise EmbeddedRedisError(
            f"The embedded Redis does not trust its folder: {e}. Mend that, or set"
            " FRONTIER_EMBEDDED_DIR to a folder that nobody else can change, or"
            " REDIS_URL to a running Redis."
        ) from e
    except OSError as e:
        raise EmbeddedRedisError(
            f"The embedded Redis in {directory} cannot be used: {e}. {files.ELSEWHERE}"
        ) from e


#: The folder of ``scrapy_dist``.
_PACKAGE = str(Path(__file__).parents[2])
#: Runs the supervisor by exactly the code of this process, wherever that was found
#: (installed, editable, in PYTHONPATH). Nothing else is imported but Python's own
#: modules: ``-I`` keeps the folders that a project, an environment variable or the
#: current directory name off the search path.
_SUPERVISE = (
    "import sys, types;"
    " package = types.ModuleType('scrapy_dist');"
    " package.__path__ = [sys.argv.pop(1)];"
    " sys.modules['scrapy_dist'] = package;"
    " from scrapy_dist.redis_client.embedded.supervisor import main;"
    " main()"
)


def _start_or_join(directory: Path, linger: float) -> Path:
    path = files.socket_path(directory)
    log_start, is_last = None, False
    while True:
        if not files.is_held(directory / files.SUPERVISOR_LOCK):
            if log_start is not None and is_last:
                raise _not_started(directory, log_start)
            # What seems to run may be about to end: once more, then.
            is_running = files.is_held(directory / files.SERVER_LOCK)
            is_last = log_start is not None or not is_running
            log_start = _launch(directory, path, linger)
        # Not ready: the supervisor that we found, or launched, has ended.
        if _wait_until_ready(directory, path):
            if log_start is not None and _was_torn(directory, log_start):
                # The half script at the end of the file would be played at the next
                # start: Redis leaves its MULTI, without an EXEC, in the file.
                reply_of(path, "BGREWRITEAOF")
            return path


def _launch(directory: Path, path: Path, linger: float) -> int:
    """Start a supervisor, which starts the server unless it runs.

    Returns the size of the log before, so that an error shows only what is new.
    """
    command = [sys.executable, "-I", "-W", "ignore", "-c", _SUPERVISE, _PACKAGE]
    command += [str(directory), "--socket", str(path), "--linger", str(linger)]
    if not files.is_held(directory / files.SERVER_LOCK):
        server = find_server()
        _check_data(directory, server)
        command += ["--server", server]
    files.bound_log(directory)
    with open_private(directory / files.LOG) as log:
        log_start = log.seek(0, os.SEEK_END)
        # Its own session keeps the terminal's Ctrl-C away from it.
        result = subprocess.run(
            command,
            cwd="/",
            umask=0o077,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )
    if result.returncode:
        raise _not_started(directory, log_start)
    return log_start


def _check_data(directory: Path, server: str) -> None:
    # Redis 6.2 does not see the folder into which 7.0 and later write: it would start
    # empty, and the crawl would be lost without a word.
    if (directory / "appendonlydir").is_dir() and version_of(server) < (7, 0):
        raise EmbeddedRedisError(
            f"The data in {directory} was written by Redis 7 or newer and cannot be"
            f" read by {server}. Install redis-server 7 or newer, or set"
            " FRONTIER_EMBEDDED_DIR to another folder to start afresh."
        )


def _wait_until_ready(directory: Path, path: Path) -> bool:
    """Wait for the server's PONG; False if its supervisor ended before."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        reply = reply_of(path, "PING")
        if reply == "+PONG":
            return True
        if reply.startswith("-MISCONF"):
            raise _not_writable(directory, reply)
        if reply.startswith("-LOADING"):
            deadline = time.monotonic() + START_TIMEOUT
        elif not files.is_held(directory / files.SUPERVISOR_LOCK):
            return False
        if time.monotonic() > deadline:
            raise EmbeddedRedisError(
                f"The embedded Redis in {directory} does not answer ({reply or path})."
                f" End it with `kill {_read_pid(directory)}` and start again; its log"
                f" is {directory / files.LOG}."
            )
        time.sleep(files.SHORT_WAIT)


def _not_writable(directory: Path, found: str) -> EmbeddedRedisError:
    what = "is full" if _FULL in found else "cannot be written"
    reason = found.lstrip("-").removeprefix("MISCONF ").strip().rstrip(".")
    return EmbeddedRedisError(
        f"The disk of the embedded Redis in {directory} {what}: {reason}. Make room there:"
        " Redis and the crawls go on by themselves then, and nothing is lost."
    )


def _read_pid(directory: Path) -> str:
    try:
        found = re.fullmatch(
            rb"\s*([0-9]{1,10})\s*", read_private(directory / files.PID, 100)
        )
    except OSError:
        found = None
    return found[1].decode() if found else "PID"


def _not_started(directory: Path, log_start: int) -> EmbeddedRedisError:
    log = directory / files.LOG
    try:
        with open_private(log, create=False) as file:
            file.seek(log_start)
            text = file.read(files.MAX_LOG_SIZE).decode("utf-8", "replace")
            lines = [escape(line) for line in text.split("\n") if line]
    except OSError as e:
        lines = [str(e)]
    full = next((line for line in reversed(lines) if _FULL in line), None)
    if full is not None:
        return _not_writable(directory, full)
    tail = " | ".join(line.strip() for line in lines[-15:]) or "(empty)"
    return EmbeddedRedisError(
        f"The embedded Redis in {directory} did not start. {files.ELSEWHERE}"
        f" The end of {log}: {tail}"
    )


def _was_torn(directory: Path, log_start: int) -> bool:
    """Whether the server, by its log, has started with a file that ends too early."""
    with open_private(directory / files.LOG, create=False) as log:
        log.seek(log_start)
        return b"aof-load-truncated" in log.read()
