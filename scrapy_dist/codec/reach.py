"""Which hosts seeds may lead to: FRONTIER_SEED_DOMAINS and FRONTIER_SEED_PRIVATE.

A host has many spellings; what counts is the address that the system connects to. So names
are resolved, by the resolver that the download uses, before the request goes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import unicodedata
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from scrapy.utils.reactor import is_reactor_installed

from scrapy_dist.base.waits import wait_for
from scrapy_dist.codec.sizes import MAX_HOST

_LOCAL_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
)
#: NAT64 (RFC 6052): the last 32 bits are an IPv4 address.
_NAT64 = IPv6Network("64:ff9b::/96")


def host_of(url: str) -> str:
    """The host that *url* names, in its plainest spelling; '' if there is none.

    Numbers that a system takes for an IPv4 address are one (``0x7f.1``).
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    if len(host) > MAX_HOST * 3:
        return ""
    if ":" in host:
        return host.partition("%")[0]
    # Compatibility forms of letters, digits and dots stand for the plain ones.
    host = unicodedata.normalize("NFKC", unquote(host)).lower().replace("\u3002", ".")
    host = host.rstrip(".")
    with contextlib.suppress(UnicodeError):  # nobody can look it up
        host = host.encode("idna").decode("ascii")
    try:
        return socket.inet_ntoa(socket.inet_aton(host)) if host[-1:].isalnum() else host
    except (OSError, ValueError):  # no number; a NUL in it
        return host


def is_within(host: str, domains: Iterable[str]) -> bool:
    """Whether *host*, of ``host_of``, is one of *domains* or below one."""
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def flaw_of_host(host: str) -> str:
    """Why *host* is private as it is written, to follow its name; '' if it is not."""
    if host in _LOCAL_NAMES or host.endswith(".localhost"):
        return "is this machine"
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    return flaw_of_address(address)


def flaw_of_address(address: IPv4Address | IPv6Address) -> str:
    """Why *address* is none of the public Internet; '' if it is one."""
    if isinstance(address, IPv6Address):
        for inner in _embedded(address):
            if flaw := flaw_of_address(inner):
                return flaw
        if address.ipv4_mapped or address.sixtofour or address in _NAT64:
            return (
                ""  # what it stands for is public; newer Pythons call all 6to4 private
            )
        if address.is_site_local:
            return "is a private address"
    for what in ("unspecified", "loopback", "link_local", "multicast", "private"):
        if getattr(address, f"is_{what}"):
            return f"is a {what.replace('_', '-')} address".replace("a un", "an un")
    if address.is_reserved or not address.is_global:
        return "is no address of the public Internet"
    return ""


def _embedded(address: IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that packets to *address* may end at."""
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]


async def resolve(host: str, timeout: float) -> list[str]:
    """The addresses of *host*, as the downloader will find them.

    Scrapy's resolver remembers its answer (DNSCACHE_ENABLED), so that the download goes to
    the same address. Empty if there is none within *timeout* seconds.
    """
    try:
        if is_reactor_installed():
            return await wait_for(_by_reactor(host), timeout)
        found = asyncio.get_running_loop().getaddrinfo(
            host, None, type=socket.SOCK_STREAM
        )
        return [str(info[4][0]) for info in await wait_for(found, timeout)]
    except (OSError, UnicodeError, asyncio.TimeoutError):
        return []


async def _by_reactor(host: str) -> list[str]:
    from twisted.internet import reactor  # noqa: PLC0415  importing it installs one
    from twisted.internet.interfaces import IResolutionReceiver  # noqa: PLC0415
    from zope.interface import implementer  # noqa: PLC0415

    future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    found: list[str] = []

    @implementer(IResolutionReceiver)
    class Receiver:
        @staticmethod
        def resolutionBegan(resolution: Any) -> None:  # noqa: N802
            pass

        @staticmethod
        def addressResolved(address: Any) -> None:  # noqa: N802
            found.append(address.host)

        @staticmethod
        def resolutionComplete() -> None:  # noqa: N802
            if not future.done():
                future.set_result(found)

    resolver: Any = reactor
    resolver.nameResolver.resolveHostName(Receiver(), host)
    return await future
