"""Single questions to a Redis on a unix socket."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds to wait for one answer.
REPLY_TIMEOUT = 2.0


def reply_of(path: Path, command: str) -> str:
    """A status or error line as it is, or the text of a bulk; '' when nobody answers.

    A few commands do not justify importing a client into the supervisor.
    """
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(REPLY_TIMEOUT)
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        with connection.makefile("rb") as reply:
            head = reply.readline()
            if not head.startswith(b"$"):
                return head.decode("utf-8", "replace").strip()
            return reply.read(int(head[1:])).decode("utf-8", "replace")
    return ""


def clients_of(path: Path) -> tuple[int, int] | None:
    """Clients now, this one included, and connections since the server's start."""
    info = reply_of(path, "INFO")
    now = re.search(r"^connected_clients:(\d+)", info, re.MULTILINE)
    ever = re.search(r"^total_connections_received:(\d+)", info, re.MULTILINE)
    return (int(now[1]), int(ever[1])) if now and ever else None
