"""Which hosts seeds may lead to, in whatever spelling."""

# ruff: noqa: RUF001 - hosts are spelled with such letters to deceive

from __future__ import annotations

import asyncio
import json
import socket
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from scrapy import Request, Spider
from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK
from scrapy.settings import Settings
from twisted.internet.error import DNSLookupError

from scrapy_dist import middleware
from scrapy_dist.addon import Addon
from scrapy_dist.codec.policy import Policy
from scrapy_dist.codec.reach import flaw_of_address, flaw_of_host, host_of, resolve
from scrapy_dist.codec.seed import (
    FROM_SEED,
    GUARD,
    check_limits,
    check_made,
    parse_seed,
)
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.exceptions import BadSeed, ConfigurationError
from scrapy_dist.middleware import FrontierDownloaderMiddleware

#: Hosts of this machine and of networks that only it can reach.
PRIVATE = """
localhost LOCALHOST. localhost.. a.b.localhost localhost:8080 localhost.localdomain
127.0.0.1 127.1 127.0.1 127.255.255.254 0x7f.1 0x7f000001 2130706433 017700000001
0177.0.0.1 0177.0.0.0x1 127.0.0.1. 0 0.0.0.0 0x0 1
10.1.2.3 10.1 172.16.0.1 172.31.255.255 192.168.0.1 0xc0a80001 3232235521
169.254.169.254 2852039166 100.64.0.1 198.18.0.1 192.0.2.1 224.0.0.1 240.0.0.1
255.255.255.255
[::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1]
[::127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::a00:1] [64:ff9b:1::1] [2002:7f00:1::]
[2002:a00:1::1] [2001:0:7f00:1::] [fe80::1] [fe80::1%25eth0] [fc00::1] [fd12::1] [fec0::1]
[ff02::1] [2001:db8::1] [::ffff:0:127.0.0.1]
%31%32%37.0.0.1 loc%61lhost %6c%6f%63%61%6c%68%6f%73%74 127%2e0%2e0%2e1
①②⑦.0.0.1 127。0。0。1 127．0．0．1 １２７.0.0.1 ｌｏｃａｌｈｏｓｔ ⓛⓞⓒⓐⓛⓗⓞⓢⓣ local\u00adhost
user@127.0.0.1 example.org@127.0.0.1 example.org:80@localhost a:b@[::1]
"""
PUBLIC = """
example.org EXAMPLE.org. 8.8.8.8 134744072 172.32.0.1 172.15.0.1 [2606:4700::1111]
[::ffff:8.8.8.8] [64:ff9b::808:808] [2002:808:808::1] localhost.example.org
127.0.0.1@example.org 127.0.0.1.example.org bücher.example notlocalhost
"""

NO_PRIVATE = SeedRules(private=False)


@pytest.mark.parametrize("host", PRIVATE.split())
def test_private_hosts_are_refused_in_all_spellings(host):
    for url in (f"http://{host}/a", f"https://{host}", f"HTTP://{host}/?q=8.8.8.8#x"):
        for seed in (url, json.dumps({"url": url})):
            with pytest.raises(BadSeed):
                parse_seed(seed, NO_PRIVATE, Spider("s"))
    assert flaw_of_host(host_of(f"http://{host}/"))


@pytest.mark.parametrize("host", PUBLIC.split())
def test_public_hosts_are_not(host):
    url = parse_seed(f"http://{host}/a", NO_PRIVATE, Spider("s")).url
    assert flaw_of_host(host_of(url)) == ""


@pytest.mark.parametrize("host", PRIVATE.split())
def test_private_hosts_are_allowed_by_default(host):
    assert SeedRules().flaw_of(f"http://{host}/a", Spider("s")) == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1\\@example.org/",
        "http://example.org\\@127.0.0.1/",
        "http://example.org#@127.0.0.1/",
        "http:/\\127.0.0.1/",
        "http:///127.0.0.1/",
        "http://[::1/",
        "http://[127.0.0.1]/",
        "http://127.0.0.1:80\n@example.org",
        "//127.0.0.1/",
    ],
)
def test_what_is_read_as_one_host_is_connected_to(url):
    """Either it is no URL at all, or all agree about its host."""
    try:
        request = parse_seed(url, NO_PRIVATE, Spider("s"))
    except BadSeed:
        return
    assert flaw_of_host(host_of(request.url)) == ""
    assert host_of(request.url) == "example.org"


def test_every_address_that_is_not_public_has_a_reason():
    for address in ("1.1.1.1", "2a00:1450:4001::1", "64:ff9b::101:101"):
        assert flaw_of_address(ip_address(address)) == ""
    for address in ("::ffff:169.254.1.1", "2002:c0a8:1::", "::2"):
        assert flaw_of_address(ip_address(address))


