"""Folders and files that nobody but this user, and root, can have prepared.

A server that is started in a folder obeys what lies there, and writes where links in it
lead. So the folder and all folders above it are looked at without following a link, and
so are the files in it.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import IO

#: Links on the way to a folder, as many as Linux follows.
_MAX_LINKS = 40
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Untrusted(Exception):
    """Somebody else may have prepared what is at a path.

    ``str(error)`` names the path, says what is wrong, and how to mend it.
    """


def own_folder(path: Path) -> Path:
    """*path* without links; it is made, with mode 0700, where it is not there.

    Belongs to this user, and only this user and root can change what is in it, or which
    folder it is. Raises Untrusted, or OSError.
    """
    if not path.is_absolute():
        path = Path.cwd() / path
    current = Path(path.anchor)
    _check_parent(current, current.lstat())
    waiting = list(reversed(path.parts[1:]))
    links = 0
    while waiting:
        name = waiting.pop()
        if name == "..":
            current = current.parent
            continue
        here = current / name
        status = _look(here, 0o755 if waiting else 0o700)
        if stat.S_ISLNK(status.st_mode):
            _check_owner(here, status)
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(here))
            target = here.readlink()
            if target.is_absolute():
                current = Path(target.anchor)
            waiting += reversed(target.parts[target.is_absolute() :])
            continue
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(here)
            )
        _check_parent(here, status)
        current = here
    status = current.lstat()
    if status.st_uid != os.geteuid():
        raise Untrusted(_of_another(current, status))
    if status.st_mode & _OTHERS_WRITE:
        raise Untrusted(_others_write(current, status))
    return current


def _look(path: Path, mode: int) -> os.stat_result:
    """The status of *path*, which becomes a folder if there is nothing."""
    try:
        return path.lstat()
    except FileNotFoundError:
        # Another process may make it first; whose it is, is looked at in any case.
        with suppress(FileExistsError):
            path.mkdir(mode)
        return path.lstat()


def _check_parent(path: Path, status: os.stat_result) -> None:
    """Nobody else may exchange what is in the folder *path*."""
    _check_owner(path, status)
    writable = status.st_mode & _OTHERS_WRITE
    # In a sticky folder, like /tmp, each may exchange only what belongs to them; whose
    # the next one is, is looked at.
    if not writable or status.st_mode & stat.S_ISVTX:
        return
    if writable == stat.S_IWGRP and _is_own_group(status.st_gid):
        return
    raise Untrusted(_others_write(path, status))


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise Untrusted(_of_another(path, status))


def _of_another(path: Path, status: os.stat_result) -> str:
    return (
        f"{path} belongs to the user {status.st_uid}, who could change what is there,"
        f" and not to you ({os.geteuid()}) or root"
    )


def _others_write(path: Path, status: os.stat_result) -> str:
    mode = stat.S_IMODE(status.st_mode)
    return (
        f"{path} has the mode {mode:04o}: others may write there."
        f" `chmod go-w {shlex.quote(str(path))}` ends that"
    )


def _is_own_group(gid: int) -> bool:
    """Whether the group has one member, this user: many systems give each user one.

    Root's is not one of them.
    """
    import grp  # noqa: PLC0415  Unix only
    import pwd  # noqa: PLC0415  Unix only

    try:
        group = grp.getgrgid(gid)
        user = pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return (
        os.geteuid() != 0
        and group.gr_name == user.pw_name
        and set(group.gr_mem) <= {user.pw_name}
    )


def check_files(
    folder: Path, *, is_ours: Callable[[str], bool], written: Collection[str]
) -> None:
    """Raise Untrusted for files of *folder* that somebody else has put there.

    Only those whose name *is_ours*. None may be a link or belong to others, and those
    that are *written* into may have no second name. What others may read of them they
    may read no more. *folder* is one of `own_folder`.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if is_ours(entry.name))
    for name in names:
        path = folder / name
        try:
            status = path.lstat()
            _check_file(path, status, alone=name in written)
            if stat.S_ISDIR(status.st_mode):
                check_files(path, is_ours=lambda _: True, written=())
        except FileNotFoundError:
            continue  # the server has removed it meanwhile


def _check_file(path: Path, status: os.stat_result, *, alone: bool) -> None:
    remove = f"`rm {shlex.quote(str(path))}` removes it"
    if status.st_uid != os.geteuid():
        raise Untrusted(f"{_of_another(path, status)}. {remove}")
    if stat.S_ISLNK(status.st_mode):
        raise Untrusted(f"{path} is a link, and is not followed. {remove}")
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise Untrusted(f"{path} is no file. {remove}")
    if alone and stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise Untrusted(f"{path} is a hard link to another file. {remove}")
    if status.st_mode & 0o077:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fchmod(fd, stat.S_IMODE(status.st_mode) & 0o700)
        finally:
            os.close(fd)


def open_private(path: Path, *, create: bool = True) -> IO[bytes]:
    """The file *path*, to read and to append to; a new one is this user's alone.

    Raises OSError for a link, and for what is no file.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags | (os.O_CREAT if create else 0), 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "no file", str(path))
    return os.fdopen(fd, "a+b")


def read_private(path: Path, most: int) -> bytes:
    """The first *most* bytes of *path*. Raises OSError, also for a link."""
    with open_private(path, create=False) as file:
        file.seek(0)
        return file.read(most)
