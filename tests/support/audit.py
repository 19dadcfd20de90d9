"""Ask for known holes of what scrapy-dist depends on: the newest, and the least of it.

``python -m tests.support.audit``, for which pip-audit must reach pypi.org; ends with exit
code 1 for a hole that is not in `ALLOWED`, or if something could not be looked up.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: Extras that users install; the others are for those who work on this.
EXTRAS = ("amqp", "embedded", "metrics", "top", "web")
#: Holes of the least versions that do not matter here, or that users are told of, and why.
ALLOWED = {
    "GHSA-6v7p-g79w-8964": "msgpack < 1.2.1: no Unpacker is used again after an error",
    "GHSA-cwxj-rr6w-m6w7": "Scrapy < 2.14.2, a project's choice: help security",
    "GHSA-2qfp-q593-8484": "Scrapy < 2.13.4 with brotli, the same",
}


def requirements() -> list[str]:
    """What a user installs, without our own extras in each other."""
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    return project["dependencies"] + [each for name in EXTRAS for each in extras[name]]


def least() -> list[str]:
    """The oldest that is allowed of each, as an exact version."""
    found = []
    for requirement in requirements():
        name, version = re.fullmatch(
            r"([\w-]+)>=([\w.]+)\s*(?:;.*)?", requirement
        ).groups()
        found.append(f"{name}=={version}")
    return found


def audit(wanted: list[str], *options: str) -> int:
    """pip-audit's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requirements.txt")
        path.write_text("".join(f"{each}\n" for each in wanted))
        command = [sys.executable, "-m", "pip_audit", "--strict", "-r", str(path)]
        return subprocess.run([*command, *options], check=False).returncode


def main() -> int:
    print("The newest:", *requirements(), sep="\n  ", flush=True)
    newest = audit(requirements())
    print("The least:", *least(), sep="\n  ", flush=True)
    ignored = [option for hole in ALLOWED for option in ("--ignore-vuln", hole)]
    return int(bool(newest | audit(least(), "--no-deps", "--disable-pip", *ignored)))


if __name__ == "__main__":
    sys.exit(main())
