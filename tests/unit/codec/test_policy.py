"""What a request from Redis may ask for, and what a spider's own may."""

from __future__ import annotations

import msgpack
import pytest
from scrapy import Request, Spider
from scrapy.http import FormRequest
from scrapy.settings import Settings

from scrapy_dist.codec.policy import POLICY, Policy
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seed import check_made
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.exceptions import (
    BadPayload,
    BadSeed,
    ConfigurationError,
    Unserializable,
)

WEB = "https://example.org/"
SPIDER = Spider("s")

#: ``meta`` by which somebody would reach files, or code, of the worker's machine.
LOCAL = [
    {"ftp_local_filename": "/etc/cron.d/x"},
    {"ftp_local_filename": ""},
    {"playwright_context_kwargs": {"user_data_dir": "/tmp/x"}},
    {"playwright_context_kwargs": {"executable_path": "/bin/sh", "args": ["-c"]}},
    {"playwright_context_kwargs": {"record_har_path": "/tmp/x"}},
    {"playwright_context_kwargs": {"storage_state": "/etc/passwd"}},
    {"playwright_page_init_callback": "os.system"},
    {"impersonate_args": {"cert": "/etc/passwd"}},
    {"impersonate_args": {"verify": "/etc/passwd"}},
    {"impersonate_args": {"url": "file:///etc/passwd"}},
    {"impersonate_curl_options": {"COOKIEJAR": "/etc/cron.d/x"}},
    {"impersonate_curl_options": {10002: "file:///etc/passwd"}},
    {"curl_cffi_options": {"cert": "/etc/passwd"}},
    {"curl": {"verify": "/etc/passwd"}},
    {"camoufox_page_init_callback": "os.system"},
    {"patchright_context_kwargs": {"user_data_dir": "/tmp/x"}},
]
#: What spiders set for themselves, and share.
SHARED = [
    {},
    {"proxy": "http://10.0.0.1:3128", "download_slot": "a", "bindaddress": "::1"},
    {"ftp_local_filename": None},
    {"ftp_user": "u", "ftp_password": "p", "cookiejar": 1},
    {"playwright": True, "playwright_context_kwargs": {"ignore_https_errors": True}},
    {"playwright_context_kwargs": {"storage_state": {"cookies": []}}},
    {"playwright_context_kwargs": None},
    {"impersonate": "chrome", "impersonate_args": {"verify": False}},
    {"impersonate_curl_options": {}, "curl": {"impersonate": "chrome"}, "a": "curl"},
    {"playwright_page_methods": ["click"]},
    {"splash": {"args": {"wait": 1}}, "zyte_api": {"browserHtml": True}},
]


@pytest.fixture
def codec():
    return PayloadCodec(Spider("s"))


def payload(url: str = WEB, **fields: object) -> bytes:
    return b"\x01" + msgpack.packb({"url": url, **fields})


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        " file:///etc/passwd",
        "fi\tle:///etc/passwd",
        "file:/etc/passwd",
        "data:,x",
        "ftp://host/x",
        "s3://bucket/key",
        "httpx://host/",
        "http+unix://%2Frun%2Fdocker.sock/",
        "view-source:http://host/",
    ],
)
def test_only_pages_of_the_web_are_read(codec, url):
    with pytest.raises(BadPayload, match="FRONTIER_SCHEMES"):
        codec.decode(payload(url))
    for name in (_path(FormRequest), _path(Request)):
        with pytest.raises(BadPayload):
            codec.decode(payload(url, _class=name))


@pytest.mark.parametrize("url", ["HTTP://host/", "https://host/"])
def test_the_web_is(codec, url):
    assert codec.decode(payload(url)).url.startswith("http")


@pytest.mark.parametrize("meta", LOCAL, ids=repr)
def test_meta_that_reaches_files_is_not_read(codec, meta):
    with pytest.raises(BadPayload, match=next(iter(meta))) as error:
        codec.decode(payload(meta=meta))
    assert error.value.cause == POLICY
    with pytest.raises(BadPayload):
        codec.decode(payload(meta={"depth": 1, **meta}, _class=_path(FormRequest)))


@pytest.mark.parametrize("meta", LOCAL, ids=repr)
def test_a_spiders_own_request_that_reaches_files_stays_in_its_worker(codec, meta):
    with pytest.raises(Unserializable, match=next(iter(meta))):
        codec.encode(Request(WEB, meta=meta))


@pytest.mark.parametrize("meta", SHARED, ids=repr)
def test_what_spiders_set_for_themselves_is_shared(codec, meta):
    assert codec.decode(codec.encode(Request(WEB, meta=meta))).meta == meta


class PageMethod:
    """As scrapy-playwright's."""

    def __init__(self, method, *args, **kwargs):
        self.method, self.args, self.kwargs = method, args, kwargs


