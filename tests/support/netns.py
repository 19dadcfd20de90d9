"""A network that tests cut without a word: a namespace behind a pair of interfaces.

What is sent while it is cut is gone, and nobody says so: no FIN, no RST, no error. That
needs root and ``ip`` of iproute2; elsewhere the test is skipped.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing_extensions import Self

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()


class Network:
    """A host of its own, with the address *host*, that `cut` makes unreachable."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.name = f"sd{os.getpid()}n{number}"
        # One net of four addresses for each of the processes that may run tests.
        net = (os.getpid() * 16 + number % 16) % 2**16
        base = f"10.{net >> 8}.{net & 255}"
        self.host = f"{base}.2"
        outer, self._inner = f"sa{os.getpid()}n{number}", "inner"
        self._outer = outer[-15:]
        mac = f"02:5d:{net >> 8:02x}:{net & 255:02x}:00:02"
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("a network that is cut needs root, and ip of iproute2")
        try:
            _ip("netns", "add", self.name)
            peer = ("peer", "name", self._inner, "address", mac, "netns", self.name)
            _ip("link", "add", self._outer, "type", "veth", *peer)
            _ip("addr", "add", f"{base}.1/30", "dev", self._outer)
            _ip("link", "set", self._outer, "up")
            # Without it a host that is cut off is "unreachable" after three seconds.
            neighbour = ("lladdr", mac, "dev", self._outer, "nud", "permanent")
            _ip("neigh", "replace", self.host, *neighbour)
            _ip("-n", self.name, "addr", "add", f"{self.host}/30", "dev", self._inner)
            self.mend()
        except (OSError, subprocess.CalledProcessError) as e:
            self.close()
            pytest.skip(f"no network namespaces on this machine: {e}")

    def listen(self) -> socket.socket:
        """A socket that listens on a free port of the host."""
        found: list[socket.socket | BaseException] = []

        def listen() -> None:
            # A thread may be in another namespace than its process.
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with Path("/run/netns", self.name).open() as namespace:
                    if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        found.append(OSError(ctypes.get_errno(), "setns"))
                        return
                found.append(socket.create_server((self.host, 0)))
            except BaseException as e:
                found.append(e)

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    def cut(self) -> None:
        """Lose whatever is sent to the host, or comes from it, until `mend`."""
        _ip("-n", self.name, "link", "set", self._inner, "down")

    def mend(self) -> None:
        _ip("-n", self.name, "link", "set", self._inner, "up")

    def close(self) -> None:
        command = ["ip", "netns", "del", self.name]
        subprocess.run(command, check=False, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
