"""Requests as bytes: all of a request comes back, and nothing else gets in."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import pickle
from types import MethodType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import Request, Spider
from scrapy.http import FormRequest, JsonRequest, XmlRpcRequest
from scrapy.http.request import NO_CALLBACK
from scrapy.link import Link
from scrapy.spiders import CrawlSpider, CSVFeedSpider, SitemapSpider, XMLFeedSpider

from scrapy_dist import picklecompat
from scrapy_dist.base.escaping import quote
from scrapy_dist.codec import compact, messagepack
from scrapy_dist.codec.policy import Policy
from scrapy_dist.codec.request import PayloadCodec, fields_of
from scrapy_dist.exceptions import BadPayload, ConfigurationError, Unserializable
from tests.support.engine import make_crawler

URL = "https://example.com/page?a=1&b=%C3%A9#top"
EXECUTED: list[str] = []


def badly_wrapped(func):
    def wrapper(self, response):
        return func(self, response)

    return wrapper


def well_wrapped(func):
    @functools.wraps(func)
    def wrapper(self, response):
        return func(self, response)

    return wrapper


def foreign(response):
    """No method of any spider."""


class Books(Spider):
    name = "books"
    parse_nested = Spider  # a class, no method

    def parse(self, response, **kwargs):
        """The default callback."""

    def parse_item(self, response):
        """A callback."""

    def failed(self, failure):
        """An errback."""

    def __parse_secret(self, response):
        """A callback with a mangled name."""

    @badly_wrapped
    def parse_badly_wrapped(self, response):
        """A callback whose __name__ is another."""

    @well_wrapped
    def parse_well_wrapped(self, response):
        """A callback whose __name__ is right."""

    parse_alias = parse_item

    @classmethod
    def parse_class(cls, response):
        """A class method."""

    @staticmethod
    def parse_static(response):
        """A static method."""

    @property
    def parse_property(self):
        EXECUTED.append("property")

    @property
    def secret(self):
        return self.__parse_secret


class SpecialRequest(Request):
    attributes = (*Request.attributes, "country")

    def __init__(self, *args: Any, country: str | None = "de", **kwargs: Any):
        self.country = country
        kwargs.setdefault("method", "PUT")
        super().__init__(*args, **kwargs)


class OtherRequest(Request):
    """Not in FRONTIER_REQUEST_CLASSES."""


@pytest.fixture
def spider() -> Books:
    EXECUTED.clear()  # Request.to_dict() runs the properties of the spider
    return Books()


@pytest.fixture(params=["msgpack", "json", "pickle"])
def codec(request, spider) -> PayloadCodec:
    module = {"msgpack": None, "json": json, "pickle": pickle}[request.param]
    return PayloadCodec(spider, serializer=module, request_classes=[SpecialRequest])


@pytest.fixture
def plain(spider) -> PayloadCodec:
    return PayloadCodec(spider)


def contents(request: Request, spider: Spider | None = None) -> dict[str, Any]:
    fields = request.to_dict(spider=spider)
    fields["meta"].pop("is_start_request", None)
    return fields


def packed(**fields: Any) -> bytes:
    return b"\x01" + messagepack.dumps({"url": URL, **fields})


# What comes back


def test_a_bare_request_takes_only_its_url(plain):
    data = plain.encode(Request(URL))

    assert data == b"\x01" + compact.dumps({"url": URL})
    assert contents(plain.decode(data)) == contents(Request(URL))


def test_every_field_comes_back(codec, spider):
    request = Request(
        URL,
        callback=spider.parse_item,
        errback=spider.failed,
        method="post",
        headers={"X-One": "1", "X-Many": ["a", b"\xff"]},
        body="ä€",
        cookies=[{"name": "a", "value": "b", "secure": True}],
        meta={"depth": 2, 3: (4, {5}), "cookiejar": None},
        encoding="iso-8859-15",
        priority=-7,
        dont_filter=True,
        flags=["seen"],
        cb_kwargs={"page": 1},
    )

    again = codec.decode(codec.encode(request))

    assert type(again) is Request
    assert contents(again, spider) == contents(request, spider)
    assert again.callback == spider.parse_item


META = st.dictionaries(
    st.text(),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.binary()
        | st.dates(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)
TOKENS = st.text("abcXYZ-", min_size=1, max_size=8)
SPIDER = Books()
REQUESTS = st.builds(
    Request,
    url=st.text(max_size=30).map(lambda path: f"http://example.com/{path}"),
    callback=st.sampled_from([None, SPIDER.parse, SPIDER.parse_item]),
    errback=st.sampled_from([None, SPIDER.failed]),
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
    headers=st.dictionaries(TOKENS, st.text(max_size=9) | st.binary(max_size=9)),
    body=st.binary(max_size=50),
    cookies=st.dictionaries(TOKENS, st.text() | st.integers()),
    meta=META,
    priority=st.integers(-(1 << 53), 1 << 53),
    dont_filter=st.booleans(),
    flags=st.lists(st.text(), max_size=2),
    cb_kwargs=META,
)


@given(REQUESTS, st.sampled_from([None, json, picklecompat]))
def test_any_request_comes_back(request, module):
    codec = PayloadCodec(SPIDER, serializer=module)

    again = codec.decode(codec.encode(request))

    assert contents(again, SPIDER) == contents(request, SPIDER)


@pytest.mark.parametrize(
    "request_",
    [
        FormRequest(URL, formdata={"a": ["1", "2"]}),
        FormRequest(URL, method="GET", formdata={"q": "x"}),
        JsonRequest(URL, data={"a": [1]}, dumps_kwargs={"indent": 1}),
        XmlRpcRequest(URL, params=(1,), methodname="f"),
        XmlRpcRequest(URL, method="GET", dont_filter=False),
        SpecialRequest(URL, country=None),
        SpecialRequest(URL, method="GET", country="at"),
    ],
    ids=repr,
)
def test_a_subclass_comes_back_with_its_attributes(codec, request_):
    again = codec.decode(codec.encode(request_))

    assert type(again) is type(request_)
    assert contents(again) == contents(request_)


@pytest.mark.parametrize(
    "name",
    ["parse", "parse_item", "parse_well_wrapped", "parse_badly_wrapped", "secret"],
)
def test_a_method_of_the_spider_comes_back(codec, spider, name):
    method = getattr(spider, name)

    for _ in range(2):  # the second time from the cache
        again = codec.decode(codec.encode(Request(URL, callback=method)))
        assert again.callback == method


def test_an_alias_is_the_same_method(plain, spider):
    again = plain.decode(plain.encode(Request(URL, callback=spider.parse_alias)))

    assert again.callback == spider.parse_item


def make_spider(base: type[Spider]) -> Spider:
    urls = {"sitemap_urls": ["https://example.com/sitemap.xml"]}
    return base(name="made", **(urls if base is SitemapSpider else {}))


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (Spider, "_parse"),
        (CrawlSpider, "_callback"),
        (CrawlSpider, "_errback"),
        (CrawlSpider, "_parse"),
        (CrawlSpider, "_parse_response"),
        (CrawlSpider, "parse_start_url"),
        (SitemapSpider, "_parse_sitemap"),
        (XMLFeedSpider, "parse_nodes"),
        (CSVFeedSpider, "parse_rows"),
    ],
)
def test_the_callbacks_of_scrapys_spiders_come_back(base, name):
    spider = make_spider(base)
    codec = PayloadCodec(spider)
    request = Request(URL, callback=getattr(spider, name))

    assert codec.decode(codec.encode(request)).callback == request.callback


def test_a_request_of_crawlspider_comes_back():
    # given a request that a rule makes, with text that lxml extracted
    spider = CrawlSpider(name="made")
    request = spider._build_request(0, Link(URL, text="next"))

    # when it is stored and read
    codec = PayloadCodec(spider)
    again = codec.decode(codec.encode(request))

    # then it is the same
    assert contents(again, spider) == contents(request, spider)


def test_the_method_of_the_class_is_called_whatever_the_spider_has_of_its_name(
    plain, spider
):
    spider.parse_item = foreign

    again = plain.decode(packed(callback="parse_item"))

    assert again.callback.__func__ is Books.parse_item


def test_the_mark_of_start_requests_is_kept_for_callbacks(codec):
    request = Request(URL, meta={"is_start_request": True, "depth": 0})

    again = codec.decode(codec.encode(request))

    assert again.meta == {"is_start_request": True, "depth": 0}


def test_a_payload_is_a_snapshot(codec):
    # given a request that is stored
    request = Request(URL, meta={"list": [1]}, headers={"A": "1"}, cookies={"c": "1"})
    data = codec.encode(request)

    # when the request changes afterwards
    request.meta["list"].append(2)
    request.headers["A"] = "2"
    request.cookies["c"] = "2"

    # then the stored one does not
    again = codec.decode(data)
    assert (again.meta, again.headers["A"], again.cookies) == (
        {"list": [1]},
        b"1",
        {"c": "1"},
    )


def test_values_that_scrapy_takes_for_flags_are_stored_as_such(plain):
    request = Request(URL)
    request.dont_filter = 1
    request.flags = ("a",)

    again = plain.decode(plain.encode(request))

    assert (again.dont_filter, again.flags) == (True, ["a"])


def test_a_url_of_a_scheme_that_is_allowed_comes_back(spider):
    codec = PayloadCodec(
        spider, policy=Policy(frozenset({"data", "file", "ftp", "s3"}))
    )
    for url in ("file:///etc/hosts", "data:,x", "s3://bucket/key", "ftp://h/f"):
        assert codec.decode(codec.encode(Request(url))).url == url


def test_a_json_payload_is_readable(spider):
    codec = PayloadCodec(spider, serializer=json)

    data = codec.encode(Request(URL, headers={"A": "1"}, callback=spider.parse_item))

    assert json.loads(data) == {
        "url": URL,
        "callback": "parse_item",
        "headers": {"A": ["1"]},
    }


def test_any_module_with_dumps_and_loads_will_do(spider):
    class Shouting:
        """Neither JSON nor pickle."""

        def dumps(self, obj):
            return "!" + json.dumps(obj)

        def loads(self, data):
            return json.loads(data[1:])

    codec = PayloadCodec(spider, serializer=Shouting())
    request = Request(URL, body=b"\xff", meta={"t": (1, 2)})

    data = codec.encode(request)

    assert data.startswith(b"\x02!")
    assert contents(codec.decode(data)) == contents(request)


# What cannot be stored


class Helper:
    def parse(self, response):
        """A method, but of no spider."""


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        (lambda response: None, "lambda"),
        (foreign, "no method of the spider"),
        (functools.partial(foreign), "no method of the spider"),
        (Helper().parse, "no method of the spider"),
        (Books().parse_item, "no method of the spider"),
        (NO_CALLBACK, "NO_CALLBACK"),
        (print, "no method of the spider"),
        ("parse_class", "no method of the spider"),
        ("parse_static", "no method of the spider"),
        ("log", "no callback"),
        ("start", "no callback"),
        ("__repr__", "no callback"),
    ],
)
@pytest.mark.parametrize("field", ["callback", "errback"])
def test_a_callback_that_is_no_method_of_the_spider_is_refused(
    codec, spider, callback, reason, field
):
    if isinstance(callback, str):
        callback = getattr(spider, callback)

    with pytest.raises(Unserializable, match=rf"{field}.*{reason}"):
        codec.encode(Request(URL, **{field: callback}))


def test_a_method_bound_by_hand_is_refused(codec, spider):
    with pytest.raises(Unserializable, match="no method"):
        codec.encode(Request(URL, callback=MethodType(foreign, spider)))


def test_an_overridden_method_is_refused(spider):
    class Child(Books):
        def failed(self, failure):
            """Not the parent's."""

        @property
        def parents(self):
            return super().failed

    child = Child()

    with pytest.raises(Unserializable, match="overridden"):
        PayloadCodec(child).encode(Request(URL, callback=child.parents))