# Domains


def rules_of(**settings):
    return SeedRules.from_settings(Settings(settings))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.org", True),
        ("EXAMPLE.ORG.", True),
        ("a.b.example.org:8080", True),
        ("xn--bcher-kva.example", True),
        ("bücher.example", True),
        ("notexample.org", False),
        ("example.org.evil.test", False),
        ("example.org@evil.test", False),
        ("evil.test/example.org", False),
        ("evil.test?example.org", False),
        ("example.com", False),
        ("127.0.0.1", False),
    ],
)
def test_seeds_stay_in_their_domains(host, allowed):
    rules = rules_of(FRONTIER_SEED_DOMAINS=["Example.org", "bücher.example"])
    spider = Spider("s")
    request = Request(f"https://{host}/")
    if allowed:
        parse_seed(request.url, rules, spider)
        check_made(request, rules, Policy(), spider)
        assert request.meta[FROM_SEED] is True
        return
    with pytest.raises(BadSeed, match="FRONTIER_SEED_DOMAINS allows"):
        parse_seed(f"https://{host}/", rules, spider)
    with pytest.raises(BadSeed):
        check_made(request, rules, Policy(), spider)


@pytest.mark.parametrize("sign", ["%2f", "%23", "%00", "；", "／", "%40", "%3a"])
def test_what_is_no_name_of_a_host_is_in_no_domain(sign):
    """A download handler may read the host up to the sign only."""
    rules = SeedRules(domains=frozenset({"a.test"}))
    for limits in (rules, SeedRules(private=False)):
        with pytest.raises(BadSeed):
            parse_seed(f"http://evil.test{sign}.a.test/", limits, Spider("s"))
    assert rules.flaw_of(f"http://evil.test{sign}.a.test/", Spider("s"))


def test_the_domains_of_the_spider_count_when_asked():
    spider = Spider("s", allowed_domains=["a.test"])
    parse_seed("https://b.test/", SeedRules(), spider)
    rules = rules_of(FRONTIER_SEED_DOMAINS="allowed_domains, c.test")
    for host in ("a.test", "www.a.test", "c.test"):
        parse_seed(f"https://{host}/", rules, spider)
    with pytest.raises(BadSeed):
        parse_seed("https://b.test/", rules, spider)
    # Who pushes seeds may not know the spider.
    parse_seed("https://b.test/", rules, Spider("unknown"))


@pytest.mark.parametrize("value", ["https://a.test/", "a.test/x", [""], ["a b"], 5])
def test_what_is_no_domain_is_refused(value):
    with pytest.raises(ConfigurationError, match="FRONTIER_SEED_DOMAINS"):
        rules_of(FRONTIER_SEED_DOMAINS=value)


# Start


class Seeded:
    name = "seeded"
    seeds_are_leased = True

    def __init__(self, **settings):
        self.seed_rules = rules_of(**settings)


def start(spider, addon=False, **settings):
    settings = Settings(settings)
    if addon:
        Addon().update_settings(settings)
    check_limits(spider, SimpleNamespace(settings=settings))


def test_limits_that_nobody_would_keep_are_refused_at_start():
    private = Seeded(FRONTIER_SEED_PRIVATE=False)
    with pytest.raises(ConfigurationError, match="FRONTIER_SEED_PRIVATE = False needs"):
        start(private)
    with pytest.raises(ConfigurationError, match=GUARD):
        start(private, DOWNLOADER_MIDDLEWARES={GUARD: None})
    start(private, addon=True)
    start(private, DOWNLOADER_MIDDLEWARES={GUARD: 1})
    start(private, DOWNLOADER_MIDDLEWARES={FrontierDownloaderMiddleware: 1})
    private.seeds_are_leased = False
    with pytest.raises(ConfigurationError, match="next_requests"):
        start(private, addon=True)
    start(Seeded(FRONTIER_SEED_DOMAINS=["a.test"]))
    with pytest.raises(ConfigurationError, match="allowed_domains"):
        start(Seeded(FRONTIER_SEED_DOMAINS=["allowed_domains"]))
    start(Spider("no seeds"))


# Downloads


@pytest.fixture
def guard(monkeypatch):
    crawler = Crawler(Spider, Settings())
    crawler.spider = Seeded(FRONTIER_SEED_PRIVATE=False)
    found = FrontierDownloaderMiddleware.from_crawler(crawler)
    found.failed = []
    found._fail = lambda request, reason: found.failed.append(reason)
    found.names = {}

    async def fake(host, timeout):
        return found.names.get(host, [])

    monkeypatch.setattr(middleware, "resolve", fake)
    return found


