"""What costs more than its bytes is refused before it costs anything."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from scrapy import Request, Spider
from scrapy.settings import Settings

from scrapy_dist.codec import messagepack
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seed import parse_seed
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.codec.sizes import flaw_of_url
from scrapy_dist.exceptions import (
    BadPayload,
    BadSeed,
    ConfigurationError,
    Unserializable,
)
from tests.support.engine import make_crawler

SPIDER = Spider("s")
RULES = SeedRules()


def payload(**fields):
    return b"\x01" + messagepack.dumps({"url": "http://site/", **fields})


@pytest.mark.parametrize(
    "url",
    [
        "http://" + "a" * 256 + "/",
        "http://" + "ß" * 40_000,
        "http://me:pw@" + "a." * 128 + ":80/x",
        "HTTP://" + "a" * 70_000 + "?b",
        "//" + "a" * 300,
        "http:/\t/" + "ß" * 40_000,
        "http:\\\\" + "ß" * 40_000,
        "http:/\\" + "ß" * 300 + "/x",
    ],
)
def test_a_long_host_reaches_nobody(url, monkeypatch):
    codec = PayloadCodec(SPIDER)
    monkeypatch.setattr(Request, "__init__", lambda *a, **k: pytest.fail("was made"))
    with pytest.raises(BadSeed, match=r"the url has|the seed is neither"):
        parse_seed(url, RULES, SPIDER)
    with pytest.raises(BadSeed, match="the url has"):
        parse_seed(json.dumps({"url": url}), RULES, SPIDER)
    with pytest.raises(BadPayload, match="its url has"):
        codec.decode(payload(url=url))


@pytest.mark.parametrize(
    "url",
    [
        "http://" + "a" * 255 + ":8080/" + "b" * 1000,
        "http://" + "me:pw" * 100 + "@host/",
        "http://host/" + "b" * (65_536 - 12),
        "data:," + "b" * 60_000,
        "http://host/?a=//" + "b" * 1000,
    ],
)
def test_what_is_allowed_goes_through(url):
    assert flaw_of_url(url) == ""


@pytest.mark.parametrize("name", ["idna", "PunyCode", "x" * 41])
def test_encodings_that_cost_the_square_encode_nothing(name, monkeypatch):
    """20,000 characters took 100 seconds."""
    codec = PayloadCodec(SPIDER)
    own = Request("http://site/")
    own._encoding = name
    with pytest.raises(Unserializable, match="its encoding"):
        codec.encode(own)
    monkeypatch.setattr(Request, "__init__", lambda *a, **k: pytest.fail("was made"))
    with pytest.raises(BadPayload, match="its encoding"):
        codec.decode(payload(encoding=name, headers={"x": ["a"]}))


def test_other_encodings_are_shared():
    codec = PayloadCodec(SPIDER)
    for name in ("latin-1", "cp1251", "utf-16", "shift_jis"):
        assert (
            codec.decode(codec.encode(Request("http://a/", encoding=name))).encoding
            == name
        )


def test_the_limit_of_urls_is_a_setting():
    crawler = make_crawler(SPIDER, FRONTIER_URL_LENGTH="300")
    codec = PayloadCodec.from_crawler(crawler, "s:requests")
    rules = SeedRules.from_settings(crawler.settings)
    url = "http://host/".ljust(300, "b")
    assert codec.decode(codec.encode(Request(url))).url == url
    assert parse_seed(url, rules, SPIDER).url == url
    with pytest.raises(
        Unserializable, match=r"301 char.*FRONTIER_URL_LENGTH allows 300"
    ):
        codec.encode(Request(f"{url}b"))
    with pytest.raises(BadPayload, match="301 characters") as caught:
        codec.decode(payload(url=f"{url}b"))
    assert "Set FRONTIER_URL_LENGTH" in caught.value.remedy
    # What it becomes counts, too.
    with pytest.raises(BadPayload, match="FRONTIER_URL_LENGTH"):
        codec.decode(payload(url="http://host/" + "é" * 200))
    for seed in (f"{url}b", "http://host/" + "é" * 200):
        with pytest.raises(BadSeed, match="FRONTIER_URL_LENGTH allows 300"):
            parse_seed(seed, rules, SPIDER)
    form = {"url": "http://host/", "method": "GET", "formdata": {"q": "b" * 300}}
    with pytest.raises(BadSeed, match="FRONTIER_URL_LENGTH allows 300"):
        parse_seed(json.dumps(form), rules, SPIDER)


@pytest.mark.parametrize("value", ["x", 0, -1, "nan"])
def test_a_wrong_limit_is_named(value):
    with pytest.raises(ConfigurationError, match="FRONTIER_URL_LENGTH"):
        SeedRules.from_settings(Settings({"FRONTIER_URL_LENGTH": value}))


@pytest.mark.parametrize("method", ["", "A" * 21, "G T", "\x1b[2J", "GET\r\nX: y", "É"])
def test_a_method_is_a_short_token(method):
    codec = PayloadCodec(SPIDER)
    with pytest.raises(BadPayload, match="its method"):
        codec.decode(payload(method=method))
    with pytest.raises(BadSeed, match="method"):
        parse_seed(json.dumps({"url": "http://a/", "method": method}), RULES, SPIDER)
    if method:
        # What a spider yields stays in its worker.
        with pytest.raises(Unserializable, match="its method"):
            codec.encode(Request("http://a/", method=method))


def test_methods_of_http_and_webdav_go_through():
    codec = PayloadCodec(SPIDER)
    for method in ("GET", "PROPFIND", "BASELINE-CONTROL", "VERSION-CONTROL", "A" * 20):
        request = Request("http://a/", method=method)
        assert codec.decode(codec.encode(request)).method == method


def nested(piece, count):
    head = b"\x01\x82\xa3url\xa9http://a/\xa4meta\x81\xa1a\xdd"
    return head + count.to_bytes(4, "big") + piece * count


@pytest.mark.parametrize(
    "piece",
    [b"\x90", b"\x80", b"\x91\xc0", b"\x81\xa1b\x80", b"\x81\x01\x80", b"\xd4\x01\x90"],
)
def test_what_is_in_a_payload_is_counted(piece):
    """A megabyte of maps would be a hundred in memory."""
    codec = PayloadCodec(SPIDER)
    assert len(codec.decode(nested(piece, 30_000)).meta["a"]) == 30_000
    tracemalloc.start()
    try:
        with pytest.raises(
            BadPayload, match="more than 65536 lists, dicts and objects"
        ):
            codec.decode(nested(piece, 1_000_000 // len(piece)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000


def test_what_a_spider_yields_beyond_that_stays_in_its_worker():
    codec = PayloadCodec(SPIDER)
    request = Request("http://a/", meta={"a": [[n] for n in range(65_000)]})
    assert codec.decode(codec.encode(request)).meta == request.meta
    request = Request("http://a/", meta={"a": [(n,) for n in range(66_000)]})
    with pytest.raises(Unserializable, match="more than 65536 lists"):
        codec.encode(request)


def test_large_values_are_read_as_small_ones():
    values = {"a" * 70_000: [{1: (2, {3})}, {"x": [b"y", {}]}, 2**70], None: {(): "z"}}
    assert messagepack.loads(messagepack.dumps(values)) == values
    text = {"a": "a" * 70_000, "b": [{"c": []}]}
    assert messagepack.loads(messagepack.dumps(text)) == text
    with pytest.raises(BadPayload, match="not valid MessagePack"):
        messagepack.loads(b"\xc1" * 70_000)
