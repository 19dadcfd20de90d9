"""Each name by which a request would reach files or code, one by one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from scrapy import Request
from scrapy.settings import Settings

from scrapy_dist.codec.policy import Policy
from scrapy_dist.exceptions import BadPayload

URL = "http://example.org/"
BROWSERS = ("camoufox", "patchright", "playwright")


def read(url: str = URL, policy: Policy | None = None, **meta: Any) -> None:
    (policy or Policy()).check_read(Request(url, meta=meta))


@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.parametrize(
    "name",
    [
        "args",
        "artifacts_dir",
        "client_certificates",
        "downloads_path",
        "env",
        "executable_path",
        "firefox_user_prefs",
        "ignore_default_args",
        "record_har_path",
        "record_video_dir",
        "storage_state",
        "traces_dir",
        "user_data_dir",
    ],
)
def test_arguments_of_a_browser_that_name_files(browser, name):
    key = f"{browser}_context_kwargs"
    with pytest.raises(BadPayload, match=key):
        read(**{key: {name: "/etc/passwd"}})
    with pytest.raises(BadPayload, match=key):
        read(**{key: {"storage_state": {}, name: "x"}})
    read(**{key: {"locale": "de"}})


@pytest.mark.parametrize("key", ["impersonate_args", "curl", "curl_cffi_options"])
@pytest.mark.parametrize(
    "name", ["cert", "curl_options", "debug", "files", "multipart", "url", "verify"]
)
def test_arguments_of_curl_that_name_files(key, name):
    with pytest.raises(BadPayload, match=key):
        read(**{key: {name: "/etc/passwd"}})
    read(**{key: {name: False}})
    read(**{key: {"timeout": 3}})


def call(method: Any, *args: Any, **kwargs: Any) -> SimpleNamespace:
    return SimpleNamespace(method=method, args=args, kwargs=kwargs)


@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.parametrize(
    "bad",
    [
        call("set_input_files", "input", "/etc/passwd"),
        call("route_from_har", "/etc/passwd"),
        call("screenshot", path="/etc/cron.d/x"),
        call("goto", "file:///etc/passwd"),
        call("goto", url="file:///etc/passwd"),
        call("goto"),
        SimpleNamespace(method="click", args=(), kwargs="path"),
        SimpleNamespace(method="click", args="path", kwargs={}),
    ],
    ids=repr,
)
def test_calls_in_a_browser_that_name_files(browser, bad):
    key = f"{browser}_page_methods"
    good = call("click", "a")
    for calls in ([bad], [good, bad], [bad, good], {"x": bad}, {"y": good, "x": bad}):
        with pytest.raises(BadPayload, match=key):
            read(**{key: calls})
    for calls in ([good], {"x": good}, [call("goto", URL)], [], None, 5):
        read(**{key: calls})


@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.parametrize("value", ["os.system", b"os.system"])
def test_code_by_its_name(browser, value):
    with pytest.raises(BadPayload, match=f"{browser}_page_init_callback"):
        read(**{f"{browser}_page_init_callback": value})


def test_options_of_libcurl_are_refused_whatever_they_are():
    with pytest.raises(BadPayload, match="impersonate_curl_options"):
        read(impersonate_curl_options={1: 2})
    read(impersonate_curl_options={})


@pytest.mark.parametrize(
    "value", [["ftp"], ("ftp",), {"ftp"}, frozenset(["ftp"]), "ftp"]
)
def test_schemes_may_be_written_in_each_way(value):
    policy = Policy.from_settings(Settings({"FRONTIER_SCHEMES": value}))
    for url in ("ftp://a/", "http://a/", "https://a/", "HTTPS://a/"):
        read(url, policy)
    for url in ("s3://a/b", "file:///etc/passwd", "data:,x"):
        with pytest.raises(BadPayload):
            read(url, policy)
