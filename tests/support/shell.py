"""A shell in a pseudo terminal, in which somebody types and presses TAB."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

from tests.support.wait import wait_until

if TYPE_CHECKING:
    from pathlib import Path

#: How each of them begins without the files of whoever runs the tests.
ARGUMENTS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}
#: Colours and the like.
_SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|[=>]|\][^\x07]*\x07)|\x07")


class Shell:
    """*name* with the script *completion* read; *commands* comes first on its PATH."""

    def __init__(self, name: str, folder: Path, completion: Path, commands: Path):
        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self._output = b""
        self._count = 0
        self.process = subprocess.Popen(
            [name, *ARGUMENTS[name]],
            cwd=folder,
            env={
                "PATH": f"{commands}:{os.environ['PATH']}",
                "HOME": str(folder),
                "TERM": "xterm",
                "LANG": "C.UTF-8",
                "PS1": "$ ",
                "INPUTRC": "/dev/null",
                "HISTFILE": "",
            },
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        if name == "bash":
            self.run("bind 'set show-all-if-ambiguous on' 'set page-completions off'")
        else:
            self.run(
                "autoload -U compinit && compinit -D -u; unsetopt zle_bracketed_paste"
            )
        self.run(f"source {completion}")

    def _read(self) -> bytes:
        while select.select([self._ours], [], [], 0)[0]:
            try:
                self._output += os.read(self._ours, 65536)
            except OSError:
                break
        return _SEQUENCE.sub(b"", self._output)

    def run(self, command: str) -> None:
        """Type *command*, and wait for its end."""
        self._count += 1
        # What is typed is seen, too: the two halves come together in the answer only.
        os.write(self._ours, f"{command}; echo en''d{self._count}.\n".encode())
        text = b"end%d." % self._count
        wait_until(lambda: text in self._read(), f"the end of {command!r}")

    def complete(self, line: str, shown: str) -> str:
        """Type *line* and TAB; what the terminal shows once *shown* is there."""
        seen = len(self._read())
        os.write(self._ours, line.encode() + b"\t")
        wanted = shown.encode()

        def there() -> bytes:
            new = self._read()[seen:].replace(line.encode(), b"", 1)
            return new if wanted in new else b""

        text = wait_until(there, f"{shown!r} after {line!r}")
        os.write(self._ours, b"\x15")  # the line goes
        self.run(":")
        return text.decode("utf-8", "replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
