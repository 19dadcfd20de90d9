"""Sitemaps and files of strangers are read in bounded time and memory."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from scrapy_dist.admin import seed_files, sitemaps
from tests.support.wait import wait_until

HEAD = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(*answers):
    """A server that gives each connection the next of *answers*; yields its base URL.

    An answer is a function that gets the connection and sends until it fails.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    gone = threading.Event()

    def serve():
        for answer in answers:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    answer(connection)
        gone.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    # The client has hung up: nothing is left of it.
    wait_until(gone.is_set, "the connection to end")


def dripping(head, drop):
    """Sends *head*, then *drop* again and again."""

    def answer(connection):
        connection.sendall(head)
        while True:
            connection.sendall(drop)
            time.sleep(0.02)

    return answer


async def read(url):
    return [lines async for lines in sitemaps.read_sitemap(url, "me")]


@pytest.mark.parametrize(
    "answer",
    [
        dripping(b"", b"H"),
        dripping(HEAD + b"X-A: ", b"b"),
        dripping(HEAD, b"X-A: b\r\n"),
        dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        dripping(HEAD + b"Content-Type: text/xml\r\n\r\n<urlset>", b" "),
        dripping(HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        lambda connection: connection.recv(1),
    ],
)
async def test_a_server_that_does_not_end_is_left(monkeypatch, answer):
    monkeypatch.setattr(sitemaps, "_PATIENCE", 0.5)
    with server(answer) as base:
        [lines] = await asyncio.wait_for(read(f"{base}/s.xml"), 60)
    # Without end, or as one of http.client's own limits has it.
    assert lines.problem
    assert not lines.lines


async def test_so_is_one_that_does_not_end_its_handshake(monkeypatch):
    monkeypatch.setattr(sitemaps, "_PATIENCE", 0.5)
    # The beginning of a record of TLS, of 16 KB.
    record = dripping(b"\x16\x03\x03\x40\x00", b"\x02")
    with server(record) as base:
        url = base.replace("http:", "https:")
        [lines] = await asyncio.wait_for(read(f"{url}/s.xml"), 60)
    assert lines.problem


async def test_ctrl_c_waits_for_no_server():
    reached = threading.Event()

    def answer(connection):
        reached.set()
        connection.recv(1)

    with server(answer) as base:
        reading = asyncio.ensure_future(read(f"{base}/s.xml"))
        await asyncio.to_thread(reached.wait, 60)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


async def test_redirects_share_one_deadline(monkeypatch):
    monkeypatch.setattr(sitemaps, "_PATIENCE", 0.5)

    def again(connection):
        time.sleep(0.2)
        connection.sendall(
            b"HTTP/1.1 302 Found\r\nLocation: /x\r\nConnection: close\r\n"
            b"Content-Length: 0\r\n\r\n"
        )

    with server(*[again] * 3, dripping(HEAD, b"X: y\r\n")) as base:
        [lines] = await asyncio.wait_for(read(f"{base}/s.xml"), 60)
        # Those that are not asked any more.
        for _ in range(4):
            with suppress(OSError):
                socket.create_connection(base[7:].split(":"), 1).close()
    assert "takes longer than 0.5 s" in lines.problem


def urls_in(body, name="sitemap.xml"):
    return sitemaps._urls_in(f"http://site/{name}", body)


@pytest.mark.parametrize(
    ("body", "urls"),
    [
        (b"<urlset><url><loc> http://a/ </loc></url></urlset>", ["http://a/"]),
        (
            b"""<?xml version="1.0"?><urlset xmlns="http://x"><url><lastmod>1</lastmod>
            <loc>http://a/?b&amp;c</loc><x><loc>no</loc></x></url><url/><url>
            <loc><![CDATA[http://b/]]></loc></url></urlset>""",
            ["http://a/?b&c", "http://b/"],
        ),
        (b"<urlset><url><loc>http://a/</loc></url><url><loc>http://b", ["http://a/"]),
        ("<urlset><url><loc>http://ü/</loc></url></urlset>".encode(), ["http://ü/"]),
    ],
)
def test_urls_of_a_sitemap(body, urls):
    assert urls_in(body) == (False, urls)


def test_an_index_and_robots_lead_on():
    body = b"<sitemapindex><sitemap><loc>/a.xml</loc></sitemap></sitemapindex>"
    assert urls_in(body) == (True, ["http://site/a.xml"])
    body = (
        b"User-agent: *\r\n Sitemap : /a\nSITEMAP:http://b/ # x\rsitemap:\nnositemap: c"
    )
    assert urls_in(body, "robots.txt") == (True, ["http://site/a", "http://b/"])


def test_a_name_that_is_no_url_is_left_to_its_reader():
    body = b"<sitemapindex><sitemap><loc>http://[</loc></sitemap></sitemapindex>"
    assert urls_in(body) == (True, ["http://["])
    assert urls_in(b"Sitemap: //[x", "robots.txt") == (True, ["//[x"])


@pytest.mark.parametrize(
    "body", [b"", b"no", b"<html><body>", b"<a/>", b"\x00<urlset>"]
)
def test_what_is_none_is_told(body):
    with pytest.raises(sitemaps.Unreadable, match="is no sitemap"):
        urls_in(body)


def test_the_number_of_urls_has_a_limit(monkeypatch):
    monkeypatch.setattr(sitemaps, "_MAX_ENTRIES", 100)
    entry = b"<url><loc>http://a/</loc></url>"
    assert len(urls_in(b"<urlset>" + entry * 100)[1]) == 100
    with pytest.raises(sitemaps.Unreadable, match="more than 100 URLs"):
        urls_in(b"<urlset>" + entry * 101)


async def test_all_sitemaps_together_have_a_limit(monkeypatch):
    monkeypatch.setattr(sitemaps, "_MAX_URLS", 3)
    monkeypatch.setattr(sitemaps, "_read_one", lambda url, *_: ROOT.get(url, LEAF))
    *read_, last = await read("http://site/")
    assert [len(lines.lines) for lines in read_] == [2]
    assert "more than 3 URLs" in last.problem


ROOT = {"http://site/": (True, ["http://a/", "http://b/", "http://c/"])}
LEAF = (False, ["http://1/", "http://2/"])


def test_robots_have_a_limit():
    with pytest.raises(sitemaps.Unreadable, match="more than 5 MB"):
        urls_in(b"\n" * (5 << 20) + b"\n", "robots.txt")


@pytest.mark.parametrize(
    "body",
    [
        b"<urlset>" + b"<x/>" * 50_000,
        b"<urlset><url>" + b"<x/>" * 50_000,
        b"<urlset><url><x>" + b"<y><z/></y>" * 20_000,
        b"<urlset>" + b"<url><lastmod>2</lastmod>text</url>text" * 10_000,
        b"<urlset>" + b"<!--c-->" * 25_000 + b"<?p i?>" * 25_000,
        b'<!DOCTYPE a [<!ENTITY b "cc">]><urlset>' + b"<url>&b;</url>" * 20_000,
    ],
)
def test_a_sitemap_becomes_no_tree(monkeypatch, body):
    roots, take = [], sitemaps._SitemapReader._take

    def taken(self, element):
        roots[:] = [element.getroottree().getroot()]
        take(self, element)

    monkeypatch.setattr(sitemaps._SitemapReader, "_take", taken)
    with suppress(sitemaps.Unreadable):
        urls_in(body)
    assert all(sum(1 for _ in root.iter()) < 10 for root in roots)


async def test_a_line_in_single_bytes_is_read_once(tmp_path):
    splitter = seed_files._Splitter(100)
    text = b"\xef\xbb\xbfab\n" + b"c" * 300 + b"\n\n" + b"d" * 101 + b"\n" + b"e" * 300
    found = []
    for byte in text:
        found += splitter.feed(bytes([byte]))
    found += splitter.end()
    assert found == [b"ab", b"c" * 101, b"", b"d" * 101, b"e" * 101]
    whole = seed_files._Splitter(100)
    assert [*whole.feed(text), *whole.end()] == found