def test_the_refusal_names_the_value(plain):
    with (
        open(__file__) as file,  # noqa: PTH123 - any open file
        pytest.raises(Unserializable, match=r"meta\['file'\].*(TextIOWrapper|FileIO)"),
    ):
        plain.encode(Request(URL, meta={"ok": 1, "file": file}))
    with pytest.raises(Unserializable, match=r"cb_kwargs\['x'\].*builtins\.object"):
        plain.encode(Request(URL, cb_kwargs={"x": [object()]}))


def test_a_value_that_recurses_is_refused(codec):
    meta: dict[str, Any] = {}
    meta["me"] = [meta]
    if codec._serializer is pickle:
        pytest.skip("pickle can store it")

    with pytest.raises(Unserializable, match="meta"):
        codec.encode(Request(URL, meta=meta))


def test_a_request_that_is_too_large_is_refused(spider):
    codec = PayloadCodec(spider, max_size=100)

    with pytest.raises(Unserializable, match="FRONTIER_MAX_PAYLOAD allows 100"):
        codec.encode(Request(URL, body=b"x" * 100))


def test_a_foreign_request_class_is_refused_with_the_remedy(codec):
    with pytest.raises(Unserializable, match=r"OtherRequest' to FRONTIER_REQUEST_CL"):
        codec.encode(OtherRequest(URL))


