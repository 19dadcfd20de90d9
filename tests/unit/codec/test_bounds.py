"""Limits are where they are said to be, and each kind of value is looked at."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import pytest
from scrapy import Request, Spider
from scrapy.settings import Settings

from scrapy_dist.codec import messagepack
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seed import parse_seed
from scrapy_dist.codec.seed_rules import STEERING_PREFIXES, SeedRules
from scrapy_dist.exceptions import (
    BadPayload,
    BadSeed,
    ConfigurationError,
    Unserializable,
)
from tests.support.engine import make_crawler

URL = "http://example.com/"
SPIDER = Spider("s")
RULES = SeedRules()
MOST = 2**53


def parse(**fields: Any) -> Request:
    return parse_seed(json.dumps({"url": URL, **fields}), RULES, SPIDER)


# Seeds


@pytest.mark.parametrize("priority", [MOST, -MOST, 0])
def test_a_priority_at_the_limit_is_taken(priority):
    assert parse(priority=priority).priority == priority
    codec = PayloadCodec(SPIDER)
    data = codec.encode(Request(URL, priority=priority))
    assert codec.decode(data).priority == priority


@pytest.mark.parametrize("priority", [MOST + 1, -MOST - 1])
def test_a_priority_beyond_the_limit_is_refused(priority):
    with pytest.raises(BadSeed, match="beyond"):
        parse(priority=priority)
    codec = PayloadCodec(SPIDER)
    with pytest.raises(Unserializable, match="beyond"):
        codec.encode(Request(URL, priority=priority))
    with pytest.raises(BadPayload, match="beyond"):
        codec.decode(b"\x01" + messagepack.dumps({"url": URL, "priority": priority}))


@pytest.mark.parametrize("more", [0, 1])
def test_the_size_of_a_seed_is_the_largest_that_is_taken(more):
    for seed in (b"http://example.com/page", b'{"url": "http://example.com/page"}'):
        rules = dataclasses.replace(RULES, max_size=len(seed) - more)
        if more:
            with pytest.raises(BadSeed, match="FRONTIER_SEED_MAX_SIZE"):
                parse_seed(seed, rules, SPIDER)
        else:
            assert parse_seed(seed, rules, SPIDER).url == "http://example.com/page"


@pytest.mark.parametrize("more", [0, 1])
def test_the_length_of_a_url_is_the_longest_that_is_taken(more):
    url = URL + "x" * 1000
    rules = dataclasses.replace(RULES, max_url=len(url) - more)
    for seed in (url, json.dumps({"url": url})):
        if more:
            with pytest.raises(BadSeed, match="characters"):
                parse_seed(seed, rules, SPIDER)
        else:
            assert parse_seed(seed, rules, SPIDER).url == url


@pytest.mark.parametrize(
    "cookies",
    [
        5,
        None,
        "a=b",
        True,
        ["a"],
        [["a", "b"]],
        [{"name": "a"}],
        [{"value": "b"}],
        [{"name": "a", "value": "b"}, {"value": "b"}],
        [{"name": "a", "value": None}],
        [{"name": "a", "value": {"x": 1}}],
        {"a": []},
        {"a\n": "b"},
        {"a": "b\r\nSet-Cookie: c"},
    ],
)
def test_cookies_of_another_form_are_refused(cookies):
    with pytest.raises(BadSeed, match="cookie"):
        parse(cookies=cookies)


@pytest.mark.parametrize(
    "formdata", [5, "a=b", [["a", "b", "c"]], [["a"]], ["ab"], [[1, "b"]], [{"a": "b"}]]
)
def test_form_fields_of_another_form_are_refused(formdata):
    with pytest.raises(BadSeed):
        parse(formdata=formdata)


def test_a_form_keeps_what_else_the_seed_says():
    fields = {"headers": {"X-A": "1"}, "priority": 3, "meta": {"a": 1}}
    for method in ("GET", "POST"):
        found = parse(formdata={"q": "x y"}, method=method, **fields)
        assert (found.priority, found.meta) == (3, {"a": 1})
        assert found.headers["X-A"] == b"1"
        where = found.url if method == "GET" else found.body.decode()
        assert "q=x+y" in where


@pytest.mark.parametrize("prefix", STEERING_PREFIXES)
def test_meta_that_begins_like_a_plugins_is_refused(prefix):
    for key in (prefix, f"{prefix}_more", prefix.upper()):
        with pytest.raises(BadSeed, match="steers Scrapy or a plugin"):
            parse(meta={key: 1})


@pytest.mark.parametrize(
    "name",
    [
        "utf_7",
        "utf-7",
        "hz",
        "iso2022_jp",
        "iso-2022-kr",
        "raw_unicode_escape",
        "utf-16",
        "utf-32",
        "cp037",
        "base64",
        "rot13",
        "no such encoding",
        "\x00",
        "",
    ],
)
def test_an_encoding_in_which_text_may_be_other_text_is_refused(name):
    with pytest.raises(BadSeed, match="encoding"):
        parse(encoding=name)
    with pytest.raises(ConfigurationError, match="REDIS_ENCODING"):
        SeedRules.from_settings(Settings({"REDIS_ENCODING": name}))


@pytest.mark.parametrize("name", ["utf-8", "latin-1", "cp1252", "gbk", "shift_jis"])
def test_an_encoding_that_contains_ascii_is_taken(name):
    try:
        found = parse(encoding=name)
    except BadSeed:
        # Of these some have another sign in the place of a backslash.
        assert name == "shift_jis"
    else:
        assert found.encoding == name


@pytest.mark.parametrize(
    "value", [["a", "b"], ("a", "b"), {"a", "b"}, frozenset("ab"), "a,b", " a , ,b,"]
)
def test_lists_in_settings_may_be_written_in_each_way(value):
    rules = SeedRules.from_settings(Settings({"FRONTIER_SEED_META": value}))
    assert {"a", "b"} <= set(rules.meta)
    assert "" not in rules.meta


@pytest.mark.parametrize("value", [5, {"a": 1}, [1], [None]])
def test_what_is_no_list_in_settings_is_refused(value):
    with pytest.raises(ConfigurationError, match="FRONTIER_SEED_META"):
        SeedRules.from_settings(Settings({"FRONTIER_SEED_META": value}))


@pytest.mark.parametrize(
    "name", ["FRONTIER_SEED_MAX_SIZE", "FRONTIER_MAX_PAYLOAD", "FRONTIER_URL_LENGTH"]
)
def test_sizes_in_settings_are_above_zero(name):
    def read(value: Any) -> None:
        settings = {name: value}
        if name != "FRONTIER_MAX_PAYLOAD":
            SeedRules.from_settings(Settings(settings))
        if name != "FRONTIER_SEED_MAX_SIZE":
            PayloadCodec.from_crawler(make_crawler(SPIDER, **settings), "s:requests")

    for value in (1, "1", 2**40):
        read(value)
    for value in (0, -1, "x", float("inf"), float("nan"), "0"):
        with pytest.raises(ConfigurationError, match=name):
            read(value)


# Serializers


def without(missing: str) -> SimpleNamespace:
    names = {"dumps": messagepack.dumps, "loads": messagepack.loads}
    return SimpleNamespace(**{k: v for k, v in names.items() if k != missing})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (without("dumps"), "has no dumps and loads"),
        (without("loads"), "has no dumps and loads"),
        (5, "has no dumps and loads"),
        ("no.such.module", "cannot be imported"),
    ],
)
def test_a_serializer_needs_both_of_its_functions(value, problem):
    crawler = make_crawler(SPIDER, SCHEDULER_SERIALIZER=value)
    with pytest.raises(ConfigurationError, match=problem):
        PayloadCodec.from_crawler(crawler, "s:requests")


# Subclasses of Request with a state of their own


class Counting(Request):
    """Its methods run in Request's constructor, read its state and change it."""

    def __init__(self, url: str, step: int = 1, **kwargs: Any) -> None:
        self.step, self.count = step, 0
        super().__init__(url, **kwargs)

    def _set_url(self, url: str) -> None:
        self.count += self.step
        super()._set_url(url)


