"""All settings of the codec count, and callbacks are what the spider's class says."""

from __future__ import annotations

import json
import logging
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from scrapy import Request, Spider
from scrapy.http.request import NO_CALLBACK

from scrapy_dist.codec import messagepack
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seal import Seal
from scrapy_dist.exceptions import BadPayload, Unserializable
from tests.support.engine import make_crawler

URL = "http://example.com/"


@dataclass
class Plan:
    steps: int


def codec_of(spider: Spider | None = None, **settings: Any) -> PayloadCodec:
    crawler = make_crawler(spider or Spider("s"), **settings)
    return PayloadCodec.from_crawler(crawler, "s:requests")


def test_shared_classes_are_a_setting():
    request = Request(URL, meta={"plan": Plan(3)})
    with pytest.raises(Unserializable, match="Plan"):
        codec_of().encode(request)
    codec = codec_of(FRONTIER_SHARED_CLASSES=[f"{__name__}.Plan", Plan])
    assert codec.decode(codec.encode(request)).meta["plan"] == Plan(3)


def test_schemes_are_a_setting():
    request = Request("ftp://example.com/x")
    codec = codec_of(FRONTIER_SCHEMES=["ftp"])
    data = codec.encode(request)
    assert codec.decode(data).url == request.url
    with pytest.raises(Unserializable, match="FRONTIER_SCHEMES"):
        codec_of().encode(request)
    with pytest.raises(BadPayload, match="FRONTIER_SCHEMES"):
        codec_of().decode(data)


def test_the_secret_is_a_setting():
    secret = "0123456789abcdef0123456789abcdef"
    data = codec_of(FRONTIER_SECRET=secret).encode(Request(URL))
    assert codec_of(FRONTIER_SECRET=secret).decode(data).url == URL
    for other in (codec_of(), codec_of(FRONTIER_SECRET=secret[::-1])):
        with pytest.raises(BadPayload):
            other.decode(data)
    with pytest.raises(BadPayload, match="not signed"):
        codec_of(FRONTIER_SECRET=secret).decode(codec_of().encode(Request(URL)))


def test_sizes_are_settings():
    request = Request(f"{URL}{'x' * 1000}")
    data = codec_of().encode(request)
    for settings in (
        {"FRONTIER_MAX_PAYLOAD": len(data) - 1},
        {"FRONTIER_URL_LENGTH": len(request.url) - 1},
    ):
        with pytest.raises(Unserializable):
            codec_of(**settings).encode(request)
        with pytest.raises(BadPayload, match=next(iter(settings))):
            codec_of(**settings).decode(data)
    codec = codec_of(
        FRONTIER_MAX_PAYLOAD=len(data), FRONTIER_URL_LENGTH=len(request.url)
    )
    assert codec.decode(codec.encode(request)).url == request.url


@pytest.mark.parametrize(
    ("module", "seal", "warns"),
    [
        (pickle, False, True),
        (pickle, True, False),
        (json, False, False),
        (None, False, False),
        (None, True, False),
    ],
)
def test_of_a_pickle_that_nobody_signs_it_warns(module, seal, warns, caplog):
    options: dict[str, Any] = {"seal": Seal(b"x" * 32, "k")} if seal else {}
    with caplog.at_level(logging.WARNING):
        PayloadCodec(Spider("s"), serializer=module, **options)
    assert ["can run code" in record.getMessage() for record in caplog.records] == (
        [True] if warns else []
    )


# Callbacks


class Base(Spider):
    name = "base"

    def parse_item(self, response):
        """A callback."""

    def parse_other(self, response):
        """A callback."""

    def _private(self, response):
        """A callback, too."""

    def __call__(self, response):
        """No callback: Python calls it."""

    def __half(self, response):
        """A callback with a mangled name."""

    def ends__(self, response):
        """A callback."""

    @property
    def half(self):
        return self.__half


class Derived(Base):
    name = "derived"
    #: No plain method any more, whatever the base has.
    parse_item = staticmethod(lambda response: None)  # type: ignore[assignment]
    parse_other = None  # type: ignore[assignment]


def payload(name: str) -> bytes:
    return b"\x01" + messagepack.dumps({"url": URL, "callback": name})


@pytest.mark.parametrize("name", ["parse_item", "parse_other"])
def test_a_method_that_was_overridden_is_not_that_of_the_base(name):
    assert PayloadCodec(Base()).decode(payload(name)).callback is not None
    with pytest.raises(BadPayload, match="no plain method"):
        PayloadCodec(Derived()).decode(payload(name))


def test_methods_that_python_calls_are_no_callbacks_and_private_ones_are():
    spider = Base()
    codec = PayloadCodec(spider)
    for name in ("__call__", "__init__", "__no_such_name__"):
        with pytest.raises(BadPayload, match="no callback"):
            codec.decode(payload(name))
    for method in (spider._private, spider.half, spider.ends__):
        found = codec.decode(codec.encode(Request(URL, callback=method)))
        assert found.callback == method


def test_a_callback_is_found_again_and_again():
    """Names are remembered, and each stays that of its own method."""
    spider = Base()
    codec = PayloadCodec(spider)
    for _ in range(3):
        for method in (spider.parse_item, spider.parse_other, spider._private):
            found = codec.decode(codec.encode(Request(URL, callback=method)))
            assert found.callback == method
            assert found.callback.__self__ is spider


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        (NO_CALLBACK, "NO_CALLBACK: the request belongs to a component"),
        (lambda response: None, "it is a lambda"),
        (print, "print.* is no method of the spider"),
        (Base().parse_item, "is no method of the spider"),
    ],
)
def test_it_is_said_why_a_callback_cannot_be_stored(callback, reason):
    with pytest.raises(Unserializable, match=reason):
        PayloadCodec(Base()).encode(Request(URL, callback=callback))