@pytest.mark.parametrize(
    ("field", "value"),
    [("priority", 0.5), ("priority", 1 << 54), ("method", 1), ("flags", [1])],
)
def test_fields_that_could_not_be_read_again_are_refused(codec, field, value):
    request = Request(URL)
    setattr(request, field, value)

    with pytest.raises(Unserializable):
        codec.encode(request)


# What must not get in


class Bomb:
    def __reduce__(self):
        return (EXECUTED.append, ("pickle",))


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (pickle.dumps({"url": URL}), "a pickle"),
        (pickle.dumps(Bomb()), "a pickle"),
        (b'{"url": "http://example.com/"}', "JSON"),
        (b"\x00http://example.com/", "a raw seed"),
        (b"\x02x", "another serializer"),
        (b"garbage", "no payload"),
        (b"", "no payload"),
    ],
)
def test_another_format_is_named_and_not_read(plain, data, looks_like):
    with pytest.raises(BadPayload, match=f"{looks_like}.*SCHEDULER_SERIALIZER"):
        plain.decode(data)

    assert EXECUTED == []


@pytest.mark.parametrize("module", [None, json])
def test_no_pickle_is_loaded_unless_the_setting_says_so(spider, module):
    codec = PayloadCodec(spider, serializer=module)

    for prefix in (b"", b"\x01", b"{", b"\x02"):
        with pytest.raises(BadPayload):
            codec.decode(prefix + pickle.dumps(Bomb()))

    assert EXECUTED == []


