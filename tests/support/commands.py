"""Run ``scrapy frontier`` as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.support.project import SETTINGS, package_parent

if TYPE_CHECKING:
    from pathlib import Path


def run_frontier(
    folder: Path,
    *args: str,
    settings: dict[str, Any] | None = None,
    stdout: Any = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """``scrapy frontier ARGS`` in *folder*; *settings* are those of its project."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONPATH"] = package_parent()
    env["CRAWL_SETTINGS"] = repr({**SETTINGS, **(settings or {})})
    return subprocess.run(
        [sys.executable, "-m", "scrapy", "frontier", *args],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