@pytest.mark.parametrize("module", [None, json])
def test_the_state_of_a_request_is_there_while_it_is_made_and_as_it_was_after(module):
    codec = PayloadCodec(SPIDER, serializer=module, request_classes=[Counting])
    request = Counting(URL, step=5, priority=2)
    request.count = 70
    found = codec.decode(codec.encode(request))
    assert type(found) is Counting
    assert (found.step, found.count, found.priority) == (5, 70, 2)


class Plain:
    pass


@pytest.mark.parametrize("module", [None, json])
def test_an_object_of_a_class_that_is_not_allowed_any_more_says_so(module):
    """So that a worker gives the request back instead of setting it aside."""
    plain = Plain()
    request = Request(URL, meta={"x": plain})
    writer = PayloadCodec(SPIDER, serializer=module, shared_classes=[Plain])
    data = writer.encode(request)
    with pytest.raises(BadPayload) as caught:
        PayloadCodec(SPIDER, serializer=module).decode(data)
    assert caught.value.cause == "class"
    assert "FRONTIER_SHARED_CLASSES" in caught.value.remedy


def test_the_length_of_a_url_is_that_of_what_is_asked_for():
    """Scrapy quotes what is not ASCII: it becomes six times as long."""
    codec = PayloadCodec(SPIDER, max_url=2000)
    data = b"\x01" + messagepack.dumps({"url": URL + "é" * 400})
    with pytest.raises(BadPayload, match="FRONTIER_URL_LENGTH") as caught:
        codec.decode(data)
    assert caught.value.cause == "url"
    assert len(PayloadCodec(SPIDER).decode(data).url) > 2000