@pytest.mark.parametrize(
    "path",
    [
        "subprocess.Popen",
        "os.system",
        "scrapy.Spider",
        "scrapy.http.Response",
        f"{__name__}.OtherRequest",
        "no.such.module.Class",
        "",
    ],
)
def test_a_foreign_class_is_refused_without_an_import(plain, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("builtins.__import__", None)

        with pytest.raises(BadPayload, match=r"class .* not allowed"):
            plain.decode(packed(_class=path))


@pytest.mark.parametrize(
    "name",
    [
        "__init__",
        "__class__",
        "__repr__",
        "_set_crawler",
        "close",
        "closed",
        "from_crawler",
        "handles_request",
        "log",
        "logger",
        "make_request_from_data",
        "name",
        "next_requests",
        "parse_class",
        "parse_nested",
        "parse_property",
        "parse_static",
        "schedule_next_requests",
        "setup_redis",
        "spider_idle",
        "start",
        "start_requests",
        "update_settings",
        "nothing_of_this_name",
        "parse_item.__call__",
        "",
    ],
)
@pytest.mark.parametrize("field", ["callback", "errback"])
def test_a_name_that_is_no_callback_is_refused(plain, field, name):
    with pytest.raises(BadPayload, match=f"its {field} is not allowed"):
        plain.decode(packed(**{field: name}))

    assert EXECUTED == []


@pytest.mark.parametrize(
    "name", ["_compile_rules", "_handle_failure", "process_results"]
)
def test_the_other_methods_of_scrapys_spiders_are_refused(name):
    codec = PayloadCodec(CrawlSpider(name="made"))

    with pytest.raises(BadPayload, match="no callback"):
        codec.decode(packed(callback=name))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"url": 5}, "its url is a int"),
        ({"url": None}, "its url is a NoneType"),
        ({"url": "no scheme"}, "Missing scheme"),
        ({"callback": 5}, "its callback"),
        ({"method": b"GET"}, "its method"),
        ({"headers": []}, "its headers"),
        ({"headers": {"A": "1"}}, "no list"),
        ({"headers": {"A": [None]}}, "no text"),
        ({"headers": {5: ["1"]}}, "name is a int"),
        ({"body": "text"}, "its body"),
        ({"cookies": "a=b"}, "its cookies"),
        ({"cookies": ["a=b"]}, "its cookies"),
        ({"meta": []}, "its meta"),
        ({"encoding": "no such encoding"}, "no such encoding"),
        ({"encoding": None}, "its encoding"),
        ({"priority": True}, "its priority"),
        ({"priority": 1 << 60}, "its priority"),
        ({"dont_filter": 1}, "its dont_filter"),
        ({"flags": "x"}, "its flags"),
        ({"flags": [1]}, "its flags"),
        ({"cb_kwargs": {1: 2}}, "its cb_kwargs"),
        ({"_class": 5}, "its _class"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"dumps_kwargs": {}}, "unknown field 'dumps_kwargs'"),
        ({"self": 1}, "unknown field 'self'"),
        ({7: 1}, "unknown field '7'"),
    ],
    ids=repr,
)
def test_fields_of_the_wrong_kind_are_refused(spider, fields, reason):
    for module, first in ((None, b"\x01"), (pickle, b"")):
        dump = messagepack.dumps if module is None else pickle.dumps
        codec = PayloadCodec(spider, serializer=module)

        with pytest.raises(BadPayload, match=reason):
            codec.decode(first + dump({"url": URL, **fields}))


