"""Properties of messages that strangers sent."""

from __future__ import annotations

import random
import struct

import pytest

pytest.importorskip("pika")

import pika

from scrapy_dist.bridge import link

ALL = {
    "content_type": "a/b",
    "content_encoding": "gzip",
    "headers": {"a": {"b": [1, 2]}},
    "delivery_mode": 2,
    "priority": 255,
    "correlation_id": b"\xff\xfe",
    "reply_to": "q",
    "expiration": "10",
    "message_id": "m",
    "timestamp": 5,
    "type": "t",
    "user_id": "u",
    "app_id": "x",
    "cluster_id": "c",
}


def table(entries):
    return struct.pack(">I", len(entries)) + entries


def nested(depth):
    found = table(b"")
    for _ in range(depth):
        found = table(b"\x01aF" + found)
    return found


def decoded(data):
    found = pika.spec.props[pika.BasicProperties.INDEX]()
    found.decode(data)
    return found


def test_all_is_read_that_can_be():
    chance = random.Random(1)
    for _ in range(300):
        some = {name: ALL[name] for name in ALL if chance.random() < 0.5}
        found = decoded(b"".join(pika.BasicProperties(**some).encode()))
        told = {name: getattr(found, name) for name in ALL}
        assert told == {**dict.fromkeys(ALL), **some}


def test_without_its_headers_a_message_is_read_as_it_is():
    rest = {name: value for name, value in ALL.items() if name != "headers"}
    whole = b"".join(pika.BasicProperties(**ALL).encode())
    good = b"".join(pika.BasicProperties(**rest).encode())
    assert link._without_headers(whole) == good


@pytest.mark.parametrize(
    "headers", [table(b"\x01aT" + b"\x80" + b"\0" * 7), table(b"\x01a?"), nested(5000)]
)
def test_headers_that_pika_cannot_read_do_no_harm(headers):
    flags = pika.BasicProperties.FLAG_HEADERS | pika.BasicProperties.FLAG_MESSAGE_ID
    found = decoded(struct.pack(">H", flags) + headers + b"\x01m")
    assert (found.message_id, found.headers) == ("m", None)
    assert type(found) is link._Properties
