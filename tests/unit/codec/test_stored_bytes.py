"""What earlier versions stored is read, and what is stored is what they read.

A crawl goes on after an update, and workers of two versions may share it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address
from pathlib import PurePosixPath
from types import SimpleNamespace
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from scrapy import Request, Spider
from scrapy.http import FormRequest

from scrapy_dist.codec import messagepack
from scrapy_dist.codec.request import PayloadCodec

STORED = [
    ((1, "a"), "d6019201a161", '{"$tuple": [1, "a"]}'),
    ({7}, "d5029107", '{"$set": [7]}'),
    (frozenset([7]), "d5039107", '{"$frozenset": [7]}'),
    (
        dt.datetime.fromisoformat("2020-01-02T03:04:05.000006"),
        "c71b04ba323032302d30312d30325430333a30343a30352e303030303036",
        '{"$datetime": "2020-01-02T03:04:05.000006"}',
    ),
    (
        dt.datetime(2020, 7, 2, tzinfo=ZoneInfo("Europe/Paris")),
        "c7230493b3323032302d30372d30325430303a30303a3030ac4575726f70652f506172697300",
        '{"$datetime": ["2020-07-02T00:00:00", "Europe/Paris", 0]}',
    ),
    (dt.date(2020, 1, 2), "c70b05aa323032302d30312d3032", '{"$date": "2020-01-02"}'),
    (dt.timedelta(1, 2, 3), "d60693010203", '{"$timedelta": [1, 2, 3]}'),
    (Decimal("1.50"), "c70507a4312e3530", '{"$decimal": "1.50"}'),
    (
        UUID(int=5),
        "c72608d92430303030303030302d303030302d303030302d303030302d303030303030303030303035",
        '{"$uuid": "00000000-0000-0000-0000-000000000005"}',
    ),
    (
        2**70,
        "c71509b43078343030303030303030303030303030303030",
        '{"$int": "0x400000000000000000"}',
    ),
    (OrderedDict(a=1), "c7050a9192a16101", '{"$ordered": [["a", 1]]}'),
    (
        defaultdict(list, a=[1]),
        "c70b0b92a46c69737481a1619101",
        '{"$default": ["list", {"a": [1]}]}',
    ),
    (Counter("aab"), "c7070c82a16102a16201", '{"$counter": {"a": 2, "b": 1}}'),
    (deque([1, 2], 5), "c7050d9205920102", '{"$deque": [5, [1, 2]]}'),
    (
        PurePosixPath("/a/b"),
        "c7140e92ad50757265506f73697850617468a42f612f62",
        '{"$path": ["PurePosixPath", "/a/b"]}',
    ),
    (dt.time(1, 2, 3), "c7090fa830313a30323a3033", '{"$time": "01:02:03"}'),
    (
        dt.timezone(dt.timedelta(hours=2)),
        "c70a1091c706069300cd1c2000",
        '{"$timezone": [{"$timedelta": [0, 7200, 0]}]}',
    ),
    (
        ZoneInfo("Europe/Paris"),
        "c70d11ac4575726f70652f5061726973",
        '{"$zone": "Europe/Paris"}',
    ),
    (Fraction(1, 3), "c70312920103", '{"$fraction": [1, 3]}'),
    (
        complex(1, 2),
        "c7131392cb3ff0000000000000cb4000000000000000",
        '{"$complex": [1.0, 2.0]}',
    ),
    (range(1, 9, 2), "d61493010902", '{"$range": [1, 9, 2]}'),
    (
        ip_address("10.0.0.1"),
        "c7161592ab4950763441646472657373a831302e302e302e31",
        '{"$ip": ["IPv4Address", "10.0.0.1"]}',
    ),
    (SimpleNamespace(a=1), "d61781a16101", '{"$namespace": {"a": 1}}'),
]


@pytest.mark.parametrize(("value", "data", "text"), STORED)
def test_a_value_has_the_bytes_and_the_json_that_it_always_had(value, data, text):
    assert messagepack.dumps(value).hex() == data
    assert json.dumps(messagepack.to_jsonable(value)) == text
    for found in (
        messagepack.loads(bytes.fromhex(data)),
        messagepack.from_jsonable(json.loads(text)),
    ):
        assert type(found) is type(value)
        assert found == value


class Shop(Spider):
    name = "s"

    def parse_item(self, response):
        """A callback."""

    def failed(self, failure):
        """An errback."""


SHOP = Shop()
WHOLE = (
    "019fcd7ff7b8687474703a2f2f6578616d706c652e636f6d2f613f623d31aa70617273"
    "655f6974656d0181a174d501910181a17001f9c3a66661696c656481c403582d4191c4"
    "0131a4504f5354c4017881a161a16291a166a76c6174696e2d31"
)
FORM = (
    "019dcdfef1b3687474703a2f2f6578616d706c652e636f6d2f808000c281c40c436f6e"
    "74656e742d5479706591c4216170706c69636174696f6e2f782d7777772d666f726d2d"
    "75726c656e636f646564a4504f5354c403613d628090a57574662d38d9247363726170"
    "792e687474702e726571756573742e666f726d2e466f726d52657175657374"
)


def whole() -> Request:
    return Request(
        "http://example.com/a?b=1",
        callback=SHOP.parse_item,
        errback=SHOP.failed,
        method="POST",
        headers={"X-A": "1"},
        body=b"x",
        cookies={"a": "b"},
        meta={"depth": 1, "t": (1,)},
        encoding="latin-1",
        priority=-7,
        dont_filter=True,
        flags=["f"],
        cb_kwargs={"p": 1},
    )


def form() -> Request:
    return FormRequest("http://example.com/", formdata={"a": "b"})


@pytest.mark.parametrize(("make", "data"), [(whole, WHOLE), (form, FORM)])
def test_a_request_has_the_bytes_that_it_always_had(make, data):
    codec = PayloadCodec(SHOP)
    assert codec.encode(make()).hex() == data
    found = codec.decode(bytes.fromhex(data))
    assert type(found) is type(make())
    assert found.to_dict(spider=SHOP) == make().to_dict(spider=SHOP)
