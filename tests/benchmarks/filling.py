"""Fill a queue faster than commits do: the same members, by ZADD."""

from __future__ import annotations

import random
from typing import Any

from scrapy import Request, Spider

from scrapy_dist.brokers.redis.layout import RANK, encode_score
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.slots import NO_SLOT, slot_number
from tests.benchmarks.light import KEYS, Connection, encode

#: Priorities that are pending: what is new is stored in the midst of what is there.
PRIORITIES = 10
#: Members of one ZADD, and commands in one round trip.
_ZADD, _COMMANDS = 100, 50


class Shop(Spider):
    """A spider such as many shops have."""

    name = "shop"

    def parse_product(self, response: Any) -> None: ...


def product(spider: Shop, number: int) -> Request:
    """The request of a product, as the scheduler gets it from Scrapy's middlewares."""
    return Request(
        f"https://www.example.com/catalogue/product-{number:08}.html",
        callback=spider.parse_product,
        headers={
            "Referer": "https://www.example.com/catalogue/"
            f"category-{number % 1000:03}/page-{number % 90 + 10}.html"
        },
        meta={"depth": 3},
    )


def fill_pending(connection: Connection, first: int, last: int) -> None:
    """Make requests *first* to *last* - 1 of one slot pending, in priorities by turns."""
    spider = Shop()
    blank = f"{0:08}".encode()
    head, tail = PayloadCodec(spider).encode(product(spider, 0)).split(blank, 1)
    size = RANK + len(head) + len(blank) + len(tail)
    member = b"".join(
        (
            b"$1\r\n0\r\n$%d\r\n%%b%%016x" % size,
            head.replace(b"%", b"%%"),
            b"%08d",
            tail.replace(b"%", b"%%"),
            b"\r\n",
        )
    )
    key = b"$%d\r\n%b\r\n" % (len(KEYS.requests), KEYS.requests.encode())
    scores = [encode_score(float(priority)) for priority in range(PRIORITIES)]
    connection.command("ZADD", KEYS.slots, "NX", 0, NO_SLOT)
    commands: list[bytes] = []
    for start in range(first, last, _ZADD):
        stop = min(start + _ZADD, last)
        members = [
            member % (scores[n % PRIORITIES], n + 1, n) for n in range(start, stop)
        ]
        commands.append(
            b"*%d\r\n$4\r\nZADD\r\n%b" % (2 + 2 * len(members), key) + b"".join(members)
        )
        if len(commands) == _COMMANDS or stop == last:
            connection.raw(b"".join(commands), len(commands))
            commands.clear()


def fill_hosts(connection: Connection, hosts: int, of_host: int, payload: int) -> None:
    """Make *of_host* requests of each of *hosts* pending, host after host in turn.

    *payload*: the bytes of each; the last ones tell them apart.
    """
    slots = [b"%d" % slot_number(f"host-{n}.example") for n in range(hosts)]
    head = encode_score(0.0)
    body = random.Random(payload).randbytes(payload - 8)
    commands: list[bytes] = []

    def add(key: str, words: list[bytes]) -> None:
        commands.append(encode(("ZADD", key, *words)))
        if len(commands) == _COMMANDS:
            send()

    def send() -> None:
        connection.raw(b"".join(commands), len(commands))
        commands.clear()

    for start in range(0, hosts, _ZADD):
        add(
            KEYS.slots,
            [word for slot in slots[start : start + _ZADD] for word in (b"0", slot)],
        )
    order = 1 << 46  # as of a clock of today: scripts know such ids at once
    for _ in range(of_host):
        for start in range(0, hosts, _ZADD):
            words: list[bytes] = []
            for slot in slots[start : start + _ZADD]:
                order += 1
                rank = b"%b%016x" % (head, order)
                words += (slot, rank + body + order.to_bytes(8, "big"))
            add(KEYS.requests, words)
    if commands:
        send()
