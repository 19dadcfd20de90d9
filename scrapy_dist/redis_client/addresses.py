"""Hosts, ports and URLs of servers, checked. All raise ValueError."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from urllib.parse import SplitResult

Nodes = list[tuple[str, int]]
#: A host, or an IPv6 address in brackets, with or without a port.
_NODE = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[^\s:@/?#\[\]]+))"
    r"(?::(?P<port>[0-9]*))?"
)


def require_arguments(parts: SplitResult) -> None:
    """Raise ValueError unless the query of a URL is ``name=value``, or nothing.

    What looks like one that is not is a password that was not percent-encoded: what is
    taken for the host would be a part of it.
    """
    require(not parts.fragment)
    for argument in filter(None, parts.query.split("&")):
        require(re.match(r"[A-Za-z_]+=", argument))


def split_nodes(text: str, port: int) -> Nodes:
    nodes: Nodes = []
    for part in text.split(","):
        found = _NODE.fullmatch(part.strip())
        if found is None:
            raise ValueError
        host = found["bracketed"] or found["host"]
        if found["bracketed"]:
            ipaddress.IPv6Address(host.partition("%")[0])
        nodes.append((host_in(host.lower()), port_in(found["port"] or port)))
    return nodes


def host_in(value: Any) -> str:
    require(isinstance(value, str) and value.strip())
    require(not re.search(r"[@/?#]", value))
    return str(value).strip()


def port_in(value: Any) -> int:
    require(0 < int(value) < 65536)
    return int(value)


def require(condition: object) -> None:
    if not condition:
        raise ValueError


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
