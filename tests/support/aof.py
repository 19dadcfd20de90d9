"""What is in an append-only file."""

from __future__ import annotations

from collections.abc import Iterator


def commands(data: bytes) -> Iterator[list[bytes]]:
    """The commands in a piece of an append-only file."""
    while data:
        head, _, data = data.partition(b"\r\n")
        if head.startswith(b"#"):
            continue  # a time stamp
        command = []
        for _ in range(int(head[1:])):
            size, _, data = data.partition(b"\r\n")
            length = int(size[1:])
            command.append(data[:length])
            data = data[length + 2 :]
        yield command


def writes(data: bytes) -> list[list[bytes]]:
    """Those of them that change data, one by one."""
    control = (b"MULTI", b"EXEC", b"SELECT")
    return [command for command in commands(data) if command[0].upper() not in control]
