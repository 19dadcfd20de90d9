"""The files and locks of an embedded Redis."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from scrapy_dist.base.trust import Untrusted, open_private, own_folder
from scrapy_dist.exceptions import EmbeddedRedisError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Whether this system can lock files; Windows cannot.
CAN_LOCK = fcntl is not None

#: Names in the data directory.
LOCK = "lock"
SUPERVISOR_LOCK = "supervisor.lock"
SERVER_LOCK = "server.lock"
SOCKET = "redis.sock"
PID = "redis.pid"
LOG = "redis.log"
#: Bytes of the longest usable path of a unix socket: 107 on Linux, 103 on macOS.
MAX_SOCKET_PATH = 100
#: Bytes of redis.log above which it becomes redis.log.1.
MAX_LOG_SIZE = 1_000_000
#: Seconds between two looks at something that happens soon.
SHORT_WAIT = 0.02
ELSEWHERE = (
    "Set FRONTIER_EMBEDDED_DIR to a local folder that can be written,"
    " or REDIS_URL to a running Redis."
)


#: Files that we or the server write into.
WRITTEN = (LOCK, SUPERVISOR_LOCK, SERVER_LOCK, PID, LOG, f"{LOG}.1")


def is_ours(name: str) -> bool:
    """Whether a file of that name in the data directory is one that matters here."""
    return (
        name in WRITTEN
        or name == "appendonlydir"
        or name.endswith((".aof", ".rdb", ".manifest"))
    )


def socket_path(directory: Path) -> Path:
    """Where the socket is, or will be if no server runs.

    A path that is too long for a socket is replaced by one in the folder for temporary
    files; the link ``redis.sock`` leads there, because TMPDIR may differ between the
    processes of a project.
    """
    path = directory / SOCKET
    if is_held(directory / SERVER_LOCK):
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


def take(path: Path, *, create: bool = True) -> IO[bytes] | None:
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


def is_held(path: Path) -> bool:
    try:
        # Looking makes no file: the folder may be about to be deleted.
        file = take(path, create=False)
    except FileNotFoundError:
        return False
    if file is None:
        return True
    file.close()
    return False


@contextlib.contextmanager
def locked(directory: Path, timeout: float) -> Iterator[None]:
    """Hold the lock under which the server is started, joined and stopped."""
    deadline = time.monotonic() + timeout
    while (file := take(directory / LOCK)) is None:
        if time.monotonic() >= deadline:
            raise EmbeddedRedisError(
                f"{directory / LOCK} is held by another process for {timeout:.0f}"
                f" seconds. If several machines share the folder: {ELSEWHERE}"
            )
        time.sleep(SHORT_WAIT)
    with file:
        yield


def bound_log(directory: Path) -> None:
    # Redis opens its log for every line, so it can be moved away at any time.
    log = directory / LOG
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_SIZE:
            log.replace(directory / f"{LOG}.1")
