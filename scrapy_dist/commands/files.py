"""Files that commands write: nobody else's file, and nobody else's to read.

A folder may be one where others may write, too, such as /tmp. So a file is made under a
name that nobody can guess, never through a link, readable by its owner alone, and gets
its name when it is complete.
"""

from __future__ import annotations

import gzip
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, cast

from scrapy_dist.base.escaping import quote
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: The owner may read and write it.
_MODE = 0o600


def check_name(path: Path, *, overwrite: bool) -> None:
    """Raise ConfigurationError if *path* is there and must stay as it is."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # not there, or opening tells what is wrong
    if not overwrite:
        raise ConfigurationError(
            f"{quote(str(path), 200)} is there already. Name another file, or say"
            " --overwrite."
        )
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise ConfigurationError(
            f"{quote(str(path), 200)} is no file, and is not overwritten. Name a file."
        )


@contextmanager
def written(path: Path, *, overwrite: bool = False) -> Iterator[IO[bytes]]:
    """A file for writing that becomes *path* when it is complete; .gz is compressed.

    A link of that name is replaced, not followed. Raises ConfigurationError as
    `check_name`, also for one that came meanwhile, and OSError.
    """
    check_name(path, overwrite=overwrite)
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")
    descriptor = os.open(part, _FLAGS, _MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if path.suffix == ".gz":
                with gzip.GzipFile(path.stem, "wb", fileobj=file) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield file
        check_name(path, overwrite=overwrite)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()