@pytest.mark.parametrize(
    ("call", "is_local"),
    [
        (PageMethod("screenshot", path="/etc/cron.d/x"), True),
        (PageMethod("goto", "file:///etc/passwd"), True),
        (PageMethod("goto", url="view-source:file:///etc/passwd"), True),
        (PageMethod("set_input_files", "#file", "/etc/passwd"), True),
        (PageMethod("goto", "https://example.org/2"), False),
        (PageMethod("screenshot", full_page=True), False),
        (PageMethod("wait_for_selector", "div"), False),
    ],
)
def test_calls_in_a_browser_reach_no_files(call, is_local):
    codec = PayloadCodec(SPIDER, shared_classes=[PageMethod])
    trusting = PayloadCodec(SPIDER, shared_classes=[PageMethod], policy=Trusting())
    for calls in ([call], {"shot": call}):
        request = Request(WEB, meta={"playwright_page_methods": calls})
        data = trusting.encode(request)
        if is_local:
            with pytest.raises(BadPayload, match="playwright_page_methods"):
                codec.decode(data)
            with pytest.raises(Unserializable, match="playwright_page_methods"):
                codec.encode(request)
        else:
            assert "playwright_page_methods" in codec.decode(codec.encode(request)).meta


class Trusting(Policy):
    def check_own(self, request):
        """Anything goes."""


def test_a_spiders_own_request_of_another_scheme_stays_and_the_reason_is_named_once(
    codec,
):
    named = set()
    for url in ("file:///srv/x", "data:,x", "ftp://h/x"):
        with pytest.raises(
            Unserializable, match=r"write FRONTIER_SCHEMES = \["
        ) as error:
            codec.encode(Request(url))
        named |= error.value.missing
    # By these names a worker knows that it has said it already.
    assert named == {"FRONTIER_SCHEMES"}


def test_what_no_worker_could_fetch_is_a_letter_of_its_own(codec):
    """It is not kept under the page with that link, which would fail with it."""
    data = codec.encode(Request("gopher://host/"))
    with pytest.raises(BadPayload) as error:
        codec.decode(data)
    assert error.value.cause == POLICY


def test_schemes_that_the_settings_name_are_shared():
    policy = Policy.from_settings(Settings({"FRONTIER_SCHEMES": "FTP, s3"}))
    codec = PayloadCodec(Spider("s"), policy=policy)
    for url in ("ftp://host/x", "s3://bucket/key", WEB):
        assert codec.decode(codec.encode(Request(url))).url == url
    with pytest.raises(BadPayload, match="allows ftp, http, https, s3"):
        codec.decode(payload("file:///etc/passwd"))


def test_most_requests_of_one_scheme_are_a_setting_that_is_missing(codec):
    with pytest.raises(BadPayload) as ftp:
        codec.decode(payload("ftp://host/x"))
    with pytest.raises(BadPayload) as file:
        codec.decode(payload("file:///x"))
    assert ftp.value.cause != file.value.cause
    assert "FRONTIER_SCHEMES = ['ftp']" in ftp.value.remedy


def test_a_handler_of_the_project_counts():
    settings = Settings({"DOWNLOAD_HANDLERS": {"gopher": "a.B", "s3": None}})
    codec = PayloadCodec(Spider("s"), policy=Policy.from_settings(settings))
    with pytest.raises(Unserializable):
        codec.encode(Request("gopher://host/"))
    assert codec.encode(Request("s3://bucket/key"))


@pytest.mark.parametrize("value", [5, ["ftp://"], [""], [5], "ftp://"])
def test_a_setting_that_is_no_list_of_schemes_is_refused(value):
    with pytest.raises(ConfigurationError, match="FRONTIER_SCHEMES = "):
        Policy.from_settings(Settings({"FRONTIER_SCHEMES": value}))


def test_what_a_project_makes_of_a_seed_obeys_it_too():
    rules, policy = SeedRules(), Policy(frozenset({"s3"}))
    check_made(Request(WEB, meta={"proxy": "http://p/"}), rules, policy, SPIDER)
    check_made(Request("s3://bucket/key"), rules, policy, SPIDER)
    for request in (
        Request("file:///etc/passwd"),
        Request("data:,x"),
        Request(WEB, meta={"ftp_local_filename": "x"}),
    ):
        with pytest.raises(BadSeed):
            check_made(request, rules, policy, SPIDER)
    allowed = SeedRules(
        schemes=frozenset({"ftp"}), meta=frozenset({"ftp_local_filename"})
    )
    meta = {"ftp_local_filename": "x"}
    check_made(Request("ftp://host/x", meta=meta), allowed, policy, SPIDER)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"
