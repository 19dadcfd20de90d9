"""Fill a queue faster than commits do: the same members, by ZADD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy import Request, Spider

from scrapy_dist.codec.request import PayloadCodec
from tests.benchmarks.light import KEYS

if TYPE_CHECKING:
    from tests.benchmarks.light import Connection

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
    """Make requests *first* to *last* - 1 pending, in priorities by turns."""
    spider = Shop()
    blank = f"{0:08}".encode()
    head, tail = PayloadCodec(spider).encode(product(spider, 0)).split(blank, 1)
    size = 16 + len(head) + len(blank) + len(tail)
    member = b"".join(
        (
            b"$1\r\n%%d\r\n$%d\r\n%%016x" % size,
            head.replace(b"%", b"%%"),
            b"%08d",
            tail.replace(b"%", b"%%"),
            b"\r\n",
        )
    )
    key = b"$%d\r\n%b\r\n" % (len(KEYS.requests), KEYS.requests.encode())
    commands: list[bytes] = []
    for start in range(first, last, _ZADD):
        stop = min(start + _ZADD, last)
        members = [member % (n % PRIORITIES, n + 1, n) for n in range(start, stop)]
        commands.append(
            b"*%d\r\n$4\r\nZADD\r\n%b" % (2 + 2 * len(members), key) + b"".join(members)
        )
        if len(commands) == _COMMANDS or stop == last:
            connection.raw(b"".join(commands), len(commands))
            commands.clear()
