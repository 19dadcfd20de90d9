"""Seeds: what people push becomes a request, and what they should not is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import Request, Spider
from scrapy.http import FormRequest
from scrapy.settings import Settings
from scrapy.spiders import SitemapSpider

from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seed import _PLAIN, parse_seed
from scrapy_dist.codec.seed_rules import STEERING_META, SeedRules
from scrapy_dist.exceptions import BadSeed, ConfigurationError

URL = "https://example.com/page?a=1"
RULES = SeedRules()


class Books(Spider):
    name = "books"

    def parse_item(self, response):
        """A callback."""

    def failed(self, failure):
        """An errback."""


SPIDER = Books()


def parse(seed: Any, **rules: Any) -> Request:
    """The request of *seed*, which is bytes, text or an object to be made JSON."""
    data = seed if isinstance(seed, (bytes, str)) else json.dumps(seed)
    return parse_seed(data, dataclasses.replace(RULES, **rules), SPIDER)


def reason(seed: Any, **rules: Any) -> str:
    with pytest.raises(BadSeed) as caught:
        parse(seed, **rules)
    message = str(caught.value)
    assert len(message) < 400
    message.encode()
    return message


# URLs


@pytest.mark.parametrize(
    "seed",
    [
        URL,
        URL.encode(),
        f"  {URL}\r\n",
        f"\ufeff{URL}",
        {"url": URL},
        {"url": f" {URL}\n"},
        f"\n {json.dumps({'url': URL})}\n",
    ],
)
def test_a_url_becomes_a_request_that_is_not_filtered(seed):
    request = parse(seed)

    assert type(request) is Request
    assert (request.url, request.method, request.callback) == (URL, "GET", None)
    assert request.dont_filter is True


def test_a_url_may_have_any_letters():
    assert parse("https://example.com/ä").url == "https://example.com/%C3%A4"
    assert parse({"url": "https://example.com/a b"}).url == "https://example.com/a%20b"


def test_the_spiders_encoding_counts():
    seed = "https://example.com/ä".encode("iso-8859-1")

    assert parse(seed, encoding="iso-8859-1").url == "https://example.com/%C3%A4"
    assert "REDIS_ENCODING" in reason(seed)


@pytest.mark.parametrize(
    ("seed", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"not a url", "spaces"),
        (b"https://example.com/a b", "spaces"),
        (b"https://example.com/\nhttps://example.com/", "spaces"),
        (b"https://example.com/\x00", "control characters"),
        (b"https://example.com/\x1b[2J", "control characters"),
        ({"url": "https://exam\nple.com/"}, "control characters"),
        (b"example.com/page", "no scheme"),
        (b"/page", "no scheme"),
        (b"//example.com", "no scheme"),
        (b"https://", "host"),
        (b"https:///page", "host"),
        (b"https:page", "host"),
        (b"https://:80/", "host"),
        (b"https://[::1", "host"),
        (b"https://example.com:99999/", "port"),
        (b"https://example.com:http/", "port"),
        ({"url": "https://exa mple.com/"}, "host"),
        ({"url": "https://example.com\\@evil.com/"}, "host"),
        (b"file:///etc/passwd", "FRONTIER_SEED_SCHEMES"),
        (b"javascript:alert(1)", "FRONTIER_SEED_SCHEMES"),
        (b"data:,x", "FRONTIER_SEED_SCHEMES"),
        ({"url": "FILE:///etc/passwd"}, "FRONTIER_SEED_SCHEMES"),
        (b"\xff\xfe\xfa", "not valid utf-8"),
        ("https://example.com/\ud800", "Unicode"),
        (b"-", "no scheme"),
    ],
    ids=repr,
)
def test_what_is_no_url_is_refused(seed, says):
    assert says in reason(seed)


def test_other_schemes_can_be_allowed():
    schemes = frozenset({"file", "ftp"})

    assert parse("file:///srv/page", schemes=schemes).url == "file:///srv/page"
    assert parse("FTP://example.com/a", schemes=schemes).url == "ftp://example.com/a"
    assert "allows file, ftp" in reason(URL, schemes=schemes)


@pytest.mark.parametrize(
    "seed",
    [
        "https://user:secret@example.com:99999/",
        "https://user:secret@/",
        "gopher://user:se/secret@example.com/",
        "user:secret@example.com",
        {"url": "https://user:secret@example.com/", "x": 1, "y": None},
        {"url": "https://user:secret@exa mple.com/"},
        '{"url": "https://user:secret@example.com/"',
        "https://user:" + "x" * 500 + "secret@example.com:99999/",
        "https://user:secret\u2100@example.com/",
    ],
)
def test_no_reason_shows_a_password(seed):
    assert "secret" not in reason(seed)
    assert "xxx" not in reason(seed)


# JSON


@pytest.mark.parametrize(
    ("seed", "says"),
    [
        ("{", "broken"),
        ("[", "broken"),
        ('{"url": "https://example.com/",}', "broken"),
        ("{'url': 'https://example.com/'}", "broken"),
        ('{"url": "https://example.com/"} x', "broken"),
        ("5", "JSON number"),
        ("-1.5e3", "JSON number"),
        ("[]", "JSON list"),
        ('["https://example.com/"]', "JSON list"),
        ('"https://example.com/"', "JSON string"),
        ("null", "JSON null"),
        ("true", "JSON true or false"),
        ("NaN", "NaN is no JSON"),
        ("-Infinity", "-Infinity is no JSON"),
        ("{}", "no url"),
        ({"meta": {}}, "no url"),
        ('{"url": "https://a.b/", "meta": {"a": NaN}}', "NaN is no JSON"),
        ('{"url": "https://a.b/", "meta": {"a": 1e999}}', "too large"),
        ('{"url": "https://a.b/", "url": "https://c.d/"}', "'url' twice"),
        ('{"url": "https://a.b/", "meta": {"a": 1, "a": 1}}', "'a' twice"),
        ('{"url": "https://a.b/", "meta": {"a": "\\ud800"}}', "Unicode"),
        ('{"url": "https://a.b/", "priority": ' + "9" * 5000 + "}", "broken"),
        ("[" * 100_000, "nested too deep"),
        ('{"url":' * 30_000, "nested too deep"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_object_with_a_url_is_refused(seed, says):
    assert says in reason(seed)


@pytest.mark.parametrize("size", [300_000, 10_000_000])
def test_a_seed_that_is_too_large_is_refused_before_it_is_read(size):
    begin = time.process_time()

    for seed in (b"[" * size, b'{"a":' * (size // 5), "x" * size, b"\xff" * size):
        assert "FRONTIER_SEED_MAX_SIZE allows 262144" in reason(seed)
    assert time.process_time() - begin < 1


def test_many_keys_are_refused_quickly():
    seed = json.dumps({"url": URL, "meta": {str(n): n for n in range(12_000)}})
    begin = time.process_time()

    assert len(parse(seed).meta) == 12_000
    assert "twice" in reason(seed.replace('"11999"', '"0"'))
    assert time.process_time() - begin < 1


def test_every_field_reaches_the_request():
    request = parse(
        {
            "url": URL,
            "method": "put",
            "meta": {"job": [1, {"a": None}], "cookiejar": 1},
            "cb_kwargs": {"page": 2},
            "headers": {"X-One": "1", "X-Many": ["a", "b"]},
            "cookies": {"a": "b", "n": 1},
            "body": "ä",
            "priority": -5,
            "dont_filter": False,
            "callback": "parse_item",
            "errback": "failed",
            "encoding": "iso-8859-1",
            "flags": ["seed"],
        }
    )

    assert (request.method, request.body) == ("PUT", b"\xe4")
    assert request.meta == {"job": [1, {"a": None}], "cookiejar": 1}
    assert request.cb_kwargs == {"page": 2}
    assert request.headers.getlist("X-One") == [b"1"]
    assert request.headers.getlist("X-Many") == [b"a", b"b"]
    assert request.cookies == {"a": "b", "n": 1}
    assert (request.priority, request.dont_filter) == (-5, False)
    assert (request.callback, request.errback) == (SPIDER.parse_item, SPIDER.failed)
    assert (request.encoding, request.flags) == ("iso-8859-1", ["seed"])


def test_cookies_may_be_a_list_of_objects():
    cookies = [{"name": "a", "value": "b", "path": "/x", "secure": True}]

    assert parse({"url": URL, "cookies": cookies}).cookies == cookies


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("url", 5, "url is a JSON number, not a string"),
        ("url", None, "url is a JSON null"),
        ("method", 5, "method is a JSON number"),
        ("method", "", "method is not valid"),
        ("method", "GET / HTTP/1.1\r\nX: y", "method is not valid"),
        ("meta", [], "meta is a JSON list, not an object"),
        ("meta", None, "meta is a JSON null"),
        ("cb_kwargs", "x", "cb_kwargs is a JSON string"),
        ("headers", ["A"], "headers is a JSON list"),
        ("headers", {"A": 1}, "the header 'A' is a JSON number"),
        ("headers", {"A": [None]}, "the header 'A' is a JSON null"),
        ("headers", {"A": "1\r\nB: 2"}, "the header 'A' has a line break"),
        ("headers", {"A B": "1"}, "a name in headers is not valid"),
        ("headers", {"": "1"}, "a name in headers is not valid"),
        ("cookies", "a=b", "cookies is a JSON string"),
        ("cookies", ["a=b"], "an element of cookies is a JSON string"),
        ("cookies", [{"name": "a"}], "no value"),
        ("cookies", [{"name": "a", "value": []}], "JSON list"),
        ("cookies", {"a": None}, "the cookie 'a' is a JSON null"),
        ("cookies", {"a": "1\n2"}, "line break"),
        ("body", {"a": 1}, "body is a JSON object, not a string"),
        ("body", 5, "body is a JSON number"),
        ("formdata", "a=b", "formdata is a JSON string"),
        ("formdata", ["a"], "no pair"),
        ("formdata", [["a", "b", "c"]], "no pair"),
        ("formdata", [[1, "b"]], "a name in formdata is a JSON number"),
        ("formdata", {"a": {}}, "the form field 'a' is a JSON object"),
        ("formdata", {"a": [None]}, "the form field 'a' is a JSON null"),
        ("formdata", {"a": True}, "the form field 'a' is a JSON true or false"),
        ("priority", "1", "priority is a JSON string, not a whole number"),
        ("priority", 1.5, "priority is a JSON number, not a whole number"),
        ("priority", True, "priority is a JSON true or false"),
        ("priority", 1 << 60, "priority is beyond"),
        ("priority", -(1 << 53) - 1, "priority is beyond"),
        ("dont_filter", 1, "dont_filter is a JSON number"),
        ("callback", 5, "callback is a JSON number"),
        ("callback", "", "callback is not allowed"),
        ("callback", "__init__", "callback is not allowed"),
        ("callback", "from_crawler", "callback is not allowed"),
        ("callback", "nothing", "Books has no method 'nothing'"),
        ("errback", "close", "errback is not allowed"),
        ("encoding", "nothing", "encoding is no text encoding"),
        ("encoding", "zip", "encoding is no text encoding"),
        ("encoding", "punycode", "encoding is no text encoding"),
        ("encoding", "utf-8\x00", "encoding is no text encoding"),
        ("flags", "x", "flags is a JSON string, not a list"),
        ("flags", [1], "an element of flags is a JSON number"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(field, value, says):
    assert says in reason({"url": URL, field: value})


def test_text_that_the_encoding_lacks_is_refused():
    reason({"url": URL, "encoding": "ascii", "body": "ä"})
    reason({"url": URL, "encoding": "ascii", "formdata": {"a": "ä"}})


def test_an_unknown_key_is_named_with_the_known_ones():
    message = reason({"url": URL, "colour": "red"})

    assert "'colour'" in message
    assert "cb_kwargs" in message
    assert "FRONTIER_SEED_FORM_FIELDS" in message


# meta


@pytest.mark.parametrize("key", [*sorted(STEERING_META), "_auth_proxy", "_anything"])
def test_meta_that_steers_scrapy_needs_permission(key):
    seed = {"url": URL, "meta": {key: 1, "mine": 2}}

    assert f"'{key}'" in reason(seed)
    assert "FRONTIER_SEED_META" in reason(seed, meta=frozenset({"other"}))
    assert parse(seed, meta=frozenset({key})).meta == {key: 1, "mine": 2}


@pytest.mark.parametrize("key", ["proxy", "bindaddress", "download_slot", "http_pass"])
def test_the_dangerous_meta_keys_are_among_them(key):
    assert key in STEERING_META


# Forms


def test_formdata_is_posted():
    request = parse({"url": URL, "formdata": {"a": "1", "b": ["2", 3], "c": 1.5}})

    assert isinstance(request, FormRequest)
    assert (request.method, request.url) == ("POST", URL)
    assert request.body == b"a=1&b=2&b=3&c=1.5"
    assert request.headers["Content-Type"] == b"application/x-www-form-urlencoded"


def test_formdata_may_be_pairs():
    request = parse({"url": URL, "formdata": [["a", "1"], ["b", "2"], ["a", "ä"]]})

    assert request.body == b"a=1&b=2&a=%C3%A4"


def test_formdata_of_a_get_request_is_added_to_the_query():
    request = parse(
        {"url": URL + "#top", "method": "get", "formdata": {"a": "2", "b": "x y"}}
    )

    assert request.url == "https://example.com/page?a=1&a=2&b=x+y#top"
    assert (request.method, request.body) == ("GET", b"")


def test_formdata_without_a_field_changes_nothing_but_the_method():
    request = parse({"url": URL, "formdata": {}})

    assert (request.method, request.url, request.body) == ("POST", URL, b"")


def test_formdata_and_body_exclude_each_other():
    assert "both" in reason({"url": URL, "formdata": {}, "body": "x"})
    assert "both" in reason({"url": URL, "k": "v", "body": "x"}, form_fields=True)


def test_formdata_goes_with_get_and_post_only():
    assert "'PUT'" in reason({"url": URL, "method": "PUT", "formdata": {"a": "1"}})


def test_unknown_keys_are_form_fields_if_the_setting_says_so():
    seed = {"url": URL, "k": "v", "n": 5}

    request = parse(seed, form_fields=True)
    assert isinstance(request, FormRequest)
    assert (request.method, request.url) == ("GET", URL + "&k=v&n=5")

    request = parse({**seed, "method": "POST"}, form_fields=True)
    assert (request.method, request.url, request.body) == ("POST", URL, b"k=v&n=5")

    assert "form field 'k'" in reason({"url": URL, "k": {}}, form_fields=True)
    assert type(parse({"url": URL}, form_fields=True)) is Request


# Spiders


def test_seeds_of_a_sitemap_spider_go_to_its_sitemap_parser():
    class Maps(SitemapSpider):
        name = "maps"
        sitemap_urls = ["https://example.com/sitemap.xml"]

        def parse_item(self, response):
            """A callback."""

    spider = Maps()
    seed = json.dumps({"url": URL, "callback": "parse_item"})

    assert parse_seed(URL, RULES, spider).callback == spider._parse_sitemap
    assert parse_seed(seed, RULES, spider).callback == spider.parse_item


def test_the_request_of_a_seed_can_be_stored():
    request = parse({"url": URL, "formdata": {"a": "1"}, "callback": "parse_item"})
    codec = PayloadCodec(SPIDER)

    again = codec.decode(codec.encode(request))

    assert again.to_dict(spider=SPIDER) == request.to_dict(spider=SPIDER)


# Strangers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["url", "method", "meta", "headers", "cookies", "body", "formdata", "flags", "x"]
)


@given(st.binary() | st.text())
def test_garbage_is_a_bad_seed(data):
    with contextlib.suppress(BadSeed):
        parse_seed(data, RULES, SPIDER)


@given(JSON | st.dictionaries(FIELDS, JSON), st.booleans())
def test_any_json_is_a_request_or_a_bad_seed(value, form_fields):
    rules = dataclasses.replace(RULES, form_fields=form_fields)
    for seed in (value, {"url": URL, **value} if isinstance(value, dict) else [value]):
        with contextlib.suppress(BadSeed):
            assert parse_seed(json.dumps(seed), rules, SPIDER).dont_filter


@given(st.from_regex(_PLAIN, fullmatch=True))
def test_what_is_taken_for_a_plain_url_has_a_host_and_a_valid_port(url):
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port is None or 0 <= parts.port < 65536
    assert url.isprintable()
    assert url.isascii()
    assert not re.search(r"[\s\\@]", parts.netloc)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_url_is_a_request_or_a_bad_seed(host, path):
    for url in (f"https://{host}/{path}", f"https:{host}{path}"):
        for seed in (
            url,
            json.dumps({"url": url, "method": "GET", "formdata": {"a": "b"}}),
        ):
            with contextlib.suppress(BadSeed):
                assert "://" in parse_seed(seed, RULES, SPIDER).url


# Settings


def test_the_rules_are_settings():
    assert SeedRules.from_settings(Settings()) == RULES
    assert SeedRules.from_settings(
        Settings(
            {
                "FRONTIER_SEED_SCHEMES": "HTTPS, ftp",
                "FRONTIER_SEED_MAX_SIZE": "1000",
                "FRONTIER_SEED_META": ["proxy"],
                "FRONTIER_SEED_FORM_FIELDS": "1",
                "REDIS_ENCODING": "utf-16",
            }
        ),
        encoding="iso-8859-1",
    ) == SeedRules(
        schemes=frozenset({"https", "ftp"}),
        max_size=1000,
        meta=frozenset({"proxy"}),
        form_fields=True,
        encoding="iso-8859-1",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRONTIER_SEED_SCHEMES", 5),
        ("FRONTIER_SEED_SCHEMES", ["https://"]),
        ("FRONTIER_SEED_SCHEMES", [5]),
        ("FRONTIER_SEED_MAX_SIZE", 0),
        ("FRONTIER_SEED_MAX_SIZE", "large"),
        ("FRONTIER_SEED_MAX_SIZE", float("inf")),
        ("FRONTIER_SEED_META", 5),
        ("FRONTIER_SEED_META", [None]),
        ("FRONTIER_SEED_FORM_FIELDS", "perhaps"),
        ("REDIS_ENCODING", "nothing"),
        ("REDIS_ENCODING", "base64"),
        ("REDIS_ENCODING", 5),
    ],
)
def test_a_wrong_setting_is_named_with_a_remedy(name, value):
    with pytest.raises(ConfigurationError, match=rf"{name}.*(Write|default)") as caught:
        SeedRules.from_settings(Settings({name: value}))

    assert repr(
        value[0] if name.endswith("SCHEMES") and value == ["https://"] else value
    ) in str(caught.value)


def test_a_wrong_encoding_of_the_spider_is_named():
    with pytest.raises(ConfigurationError, match="redis_encoding = 'nothing'"):
        SeedRules.from_settings(Settings(), encoding="nothing")


# Encodings and plugins


@pytest.mark.parametrize(
    "name",
    [
        "utf-16",
        "utf_32_le",
        "utf-7",
        "utf-8-sig",
        "cp037",
        "cp500",
        "hz",
        "iso2022_jp",
        "iso-2022-kr",
        "unicode_escape",
        "raw-unicode-escape",
        "idna",
        "punycode",
        "undefined",
        "base64",
        "rot13",
    ],
)
def test_only_encodings_that_contain_ascii_are_allowed(name):
    assert "no text encoding" in reason({"url": URL, "encoding": name})
    with pytest.raises(ConfigurationError, match="REDIS_ENCODING"):
        SeedRules.from_settings(Settings({"REDIS_ENCODING": name}))


@pytest.mark.parametrize(
    "name", ["utf-8", "latin-1", "cp1252", "koi8-r", "gbk", "big5", "euc-jp", "cp932"]
)
def test_encodings_of_pages_are(name):
    assert parse({"url": URL, "encoding": name}).encoding == name
    SeedRules.from_settings(Settings({"REDIS_ENCODING": name}))


@pytest.mark.parametrize(
    "key",
    [
        "playwright",
        "playwright_context_kwargs",
        "playwright_page_methods",
        "Playwright",
        "splash",
        "_splash_processed",
        "zyte_api",
        "zyte_api_automap",
        "zyte_api_provider",
        "impersonate",
        "impersonate_args",
        "selenium",
        "crawlera_session",
        "frontier_from_seed",
        "frontier_seed",
        "frontier_local",
    ],
)
def test_meta_of_plugins_is_refused_unless_it_is_allowed(key):
    seed = {"url": URL, "meta": {key: True}}
    assert "FRONTIER_SEED_META does not allow it" in reason(seed)
    assert parse(seed, meta=frozenset({key})).meta == {key: True}
