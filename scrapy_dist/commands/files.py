"""Files that commands write: nobody else's file, and nobody else's to read.

A folder may be one where others may write, too, such as /tmp. So a file is made under a
name that nobody can guess, never through a link, readable by its owner alone, and gets
its name when it is complete.
"""

from __future__ import annotations

import gzip
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from scrapy_dist.base.escaping import quote
from scrapy_dist.exceptions import ConfigurationError


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
    part = tempfile.NamedTemporaryFile(  # noqa: SIM115
        dir=path.parent, prefix=f".{path.name[:200]}.", suffix=".part", delete=False
    )
    try:
        with part:
            if path.suffix == ".gz":
                with gzip.GzipFile(path.stem, "wb", fileobj=part) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield cast("IO[bytes]", part)
        check_name(path, overwrite=overwrite)
        Path(part.name).replace(path)
    finally:
        with suppress(OSError):
            Path(part.name).unlink()
