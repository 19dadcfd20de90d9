"""Run ``scrapy frontier`` as a user does: in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from scrapy.exceptions import UsageError
from scrapy.settings import Settings

from scrapy_dist.commands.frontier import Command
from tests.support.project import SETTINGS, package_parent

if TYPE_CHECKING:
    from pathlib import Path


def run_frontier(
    folder: Path,
    *args: str,
    settings: dict[str, Any] | None = None,
    stdout: Any = subprocess.PIPE,
    environ: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """``scrapy frontier ARGS`` in *folder*; *settings* are those of its project."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONPATH"] = package_parent()
    env.update(environ or {})
    env["CRAWL_SETTINGS"] = repr({**SETTINGS, **(settings or {})})
    return subprocess.run(
        [sys.executable, "-m", "scrapy", "frontier", *args],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=200,
        check=False,
    )


def run_here(*args: str) -> tuple[int, str, str]:
    """``scrapy frontier ARGS`` in this process, outside any project.

    Returns its exit code, and what it wrote to stdout and stderr.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogatepass") for _ in "12")
    command = Command()
    command.settings = Settings(command.default_settings)
    parser = argparse.ArgumentParser(prog="scrapy frontier", conflict_handler="resolve")
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command.add_options(parser)
            options, rest = parser.parse_known_args(list(args))
            command.process_options(rest, options)
            command.run(rest, options)
            code = command.exitcode
        except SystemExit as e:
            code = int(e.code or 0)
        except UsageError as e:
            print(e, file=err)
            code = 2
    told = []
    for stream in (out, err):
        stream.flush()
        told.append(stream.buffer.getvalue().decode("utf-8", "surrogatepass"))  # type: ignore[attr-defined]
    return code, told[0], told[1]