def of_seed(url, **meta):
    return Request(url, meta={FROM_SEED: True, **meta})


async def test_names_are_resolved(guard):
    guard.names = {
        "public.test": ["8.8.8.8", "2606:4700::1"],
        "private.test": ["10.0.0.1"],
        "mixed.test": ["8.8.8.8", "::ffff:127.0.0.1"],
        "scoped.test": ["fe80::1%eth0"],
    }
    await guard.process_request(of_seed("http://public.test/"))
    await guard.process_request(of_seed("http://8.8.8.8/"))
    for name in ("private", "mixed", "scoped"):
        with pytest.raises(IgnoreRequest, match=f"'{name}.test' leads to"):
            await guard.process_request(of_seed(f"http://{name}.test/"))
    with pytest.raises(IgnoreRequest):
        await guard.process_request(of_seed("http://0x7f.1/"))
    assert len(guard.failed) == 4


async def test_names_are_looked_up_as_the_download_writes_them(guard):
    """Scrapy's cache has an entry for each spelling; one may be rebound, the other not."""
    guard.names = {"Rebind.Test": ["10.0.0.1"], "rebind.test": ["8.8.8.8"]}
    for url in ("http://Rebind.Test/", "http://rebind.test:x@Rebind.Test:80/x"):
        request = of_seed(url)
        request._url = url  # w3lib lowers it since 2.4
        with pytest.raises(IgnoreRequest, match="leads to"):
            await guard.process_request(request)
    await guard.process_request(of_seed("http://rebind.test:80/Rebind.Test"))


async def test_a_name_without_an_address_is_tried_again(guard, monkeypatch):
    with pytest.raises(DNSLookupError):
        await guard.process_request(of_seed("http://unknown.test/"))
    # Only the proxy knows it, perhaps.
    await guard.process_request(of_seed("http://unknown.test/", proxy="http://p:3128"))
    assert guard.failed == []


async def test_requests_of_the_spider_are_free(guard):
    guard.names = {"intranet.test": ["10.0.0.1"]}
    await guard.process_request(Request("http://intranet.test/"))
    await guard.process_request(Request("http://127.0.0.1/"))


async def test_a_robots_txt_that_leads_away_is_not_followed(guard):
    def robots(url, first):
        meta = {"redirect_urls": [first]}
        return Request(url, callback=NO_CALLBACK, meta=meta)

    with pytest.raises(IgnoreRequest):
        await guard.process_request(
            robots("http://169.254.169.254/", "http://evil.test/robots.txt")
        )
    own = robots("https://10.0.0.1/robots.txt", "http://10.0.0.1/robots.txt")
    await guard.process_request(own)


def test_an_answer_from_another_address_is_not_handed_on(guard):
    request = of_seed("http://rebind.test/")
    response = Response(request.url, ip_address=ip_address("127.0.0.1"))
    with pytest.raises(IgnoreRequest, match="leads to"):
        guard.process_response(request, response)
    for free in (
        Request(request.url),
        of_seed(request.url, proxy="http://127.0.0.1:3128"),
    ):
        assert guard.process_response(free, response) is response
    public = Response(request.url, ip_address=ip_address("8.8.8.8"))
    assert guard.process_response(request, public) is public


async def test_a_subclass_of_the_project_has_its_say(monkeypatch):
    class Own(FrontierDownloaderMiddleware):
        def process_request(self, request, spider):
            return Response(request.url)

        def process_response(self, request, response):
            return response.replace(status=404)

    crawler = Crawler(Spider, Settings())
    crawler.spider = Seeded(FRONTIER_SEED_PRIVATE=False)
    own = Own.from_crawler(crawler)
    request = of_seed("http://8.8.8.8/")
    answer = await own.process_request(request)
    assert answer.url == request.url
    assert own.process_response(request, answer).status == 404
    with pytest.raises(IgnoreRequest):
        await own.process_request(of_seed("http://10.0.0.1/"))


def test_without_limits_there_is_no_work_for_each_page():
    crawler = Crawler(Spider, Settings())
    crawler.spider = Seeded()
    found = FrontierDownloaderMiddleware.from_crawler(crawler)
    assert not hasattr(found, "process_request")
    assert not hasattr(found, "process_response")


async def test_the_resolver_is_the_systems(monkeypatch):
    monkeypatch.setattr("scrapy_dist.codec.reach.is_reactor_installed", lambda: False)
    assert set(await resolve("localhost", 10)) <= {"127.0.0.1", "::1"}
    loop = asyncio.get_running_loop()

    async def never(*args, **kwargs):
        raise socket.gaierror

    monkeypatch.setattr(loop, "getaddrinfo", never, raising=False)
    assert await resolve("unknown.test", 10) == []
