"""RabbitMQ in the show: a broker of its own, the bridge, and a program that gives tasks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The programs themselves; those in /usr/sbin become another user first.
PROGRAMS = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin")
HOW_TO_GET_ONE = (
    "There is no RabbitMQ here: install one (Debian and Ubuntu: apt install rabbitmq-server;"
    " macOS: brew install rabbitmq), or name one that runs in AMQP_URL, and say it again."
)
TASKS, ANSWERS = "bookshop.tasks", "bookshop.answers"
#: Seconds that a broker has to come up.
PATIENCE = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A rabbitmq-server of this show alone, on loopback; needs no root and no service."""

    def __init__(self, programs: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bookshop-rabbitmq-"))
        port = free_port()
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\n"
        )
        (self._folder / "plugins").write_text("[].\n")
        environment = os.environ | {
            "HOME": str(self._folder),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"bookshop{port}@localhost",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ALLOW_INPUT": "1",
        }
        # Started by RabbitMQ the name server would outlive the show.
        commands = [["epmd"], [str(programs / "rabbitmq-server"), "-noinput"]]
        self._processes = [
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            for command in commands
        ]
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/"
        try:
            self._wait(port)
        except BaseException:
            # It is in a session of its own: Ctrl-C does not reach it.
            self.stop()
            raise

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._processes[-1].poll() is None and time.monotonic() < deadline:
            if _answers(port):
                return
            time.sleep(0.1)
        raise SystemExit("RabbitMQ did not start.")

    def stop(self) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.settimeout(5)
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(probe.recv(1))
    except OSError:
        return False


class Rabbit:
    """Tasks for *spider* over RabbitMQ, and what it answers."""

    def __init__(self, spider: str, settings: dict[str, object], log: Path) -> None:
        try:
            import pika  # noqa: PLC0415  an extra
        except ModuleNotFoundError:
            raise SystemExit('Without pika? pip install "scrapy-dist[amqp]"') from None
        url, self._broker = os.environ.get("AMQP_URL"), None
        if not url:
            programs = next((Path(p) for p in PROGRAMS if Path(p).exists()), None)
            if programs is None:
                raise SystemExit(HOW_TO_GET_ONE)
            self._broker = Broker(programs)
            url = self._broker.url
        self._pika = pika
        try:
            self._connection = pika.BlockingConnection(pika.URLParameters(url))
        except (pika.exceptions.AMQPError, ValueError, OSError) as e:
            if self._broker is not None:
                self._broker.stop()
            # Its text may have parts of a password.
            raise SystemExit(
                f"RabbitMQ cannot be reached ({type(e).__name__}): look at AMQP_URL."
            ) from None
        self._channel = self._connection.channel()
        for queue in (TASKS, ANSWERS):
            self._channel.queue_declare(queue, durable=True)
            self._channel.queue_purge(queue)
        self.asked = 0
        self.answers: list[dict[str, Any]] = []
        options = [f"-s{name}={value}" for name, value in settings.items()]
        command = [sys.executable, "-m", "scrapy", "frontier", "bridge", spider]
        with log.open("wb") as output:
            self._bridge = subprocess.Popen(
                [*command, "--tasks", TASKS, *options],
                env=os.environ | {"AMQP_URL": url},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def publish(self, urls: Iterable[str]) -> None:
        """As in RabbitMQ's tutorials; each asks for its result."""
        for url in urls:
            self._channel.basic_publish(
                "",
                TASKS,
                url.encode(),
                self._pika.BasicProperties(
                    message_id=f"task-{self.asked}", reply_to=ANSWERS, delivery_mode=2
                ),
            )
            self.asked += 1

    def collect(self) -> None:
        """Take the answers that are there."""
        while True:
            _, _, body = self._channel.basic_get(ANSWERS, auto_ack=True)
            if body is None:
                return
            self.answers.append(json.loads(body))

    def wait(self, seconds: float) -> bool:
        """Whether all tasks are answered, after *seconds* at the most."""
        deadline = time.monotonic() + seconds
        self.collect()
        while len(self.answers) < self.asked and time.monotonic() < deadline:
            time.sleep(0.1)
            self.collect()
        return len(self.answers) == self.asked

    def summary(self) -> str:
        """For example ``14 of 14 tasks, 45 items; 1 led to a missing page``."""
        items = sum(answer["items"] for answer in self.answers)
        text = f"{len(self.answers)} of {self.asked} tasks, {items} items"
        failed = sum(answer["state"] == "failed" for answer in self.answers)
        return f"{text}; {failed} led to a missing page" if failed else text

    def stop(self) -> None:
        self._bridge.send_signal(signal.SIGINT)
        self._bridge.wait()
        with contextlib.suppress(self._pika.exceptions.AMQPError):
            self._connection.close()
        if self._broker is not None:
            self._broker.stop()
