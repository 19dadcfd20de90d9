"""A real rabbitmq-server for tests, started by hand: no service, no root, loopback only.

It takes 5 s of processor time to start, so all tests share one.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.project import FRONTIERS, SETTINGS, Project, package_parent
from tests.support.redis_server import free_port
from tests.support.wait import starting, wait_until

if TYPE_CHECKING:
    import pika.adapters.blocking_connection


#: The programs themselves; those in /usr/sbin become another user first.
FOLDERS = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin")
NO_RABBITMQ = (
    "there is no rabbitmq-server (Debian's package rabbitmq-server), or no pika"
)

_PLAIN = "+sbwt none +sbwtdcpu none +sbwtdio none"


def find_programs() -> Path | None:
    """Where RabbitMQ's programs are; None: they are not here."""
    if shutil.which("epmd") is None:
        return None
    found = (Path(folder) for folder in FOLDERS)
    return next((f for f in found if (f / "rabbitmq-server").exists()), None)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class RabbitServer:
    """One broker on a free port of loopback, with its data in *folder*.

    *extra*: lines of its configuration.
    """

    def __init__(self, folder: Path, programs: Path, extra: str = "") -> None:
        self.folder = folder
        self._programs = programs
        self.port = free_port()
        (folder / "home").mkdir(parents=True)
        (folder / "plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "log.console = false\nlog.file.level = error\nloopback_users = none\n"
            f"disk_free_limit.absolute = 10MB\n{extra}"
        )
        self._env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),  # the cookie is there
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"+S 1:1 {_PLAIN} -kernel inet_dist_use_interface {{127,0,0,1}}"
            ),
            "RABBITMQ_ALLOW_INPUT": "1",  # this process is the node, and no shell
        }
        self._log = folder / "console.log"
        # Started by RabbitMQ it would outlive the tests.
        self._epmd = self._popen("epmd")
        self.start()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def _popen(self, *command: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  nothing of it needs a lock
            )

    def start(self) -> None:
        """Start it, again on the same port and data; waits till it answers."""
        self._process = self._popen(str(self._programs / "rabbitmq-server"), "-noinput")
        wait_until(self._answers, f"rabbitmq-server, see {self._log}", timeout=120)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.settimeout(5)
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(probe.recv(1))
        except OSError:
            return False

    def control(self, *args: str) -> str:
        """What ``rabbitmqctl ARGS`` tells."""
        done = subprocess.run(
            [str(self._programs / "rabbitmqctl"), "-q", *args],
            env=self._env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def kill(self) -> None:
        """End it with SIGKILL, as a crash does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> None:
        if self._process.poll() is None:
            self.kill()
        self._epmd.terminate()
        self._epmd.wait(10)

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2]
        user, system = stat.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @contextmanager
    def channel(self) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        """A blocking channel."""
        import pika

        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def declare(self, *queues: str, **arguments: Any) -> None:
        """Make durable, empty *queues*."""
        with self.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)
                channel.queue_declare(queue, durable=True, arguments=arguments)

    def count(self, queue: str) -> int:
        """Messages that are ready in *queue*."""
        with self.channel() as channel:
            declared = channel.queue_declare(queue, passive=True)
            return int(declared.method.message_count)

    def drain(self, queue: str) -> list[tuple[Any, bytes]]:
        """All messages of *queue*, with their properties; they are gone then."""
        found = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return found
                found.append((properties, body))

    def publish(
        self,
        queue: str,
        body: str | bytes,
        channel: pika.adapters.blocking_connection.BlockingChannel | None = None,
        **properties: Any,
    ) -> None:
        """One persistent message to *queue*, which must be there."""
        import pika

        with nullcontext(channel) if channel else self.channel() as found:
            if channel is None:
                found.confirm_delivery()
            found.basic_publish(
                "",
                queue,
                body,
                pika.BasicProperties(delivery_mode=2, **properties),
                mandatory=True,
            )


class BridgeProcess:
    """A running ``scrapy frontier bridge ARGS`` in the folder of *project*."""

    def __init__(self, project: Project, *args: str, **settings: Any) -> None:
        self.log_path = project.folder / f"bridge-{len(_started)}.log"
        _started.append(self)
        merged = {**SETTINGS, **FRONTIERS["addon"], "REDIS_URL": project.redis_url}
        env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
        env["CRAWL_SETTINGS"] = repr(merged | project.settings | settings)
        env["PYTHONPATH"] = package_parent()
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scrapy", "frontier", "bridge", *args],
                cwd=project.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        starting.add(self.is_starting)

    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def is_starting(self) -> bool:
        return self.process.poll() is None and not self.log()

    def end(self, signum: signal.Signals = signal.SIGINT) -> int:
        """Its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(120)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


_started: list[BridgeProcess] = []
