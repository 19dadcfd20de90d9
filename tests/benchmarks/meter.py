"""What Redis says of its own work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.light import Connection


def info(connection: Connection, section: str) -> dict[str, str]:
    """``INFO section``."""
    text = connection.command("INFO", section).decode()
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def cpu_seconds(connection: Connection) -> float:
    """CPU seconds of the server since its start, those of the kernel for it included."""
    found = info(connection, "cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def used_memory(connection: Connection) -> int:
    """Bytes that Redis has allocated, the buffers of its clients included."""
    return int(info(connection, "memory")["used_memory"])


@dataclass(frozen=True)
class Scripts:
    """Calls of scripts, and the microseconds in them, by the clock."""

    calls: int
    usec: float

    def since(self, before: Scripts) -> float:
        """Microseconds per call since *before*."""
        return (self.usec - before.usec) / max(1, self.calls - before.calls)


def scripts(connection: Connection) -> Scripts:
    """``INFO commandstats`` of EVALSHA."""
    text = info(connection, "commandstats").get("cmdstat_evalsha", "calls=0,usec=0")
    fields = dict(field.split("=") for field in text.split(","))
    return Scripts(int(fields["calls"]), float(fields["usec"]))


def server_name(connection: Connection) -> str:
    """Name and version of the server, and its allocator."""
    server, memory = info(connection, "server"), info(connection, "memory")
    name = "Valkey" if "valkey_version" in server else "Redis"
    version = server.get("valkey_version", server["redis_version"])
    return f"{name} {version}, {memory['mem_allocator']}"