@pytest.mark.parametrize("value", [None, 5, [], "x", ["url"], {}])
def test_what_is_no_request_is_refused(plain, value):
    with pytest.raises(BadPayload):
        plain.decode(b"\x01" + messagepack.dumps(value))


def test_a_payload_that_is_too_large_is_not_even_read(spider):
    codec = PayloadCodec(spider, max_size=100)

    with pytest.raises(BadPayload, match="FRONTIER_MAX_PAYLOAD allows 100"):
        codec.decode(packed(body=b"x" * 100))


@given(st.binary(), st.sampled_from([b"\x01", b"{", b"\x02", b""]))
def test_garbage_is_a_bad_payload(data, first):
    for module in (None, json):
        with pytest.raises(BadPayload):
            PayloadCodec(SPIDER, serializer=module).decode(first + data)


@given(
    st.dictionaries(
        st.sampled_from([*Request.attributes, "_class", "x"]),
        st.none()
        | st.text()
        | st.integers()
        | META
        | st.lists(st.text())
        | st.binary(),
    )
)
def test_a_dict_of_anything_is_a_request_or_a_bad_payload(fields):
    for data, module in (
        (b"\x01" + messagepack.dumps(fields), None),
        (json.dumps(messagepack.to_jsonable(fields)).encode(), json),
    ):
        with contextlib.suppress(BadPayload):
            assert PayloadCodec(SPIDER, serializer=module).decode(data).url


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_swallowed(spider, error):
    class Interrupted:
        def dumps(self, obj):
            return b"{}"

        def loads(self, data):
            raise error

    with pytest.raises(error):
        PayloadCodec(spider, serializer=Interrupted()).decode(b"{}")


def test_no_reason_shows_a_password():
    for text in (
        "https://user:secret@host/",
        "https://user:se@cr/et@host/",
        "user:secret@host:80",
        '{"url": "https://user:secret@host/"}',
        b"https://user:secret@host/",
        "https://user:" + "secret" * 100 + "@host/",
    ):
        assert "secret" not in quote(text)
        assert "cr" not in quote(text)
    assert quote("https://host/?a=1:b") == "'https://host/?a=1:b'"
    assert len(quote("x" * 1000)) <= 82


# Settings


def test_without_settings_it_is_messagepack(spider):
    data = PayloadCodec.from_crawler(make_crawler(spider), "s:requests").encode(
        Request(URL)
    )

    assert data == b"\x01" + compact.dumps({"url": URL})


@pytest.mark.parametrize(
    ("value", "first"),
    [
        (None, b"\x01"),
        ("scrapy_dist.codec.messagepack", b"\x01"),
        ("json", b"{"),
        (json, b"{"),
        ("pickle", b"\x80"),
        ("scrapy_dist.picklecompat", b"\x80"),
        (picklecompat, b"\x80"),
        ("marshal", b"\x02"),  # its dicts begin with { as well
    ],
)
def test_the_serializer_is_a_setting(spider, value, first):
    codec = PayloadCodec.from_crawler(
        make_crawler(spider, SCHEDULER_SERIALIZER=value), "s:requests"
    )

    data = codec.encode(Request(URL, body=b"\xff"))

    assert data[:1] == first
    assert codec.decode(data).body == b"\xff"


