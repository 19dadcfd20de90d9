"""Requests as MessagePack in few bytes."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_dist.codec import compact, messagepack
from scrapy_dist.exceptions import BadPayload

URL = "https://www.example.com/catalogue/product-1.html"

texts = st.text(max_size=20)
referers = st.one_of(
    st.sampled_from(
        [URL, URL[:-1], URL + "/more", "https://www.example.com/", "https://", "/", ""]
    ).map(str.encode),
    st.binary(max_size=20),
)
headers = st.dictionaries(
    st.sampled_from([b"Referer", b"Accept", b"referer"]), st.lists(referers, max_size=2)
)
metas = st.dictionaries(
    st.sampled_from(["depth", "other", "proxy"]),
    st.one_of(st.integers(), st.booleans(), texts, st.none()),
)
requests = st.fixed_dictionaries(
    {
        "url": st.sampled_from(
            [URL, "http://a", "https://", "about:blank", "data:,ü", ""]
        )
    },
    optional={
        "callback": st.one_of(st.none(), texts),
        "errback": texts,
        "headers": headers,
        "meta": metas,
        "cb_kwargs": st.dictionaries(texts, texts),
        "priority": st.integers(),
        "dont_filter": st.booleans(),
        "method": texts,
        "body": st.binary(max_size=20),
        "cookies": st.dictionaries(texts, texts),
        "flags": st.lists(texts),
        "encoding": texts,
        "_class": texts,
        "formdata": texts,
    },
)


@pytest.mark.parametrize(
    "url",
    ["https://", "https://a", "HTTPS://a", "https:/a", "http://a", "https://https://a"],
)
def test_a_url_is_read_as_it_was_written(url: str) -> None:
    for fields in ({"url": url}, {"url": url, "formdata": {}}):
        assert compact.loads(compact.dumps(fields)) == fields
    gone = len("https://") * url.startswith("https://")
    assert len(compact.dumps({"url": url})) == 3 + len(url) - gone


@given(requests)
def test_what_is_written_is_read(fields: dict[str, Any]) -> None:
    before = {name: messagepack.dumps(value) for name, value in fields.items()}

    found = compact.loads(compact.dumps(fields))

    assert found == fields
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in fields.items()
    }
    assert {n: messagepack.dumps(v) for n, v in fields.items()} == before


def test_a_product_page_takes_little_more_than_its_url_and_callback() -> None:
    fields = {
        "url": URL,
        "callback": "parse_product",
        "headers": {b"Referer": [b"https://www.example.com/catalogue/page-1.html"]},
        "meta": {"depth": 3},
    }

    data = compact.dumps(fields)

    plain = len(URL) + len("parse_product") + len("page-1.html")
    assert len(data) - plain <= 4
    assert len(messagepack.dumps(fields)) - plain > 80


def test_what_a_page_shares_with_its_referer_ends_at_a_slash() -> None:
    referer = URL.replace("product-1", "product-2").encode()

    data = compact.dumps({"url": URL, "headers": {b"Referer": [referer]}})

    assert msgpack.unpackb(data)[2] == [URL.rindex("/") + 1, "product-2.html"]


def test_other_headers_and_meta_stay_what_they_are() -> None:
    fields = {
        "url": URL,
        "headers": {b"Accept": [b"*/*"], b"Referer": [b"http://a/"]},
        "meta": {"depth": 1, "day": date(2026, 1, 1), "t": (1, 2)},
    }

    assert compact.loads(compact.dumps(fields)) == fields


def test_a_field_of_a_subclass_is_spelled_out() -> None:
    fields = {"url": URL, "_class": "project.MyRequest", "formdata": {"a": "b"}}

    data = compact.dumps(fields)

    assert msgpack.unpackb(data) == fields
    assert compact.loads(data) == fields


def test_requests_that_others_have_spelled_out_are_read() -> None:
    fields = {"url": URL, "meta": {"depth": 2}}

    assert compact.loads(messagepack.dumps(fields)) == fields


def test_numbers_of_fields_never_change() -> None:
    """Requests that are in Redis were written with them."""
    fields = {
        "url": URL,
        "callback": "a",
        "meta": {"depth": 1, "x": 1},
        "headers": {b"Referer": [b"r"], b"X": [b"y"]},
        "cb_kwargs": {"k": 1},
        "priority": 7,
        "dont_filter": True,
        "errback": "b",
        "method": "PUT",
        "body": b"c",
        "cookies": {"d": "e"},
        "flags": ["f"],
        "encoding": "g",
        "_class": "h",
    }

    fields_of_all = [
        URL,
        "a",
        1,
        [0, "r"],
        {"x": 1},
        {"k": 1},
        7,
        True,
        "b",
        {b"X": [b"y"]},
        "PUT",
        b"c",
        {"d": "e"},
        ["f"],
        "g",
        "h",
    ]
    assert compact.loads(messagepack.dumps([0xFFFF, *fields_of_all])) == fields
    short = [-0xFFFF, URL.removeprefix("https://"), *fields_of_all[1:]]
    assert msgpack.unpackb(compact.dumps(fields)) == short
    assert compact.loads(messagepack.dumps(short)) == fields


@pytest.mark.parametrize(
    "found",
    [
        [],
        [0],
        [-1, 7],
        [-1],
        [-2, "a"],
        [-1 << 16, URL],
        [1],
        [1, URL, URL],
        [True, URL],
        ["1", URL],
        [1 << 16, URL],
        [1 << 70, URL],
        [1 | 8, URL, "text"],
        [1 | 8, URL, [1]],
        [1 | 8, URL, [-1, "a"]],
        [1 | 8, URL, [len(URL) + 1, "a"]],
        [1 | 8, URL, [True, "a"]],
        [1 | 8, URL, [0, b"a"]],
        [1 | 8, 7, [0, "a"]],
        [8, [0, "a"]],
        [1 | 4 | 16, URL, 1, "no dict"],
        [1 | 8 | 512, URL, [0, "a"], "no dict"],
    ],
    ids=repr,
)
def test_a_list_that_is_no_request_is_a_bad_payload(found: list[Any]) -> None:
    with pytest.raises(BadPayload):
        compact.loads(messagepack.dumps(found))


def test_a_depth_that_is_no_number_is_a_value_like_any_other() -> None:
    fields = {"url": URL, "meta": {"depth": True}}

    assert compact.loads(compact.dumps(fields))["meta"]["depth"] is True