@pytest.mark.parametrize(
    "settings",
    [
        {"SCHEDULER_SERIALIZER": "no.such.module"},
        {"SCHEDULER_SERIALIZER": "math"},
        {"SCHEDULER_SERIALIZER": "json.dumps"},
        {"SCHEDULER_SERIALIZER": ""},
        {"SCHEDULER_SERIALIZER": 5},
        {"SCHEDULER_SERIALIZER": SimpleNamespace(dumps=repr, loads=None)},
        {"SCHEDULER_SERIALIZER": SimpleNamespace(dumps=ord, loads=eval)},
        {"FRONTIER_MAX_PAYLOAD": 0},
        {"FRONTIER_MAX_PAYLOAD": "much"},
        {"FRONTIER_REQUEST_CLASSES": ["no.such.Class"]},
        {"FRONTIER_REQUEST_CLASSES": "subprocess.Popen"},
        {"FRONTIER_REQUEST_CLASSES": [Spider]},
        {"FRONTIER_REQUEST_CLASSES": [5]},
        {"FRONTIER_REQUEST_CLASSES": 5},
    ],
    ids=repr,
)
def test_a_wrong_setting_is_named_with_a_remedy(spider, settings):
    ((name, value),) = settings.items()

    with pytest.raises(ConfigurationError) as caught:
        PayloadCodec.from_crawler(make_crawler(spider, **settings), "s:requests")

    message = str(caught.value)
    assert message.startswith(name)
    assert repr(value[0] if isinstance(value, list) else value) in message
    assert len(message.split(". ")) > 1


def test_request_classes_are_a_setting(spider):
    path = "scrapy.http.request.json_request.JsonRequest"
    for value in ([SpecialRequest], f"{path}, {path}", []):
        codec = PayloadCodec.from_crawler(
            make_crawler(spider, FRONTIER_REQUEST_CLASSES=value), "s:requests"
        )
        if value == [SpecialRequest]:
            decoded = codec.decode(codec.encode(SpecialRequest(URL)))
            assert type(decoded) is SpecialRequest
        else:
            with pytest.raises(Unserializable, match="SpecialRequest"):
                codec.encode(SpecialRequest(URL))


def test_a_crawler_without_spider_is_refused():
    with pytest.raises(ConfigurationError, match="no spider"):
        PayloadCodec.from_crawler(make_crawler(None), "s:requests")


@pytest.mark.parametrize("value", ["pickle", "scrapy_dist.picklecompat"])
def test_a_pickle_serializer_is_warned_about_once(spider, value, caplog):
    with caplog.at_level(logging.WARNING, "scrapy_dist"):
        codec = PayloadCodec.from_crawler(
            make_crawler(spider, SCHEDULER_SERIALIZER=value), "s:requests"
        )
        codec.decode(codec.encode(Request(URL)))

    (record,) = caplog.records
    assert "can run code on this worker" in record.getMessage()
    assert value in record.getMessage()
    assert record.spider is spider


def test_picklecompat_stores_what_pickle_can():
    assert picklecompat.loads(picklecompat.dumps(Helper)) is Helper


def test_fields_are_read_without_the_spider(plain):
    assert fields_of(plain.encode(Request(URL, priority=3))) == {
        "url": URL,
        "priority": 3,
    }
    assert fields_of(b'{"url": 1}') == {"url": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "no payload of any kind"),
        (b"\x80\x04.", "no payload of any kind"),
        (b"\x00http://a", "no payload of any kind"),
        (b"[]", "no payload of any kind"),
        (b"{", "not readable as JSON"),
        (b"{" * 30_000, "not readable as JSON"),
        (b"\x01\x05", "it holds a int, no request"),
        (b"\x01\xc1", "not valid MessagePack"),
    ],
)
def test_what_holds_no_fields_is_refused(payload, reason):
    with pytest.raises(BadPayload, match=reason):
        fields_of(payload)


@pytest.mark.parametrize("more", [0, 1])
def test_limit_of_a_payload_is_the_largest_that_is_taken(spider, more):
    request = Request("http://example.com/")
    size = len(PayloadCodec(spider).encode(request)) - more
    codec = PayloadCodec(spider, max_size=size)
    data = PayloadCodec(spider).encode(request)
    if more:
        with pytest.raises(Unserializable):
            codec.encode(request)
        with pytest.raises(BadPayload):
            codec.decode(data)
    else:
        assert codec.decode(codec.encode(request)).url == request.url
