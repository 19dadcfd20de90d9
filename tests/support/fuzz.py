"""Throw random input at what reads strangers' bytes, and keep what breaks it.

``python -m tests.support.fuzz --minutes 60 --seed 7`` runs five kinds of cases in turn:

* ``codec``: payloads of requests, as every serializer reads them,
* ``seeds``: seeds, as workers read them,
* ``import``: files of ``scrapy frontier export``, into a real Redis,
* ``sitemap``: bodies of sitemaps and robots.txt, gzipped files,
* ``names``: hostile names in Redis, and every command that shows them.

Right is: a result, or one of the documented exceptions whose text can be shown; not more
than some seconds of CPU and some hundred MB. A case is made from the run's seed, its kind
and its number alone: ``--only codec --case 1234 --seed 7`` runs it again. Cases run in a
child process, so that one that kills or hangs it is found, too.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import copy
import gzip
import json
import mmap
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import redis
import redis.asyncio
import scrapy
from scrapy.settings import Settings
from scrapy.utils.request import fingerprint

from scrapy_dist.admin import seed_files, sitemaps
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.layout import check_form
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.brokers.redis.version import FORMAT
from scrapy_dist.codec import compact, dump_lines, messagepack
from scrapy_dist.codec import seed as seed_codec
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.request_fields import with_text_headers
from scrapy_dist.core.crawl import Exported, Imported
from scrapy_dist.core.dead_letters import DeadLetter
from scrapy_dist.core.slots import Slots, host_of
from scrapy_dist.exceptions import (
    BadPayload,
    BadSeed,
    ConfigurationError,
    Unserializable,
)
from tests.support.commands import run_here
from tests.support.frontiers import member, suspect
from tests.support.redis_server import RedisServer

#: Seconds of CPU that a case may take, and of silence after which its process hangs.
CPU, HANGS = 5.0, 120.0
#: Bytes of address space that a case may need, beyond what the process has.
MEMORY = 768 << 20
#: Cases of each kind in a row.
TURNS = {"codec": 400, "seeds": 400, "import": 10, "sitemap": 100, "names": 1}
#: Longest input that is made, in bytes.
LARGEST = 300_000


class Wrong(AssertionError):
    """A case whose outcome is none of the documented ones."""


class Spider(scrapy.Spider):
    name = "fuzz"

    def parse(self, response: Any, **kwargs: Any) -> None:
        """A callback."""

    def failed(self, failure: Any) -> None:
        """An errback."""


SPIDER = Spider()


# Making input

#: Text that has broken something somewhere.
TEXTS = (
    "",
    " ",
    "\x00",
    "\x1b[2J\x1b]0;x\x07",
    "\r\n",
    "a\nb",
    "\u202e\u2066",
    "\u200b\u200d\ufeff",
    "\u2028",
    "\x85\x9b",
    "\ud800",
    "\U0001f600",
    "é" * 40,
    "ß",
    "%",
    "%s%(x)s",
    "{0.__class__}",
    "../../etc/passwd",
    "a" * 300,
    ":" * 50,
    "@" * 50,
    "a:b@" * 50,
    "://" * 50,
    "http://user:secret@host/",
    "http://[::1]:99999/",
    "http://" + "a." * 200 + "de/",
    "http://\u00df\u3002de/",
    "file:///etc/passwd",
    "data:,x",
    "javascript:1",
    "NaN",
    "Infinity",
    "-0",
    "1e999",
    "9" * 400,
    "9" * 5000,
    "0x10",
    "1_000",
    "parse",
    "failed",
    "__init__",
    "from_crawler",
    "scrapy.http.request.Request",
    "os.system",
    "utf-8",
    "utf-7",
    "idna",
    "utf-16",
    "rot13",
    "undefined",
    "mbcs",
    "$set",
    "$dict",
    "$bytes",
    "$object",
    "type",
    "url",
    "*",
    "**",
    "[",
    "\\",
)
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 255, 256, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400),
    *(0.0, -0.0, 1.5, 1e308, float("nan"), float("inf"), float("-inf")),
)
#: Pieces of the formats that are read.
TOKENS = (
    *(
        b"\x00",
        b"\xff",
        b"\xc0",
        b"\x80",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ),
    *(b"\xc9\x00\x00\x00\x05\x02", b"\xc7\x05\x16", b"\xd4\x01\x90", b"\x81", b"\x91"),
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\u0000", b"\\ud800", b"\n", b"\r"),
    *(
        b"NaN",
        b"Infinity",
        b"-",
        b"1e9999",
        b"null",
        b"true",
        b'{"$set":[',
        b"\xef\xbb\xbf",
    ),
    *(
        b"<url><loc>",
        b"</loc></url>",
        b"<!DOCTYPE a [",
        b"<!ENTITY b '",
        b"&b;",
        b"<![CDATA[",
    ),
    *(
        b"Sitemap: ",
        b"sitemap:",
        b"\t",
        b" ",
        b"\x0b",
        b"\x0c",
        b"\x1f\x8b",
        b"\x1b[2J",
    ),
    *(b"http://", b"https://", b"@", b":", b"://", b"a:b@", b"%00", b"\xe2\x80\xae"),
)


def some_text(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind < 2:
        return rng.choice(TEXTS)
    if kind == 2:
        return "".join(rng.choice(TEXTS) for _ in range(rng.randrange(4)))
    return "".join(chr(rng.randrange(0x300)) for _ in range(rng.randrange(12)))


def some_value(rng: random.Random, depth: int = 0) -> Any:
    """A value of JSON's types, and of MessagePack's."""
    kind = rng.randrange(10 if depth < 4 else 6)
    if kind < 2:
        return some_text(rng)
    if kind == 2:
        return rng.choice(NUMBERS)
    if kind == 3:
        return rng.choice((None, True, False))
    if kind == 4:
        return rng.randrange(-(2**70), 2**70)
    if kind == 5:
        return rng.random() * 10 ** rng.randrange(-10, 300)
    if kind < 8:
        return [some_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {some_text(rng): some_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def nested(rng: random.Random) -> Any:
    """A value that is nested deeply, or wide."""
    text = some_text(rng)
    value: Any = text
    kind = rng.randrange(3)
    if kind == 2:
        return [text] * min(
            rng.choice((10, 1000, 50_000)), 1 + LARGEST // (1 + len(text))
        )
    for _ in range(rng.choice((10, 100, 990, 5000))):
        value = [value] if kind else {"a": value}
    return value


def change_value(rng: random.Random, value: Any) -> Any:
    """*value* with something at a random place in it replaced, added or removed."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any, depth: int) -> None:
        keys = list(part) if isinstance(part, dict) else range(len(part))
        for key in keys:
            places.append((part, key))
            if isinstance(part[key], (dict, list)) and depth < 20:
                walk(part[key], depth + 1)

    if not isinstance(value, (dict, list)):
        return some_value(rng)
    try:
        value = copy.deepcopy(value)
    except RecursionError:
        return value
    walk(value, 0)
    if not places or rng.random() < 0.02:
        return some_value(rng)
    part, key = rng.choice(places)
    kind = rng.randrange(12)
    if kind == 0:
        del part[key]
    elif kind == 1 and isinstance(part, dict):
        part[some_text(rng)] = part.pop(key)
    elif kind == 2 and isinstance(part, dict):
        part[some_text(rng)] = some_value(rng)
    elif kind == 3 and isinstance(part[key], str):
        at = rng.randrange(len(part[key]) + 1)
        part[key] = part[key][:at] + some_text(rng) + part[key][at:]
    elif kind == 4:
        part[key] = nested(rng)
    elif kind == 5 and isinstance(part[key], str):
        text = part[key] or "a"
        part[key] = text * min(rng.choice((2, 100, 10_000)), 1 + LARGEST // len(text))
    elif kind == 6:
        other, name = rng.choice(places)
        with contextlib.suppress(KeyError, IndexError, RecursionError):
            part[key] = copy.deepcopy(other[name])
    else:
        part[key] = some_value(rng)
    return value


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """*data* with a few random changes."""
    data = data[:LARGEST]
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 8, 64)))
        kind = rng.randrange(8)
        if kind == 0:
            data = data[:at] + rng.randbytes(rng.choice((1, 1, 2, 4))) + data[end:]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:at] + rng.choice(TOKENS) + data[at:]
        elif kind == 3:
            data = data[:at] + rng.choice(TOKENS) + data[end:]
        elif kind == 4:
            data = data[:end] + data[at:end] * rng.choice((1, 2, 50)) + data[end:]
        elif kind == 5 and rng.random() < 0.2:
            part = data[at:end] or rng.choice(TOKENS)
            data = data[:at] + part * (LARGEST // len(part) // 2) + data[end:]
        elif kind == 6:
            data = data[:at]
        elif at < len(data):
            data = (
                data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            )
        data = data[:LARGEST]
    return data


def as_json(rng: random.Random, value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        return text.encode("utf-8", "surrogatepass")
    except (MemoryError, RecursionError):
        return b"[" * 100_000


# Judging what came of it


def check_shown(text: str) -> None:
    """Raise Wrong if *text* must not reach a terminal or a log."""
    for char in text:
        if not char.isprintable():
            name = unicodedata.name(char, "")
            raise Wrong(f"U+{ord(char):04X} {name} would be shown: {text[:300]!a}")


def check_request(request: scrapy.Request) -> None:
    """Raise Wrong for a request that must not reach Scrapy."""
    if not re.fullmatch(r"[!-9;-~]{1,20}", request.method):
        raise Wrong(f"method {request.method[:80]!a}")
    if len(request.url) > 65_536:
        raise Wrong(f"a URL of {len(request.url)} characters")


def sorted_(value: Any, depth: int = 0) -> str:
    """*value* as text in which the order of keys does not count, nor what is deep."""
    if depth > 20:
        return "…"
    depth += 1
    if isinstance(value, dict):
        parts = sorted(
            f"{sorted_(k, depth)}: {sorted_(v, depth)}" for k, v in value.items()
        )
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({sorted(sorted_(v, depth) for v in value)})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(sorted_(v, depth) for v in value)})"
    # Python writes no decimal number of more than 4,300 digits.
    return hex(value) if type(value) is int else repr(value)


# Kinds of cases: each makes one of a random generator, and says what came of it

_REQUEST = {
    "url": "http://site/a/b?c=d#e",
    "callback": "parse",
    "errback": "failed",
    "method": "POST",
    "headers": {b"Referer": [b"http://site/a/"], b"X": [b"1", b"2"]},
    "body": b"\x00\xffbody",
    "cookies": [{"name": "n", "value": "v"}],
    "meta": {"depth": 3, "k": [1, {"x": (1, 2)}, {3, 4}], "n": 2**80, "t": "é"},
    "encoding": "utf-8",
    "priority": -3,
    "dont_filter": True,
    "flags": ["f"],
    "cb_kwargs": {"a": 1.5, "b": None},
}
_CODECS = {
    b"\x01": PayloadCodec(SPIDER),
    b"{": PayloadCodec(SPIDER, serializer=json),
    b"\x02": PayloadCodec(SPIDER, serializer=msgpack),
}


def codec_case(rng: random.Random) -> str:
    fields = {k: v for k, v in _REQUEST.items() if k == "url" or rng.random() < 0.4}
    head = rng.choice(list(_CODECS))
    if head == b"\x01":
        with contextlib.suppress(Unserializable, TypeError, ValueError):
            for _ in range(rng.randrange(3)):
                fields = change_value(rng, fields)
            data = head + (compact if rng.random() < 0.5 else messagepack).dumps(fields)
        if "data" not in locals():
            return "not made"
    else:
        plain = messagepack.to_jsonable(with_text_headers(fields))
        for _ in range(rng.randrange(4)):
            plain = change_value(rng, plain)
        if head == b"{":
            data = as_json(rng, plain)
        else:
            try:
                data = head + msgpack.packb(plain)
            except (OverflowError, ValueError, UnicodeError):
                return "not made"
    if rng.random() < 0.7:
        data = change_bytes(rng, data)
    if len(data) > 4 * LARGEST:
        return "not made"
    for reads in (check_form, lambda d: dump_lines.dump(dump_lines.show_payload(d))):
        try:
            reads(data)
        except BadPayload as e:
            check_shown(str(e))
    letter = DeadLetter("1-1", "request", 1, 1, "h:1", "", data)
    _ = letter.url, letter.priority
    codec = _CODECS[head]
    try:
        request = codec.decode(data)
    except BadPayload as e:
        check_shown(str(e))
        return "refused"
    check_request(request)
    try:
        again = codec.decode(codec.encode(request))
    except Unserializable as e:
        check_shown(str(e))
        return "read"
    # Scrapy writes such a header's name in one way as text, and in another as bytes; and
    # quotes a URL anew, each time, in an encoding like UTF-16.
    headers_differ = not all(map(bytes.isascii, request.headers))
    if len(data) > 20_000 or headers_differ or "a".encode(request.encoding) != b"a":
        return "read"
    before, after = (sorted_(r.to_dict(spider=SPIDER)) for r in (request, again))
    if before != after:
        raise Wrong(f"a request changes on its way: {before[:200]} {after[:200]}")
    return "read"


_SEED = {
    "url": "http://user@site:80/a?b=c",
    "method": "POST",
    "meta": {"a": [1, {"b": None}], "cookiejar": 1},
    "cb_kwargs": {"x": "y"},
    "headers": {"X-A": "1", "Accept": ["a", "b"]},
    "cookies": {"c": "d"},
    "formdata": {"q": ["1", 2, "é"]},
    "priority": 5,
    "dont_filter": False,
    "callback": "parse",
    "errback": "failed",
    "encoding": "latin-1",
    "flags": ["f"],
}
_RULES = [
    seed_codec.SeedRules(),
    seed_codec.SeedRules(form_fields=True, meta=frozenset({"proxy"})),
    seed_codec.SeedRules(
        schemes=frozenset({"http", "file", "data"}), encoding="latin-1"
    ),
]


def seeds_case(rng: random.Random) -> str:
    if rng.random() < 0.3:
        parts = ["http", "://", "us:secret@", "site", ":80", "/a", "?b", "#c"]
        for _ in range(rng.randrange(3)):
            parts[rng.randrange(len(parts))] = some_text(rng)
        data = "".join(parts).encode("utf-8", "surrogatepass")
    else:
        seed: Any = {k: v for k, v in _SEED.items() if k == "url" or rng.random() < 0.4}
        if "formdata" not in seed and rng.random() < 0.3:
            seed["body"] = "body"
        for _ in range(rng.randrange(4)):
            seed = change_value(rng, seed)
        data = as_json(rng, seed)
    if rng.random() < 0.5 or len(data) > LARGEST:
        data = change_bytes(rng, data)
    rules = rng.choice(_RULES)
    try:
        request = seed_codec.parse_seed(data, rules, SPIDER)
    except BadSeed as e:
        check_shown(str(e))
        return "refused"
    check_request(request)
    for name, values in request.headers.items():
        if any(b"\n" in part or b"\r" in part for part in (name, *values)):
            raise Wrong(f"a header with a line break: {name[:80]!a}")
    fingerprint(request)
    scheme = request.url.partition(":")[0].lower()
    if scheme not in rules.schemes:
        raise Wrong(f"a seed with the scheme {scheme!a}")
    with contextlib.suppress(Unserializable):
        _CODECS[b"\x01"].encode(request)
    return "read"


def _lines(kind: str) -> list[dict[str, Any]]:
    request = b"\x01" + compact.dumps(_REQUEST)
    shown = {"score": 1.5, **dump_lines.show_payload(request)}
    raw = {"score": 0, "payload": base64.b64encode(b"\x80pickle").decode()}
    letter = {"reason": "why", "worker": "h:1", "deliveries": "1", "time": "3"}
    head = {"type": "frontier", "version": dump_lines.VERSION, "id": "abc"}
    return [
        {**head, "spider": "s", "fingerprints": kind, "requests": 3},
        {"type": "seen", "fingerprint": "ab" * 20},
        {"type": "started", "fingerprint": "cd" * 20},
        {"type": "seed", "key": 0, "kind": "list", "data": "http://a/"},
        {"type": "seed", "key": 1, "kind": "zset", "score": 2, "data": "http://b/"},
        {"type": "pending", "id": "0" * 16, **shown},
        {"type": "leased", "id": "1" * 16, "deaths": 1, "claims": "abc", **shown},
        {"type": "suspect", "id": "2" * 16, "deaths": 2, "claims": "-", **raw},
        {"type": "failed", "kind": "request", **letter, **shown},
        {"type": "failed", "kind": "seed", **letter, "seed": "http://c/"},
        {"type": "stat", "name": "pages", "value": "7"},
        {"type": "item", "data": "{}"},
        {"type": "end", "counts": {"seen": 11}, "whole": True},
    ]


def import_case(rng: random.Random) -> str:
    made = _lines(rng.choice(("hex", "compact")))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(made)) if rng.random() < 0.8 else 0
        line = change_value(rng, made[at])
        made[at] = line
    if rng.random() < 0.3:
        rng.shuffle(made)
    lines = [as_json(rng, line) + b"\n" for line in made]
    if rng.random() < 0.3:
        at = rng.randrange(len(lines))
        lines[at] = change_bytes(rng, lines[at]) + b"\n"
    return asyncio.run(_import(lines))


_HOSTS = Slots(host_of)


async def _import(lines: list[bytes]) -> str:
    client = redis.asyncio.Redis.from_url(_server().url, protocol=2)
    keys = Keys.from_settings(Settings(), "s")
    seed_keys = ("s:start_urls", "s:more_urls")
    frontier = Frontier(
        client, keys, ttl=60, max_deliveries=3, failed_limit=100, seed_keys=seed_keys
    )
    try:
        await client.flushall()
        imported = Imported()
        outcome = "read"
        try:
            async for _ in import_lines(frontier, lines, imported, slots=_HOSTS):
                pass
        except (BadPayload, ConfigurationError) as e:
            check_shown(str(e))
            outcome = "refused"
        # Whatever came in can go out again.
        exported = Exported()
        async for some in export_lines(frontier, exported, spider="s", items=True):
            for line in some:
                dump_lines.load(dump_lines.dump(line).encode())
        return outcome
    finally:
        await client.aclose()


_URLSET = b"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
<url><loc>http://site/a</loc><lastmod>2020-01-01</lastmod></url>
<url><loc> http://site/b&amp;c </loc><priority>0.5</priority></url>
</urlset>"""
_INDEX = b"""<?xml version="1.0"?><sitemapindex xmlns="http://www.google.com/schemas/sitemap/0.84">
<sitemap><loc>/sitemap-1.xml</loc></sitemap><sitemap><loc>http://b/2.xml.gz</loc></sitemap>
</sitemapindex>"""
_ROBOTS = b"""User-agent: *\nDisallow: /x\n\n\nSitemap: http://site/s.xml
 sitemap:/relative.xml\nSITEMAP : no\n"""


def sitemap_case(rng: random.Random) -> str:
    body = change_bytes(rng, rng.choice((_URLSET, _INDEX, _ROBOTS)))
    packed = body
    if rng.random() < 0.4:
        packed = gzip.compress(body, mtime=0)
        if rng.random() < 0.7:
            packed = change_bytes(rng, packed)
    asyncio.run(_read_lines(packed))
    url = f"http://site/{rng.choice(('robots.txt', 'sitemap.xml'))}"
    try:
        _, urls = sitemaps._urls_in(url, body)
    except sitemaps.Unreadable as e:
        check_shown(str(e))
        return "refused"
    for found in urls:
        if not isinstance(found, str):
            raise Wrong(f"a URL is a {type(found).__name__}")
        check_shown(sitemaps._shown(found))
    return "read"


async def _read_lines(packed: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(packed)
        file.flush()
        tally = seed_files.Tally(len(packed))
        async for lines in seed_files.read_file(Path(file.name), "name", 1000, tally):
            check_shown(lines.problem)
            if any(len(line) > 1001 for line in lines.lines):
                raise Wrong("a line that is too long")
            if lines.first > 1_000_000:
                break  # a small file of many lines is no wonder


def names_case(rng: random.Random) -> str:
    server = _server()
    names = [some_text(rng).replace("\ud800", "?") for _ in range(6)]
    spider, job, worker, reason, method, other = names
    name = spider or "s"
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        plant(client, name, worker, reason, method, other)
    shown = 0
    for words in commands_for(name, job, worker):
        _, out, err = run_here(*words, "--redis", server.url)
        shown += len(out)
        for line in (*out.split("\n"), *err.split("\n")):
            check_shown(line)
    return "shown" if shown else "nothing shown"


def plant(
    client: redis.Redis, name: str, worker: str, reason: str, method: str, other: str
) -> None:
    """Give the crawl *name* one of everything, with hostile words in it."""
    key = name.encode("utf-8", "replace")
    fields: dict[str, Any] = {
        "url": f"http://site/{other}",
        "method": method,
        "callback": other,
        "meta": {other: reason},
        "headers": {method: [other]},
    }
    request = b"\x01" + messagepack.dumps(fields)
    number = "4503599627370495"
    info = json.dumps({"pages": 3, "failed": 10**400, "memory": 10})
    crawl = f"{int(time.time() * 1000)}-{other}"
    client.hset(key + b":state", "active", str(int(time.time() * 1000)))
    client.hset(key + b":state", mapping={"crawl": crawl, "format": FORMAT})
    client.hset(key + b":state", f"worker:{number}", worker)
    client.hset(key + b":state", f"since:{number}", reason)
    client.hset(key + b":state", f"beat:{number}", info)
    client.zadd(key + b":workers", {number: time.time() * 1000})
    client.zadd(key + b":workers", {other: time.time() * 1000})
    client.zadd(key + b":requests", {member(request, 1): 7})
    client.zadd(key + b":requests", {f"nonsense {other}": 1.5})
    client.zadd(key + b":slots", {"7": 2**52 + int(number), other: 2, "1.5": 3})
    client.zadd(
        key + b":slots", {"7.1": 2**60, "7.2": float("inf"), "8": -float("inf")}
    )
    client.hset(
        key + b":politeness", mapping={"7": "1 1", "1": other, "wanted:7": other}
    )
    client.hset(key + b":state", "slots:seen", str(int(time.time() * 1000)))
    client.zadd(key + b":suspects", {suspect(request, 2, 1, slot=7): 0})
    client.zadd(key + b":suspects", {f"nonsense {other}": 0})
    client.zadd(key + b":leases", {"0000000000000003": number})
    leased = f"{other} 0 - ".encode("utf-8", "replace") + member(request, 4)
    client.hset(key + b":leased", "0000000000000003", b"7 0 - " + member(request, 3))
    client.hset(key + b":leased", "0000000000000004", leased)
    client.sadd(key + b":dupefilter", other)
    client.rpush(key + b":start_urls", other, f"http://site/{reason}")
    client.rpush(key + b":items", other)
    client.hset(key + b":stats", other or "x", reason)
    letter: dict[Any, Any] = {"payload": request, "reason": reason, "worker": worker}
    letter |= {"deliveries": 1, "time": 1, "kind": "request"}
    client.xadd(key + b":failed", letter)
    client.xadd(key + b":failed", letter | {"kind": other, "payload": reason})
    texts = "\n".join(map(_one_line, (f"{other}.", worker, method, reason)))
    token = "0123456789abcdef"
    client.hset(key + b":tasks", f"t:{token}", f"f 1 2 3 1 4 5 6\n{texts}")
    client.hset(key + b":tasks", f"i:{_one_line(other)}.", token)
    client.hset(key + b":tasks", f"t:{other}", reason)
    client.hset(key + b":tasks", f"b:{worker}", other)
    client.zadd(key + b":tasks_ended", {token: 6, other: float("inf")})
    client.hset(key + b":results", f"{token} 1", other)
    record = {"crawl": crawl, "reason": reason, "start": other, "pages": method}
    client.xadd(key + b":history", record)
    client.set(f"{other}x:state", reason)
    client.hset(f"{other}y:state", "active", 1)


def _one_line(text: str) -> str:
    return text.replace("\n", " ")


def commands_for(name: str, job: str, worker: str) -> list[list[str]]:
    """Command lines that show what is in Redis; with names that nobody can type left."""
    words = [["status"], ["history"], ["metrics", "--once"]]
    if name.startswith("-") or "\0" in name:
        return words
    for option in ([], ["--json"]):
        words += [
            ["status", name, *option],
            ["workers", name, "--urls", "5", *option],
            ["history", name, *option],
            ["hosts", name, *option],
            ["failed", name, *option],
            ["peek", name, *option],
            ["explain", name, f"http://site/{job}", *option],
            ["check", name, *option],
            ["tasks", name, *option],
            ["tasks", name, "--batch", f"{worker}.", *option],
            ["task", name, f"{job}.", *option],
            ["cancel", name, f"{job}.", *option],
            ["retry", name, "--all", "--reason", "nothing", *option],
        ]
    words += [
        ["peek", name, "--verbose"],
        ["hosts", name, "--sort", "errors", "-n", "3"],
        ["metrics", name, "--once"],
        ["status", f"{name}x"],
        ["failed", f"{name}x"],
        ["status", "nobody"],
        ["workers", name, "--stop", f"{worker}x"],
        ["top", name, "-n", "1"],
        ["top", name, "-n", "1", "--hosts"],
        ["pause", name],
        ["resume", name],
        ["recrawl", name, f"http://site/{job}"],
        ["forget", name, "--all", "--reason", "nothing"],
        ["import", name, f"/nowhere/{job}".replace("\0", "")],
        ["import", name, "--from-scrapy-redis", job],
        ["seed", name, f"http://{job}"],
        ["export", name, "-"],
        ["export", name, f"/nowhere/{job}".replace("\0", "")],
        ["task", name, f"{job}.", "--results"],
        ["items", name],
        ["clear", name, "--yes"],
    ]
    return words


KINDS: dict[str, Callable[[random.Random], str]] = {
    "codec": codec_case,
    "seeds": seeds_case,
    "import": import_case,
    "sitemap": sitemap_case,
    "names": names_case,
}

_redis: list[RedisServer] = []


def _server() -> RedisServer:
    """The redis-server of the run; the child does not start one of its own."""
    return _redis[0]


class _Given:
    """A redis-server that somebody else started."""

    def __init__(self, url: str) -> None:
        self.url = url


# Running cases


def run_case(kind: str, number: int, seed: int) -> str:
    """The outcome of one case. Raises what it raises, and Wrong if it takes too long."""
    rng = random.Random(f"{seed} {kind} {number}")
    begun = time.process_time()
    outcome = KINDS[kind](rng)
    seconds = time.process_time() - begun
    if seconds > CPU:
        raise Wrong(f"it takes {seconds:.1f} s")
    return outcome


def _child(url: str, place: str, seed: int, only: str | None) -> None:
    """Run cases, of one kind or of all, and say one line of JSON for a find, and for every turn."""
    _redis.append(_Given(url))  # type: ignore[arg-type]
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    numbers = json.loads(sys.stdin.readline())
    with open(place, "r+b") as file_, mmap.mmap(file_.fileno(), 16) as now:  # noqa: PTH123
        while True:
            for at, (kind, turn) in enumerate(TURNS.items()):
                if only not in (None, kind):
                    continue
                counts: Counter[str] = Counter()
                for number in range(numbers[kind], numbers[kind] + turn):
                    now[:16] = struct.pack("=qq", at, number)
                    try:
                        counts[run_case(kind, number, seed)] += 1
                    except Exception as e:
                        counts["FOUND"] += 1
                        _say(found=kind, number=number, **_described(e))
                numbers[kind] += turn
                _say(turn=kind, next=numbers[kind], counts=counts)


def _say(**info: Any) -> None:
    sys.__stdout__.write(json.dumps(info) + "\n")
    sys.__stdout__.flush()


def _described(error: BaseException) -> dict[str, str]:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "scrapy_dist" in f.filename] or list(frames)
    last = ours[-1]
    place = f"{Path(last.filename).name}:{last.name}"
    text = f"{type(error).__name__}: {error}"
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[::-1][:6])
    return {
        "place": f"{type(error).__name__} in {place}",
        "text": f"{text[:600]} ({where})",
    }


class Run:
    """Feeds a child process with cases, and replaces it when one of them ends it."""

    def __init__(self, seed: int, url: str, place: Path, only: str | None) -> None:
        self.seed = seed
        self._only = [] if only is None else ["--only", only]
        self.counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self.found: dict[str, int] = {}
        self._url = url
        self._place = place
        self._next = dict.fromkeys(KINDS, 0)

    def run(self, end: float) -> None:
        """Until *end*, of the monotonic clock."""
        while time.monotonic() < end:
            self._place.write_bytes(bytes(16))
            child = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-m",
                        "tests.support.fuzz",
                        "--seed",
                        str(self.seed),
                    ),
                    *("--child", self._url, str(self._place), *self._only),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            try:
                self._watch(child, end)
            finally:
                child.kill()
                child.communicate()

    def _watch(self, child: subprocess.Popen[bytes], end: float) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(self._next).encode() + b"\n")
        child.stdin.flush()
        os.set_blocking(child.stdout.fileno(), False)
        before, since, rest = b"", time.monotonic(), b""
        while time.monotonic() < end:
            rest += child.stdout.read() or b""
            *lines, rest = rest.split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            now = self._place.read_bytes()
            if now != before:
                before, since = now, time.monotonic()
            if child.poll() is not None:
                assert child.stderr is not None
                said = child.stderr.read().decode(errors="replace")[-500:]
                self._ended(now, f"its process ended with {child.returncode}: {said}")
                return
            if time.monotonic() - since > HANGS:
                self._ended(now, f"nothing for {HANGS:g} s")
                return
            time.sleep(0.1)

    def _ended(self, now: bytes, why: str) -> None:
        at, number = struct.unpack("=qq", now)
        kind = list(TURNS)[at]
        self._take({"found": kind, "number": number, "place": why[:30], "text": why})
        self.counts[kind]["FOUND"] += 1
        self._next[kind] = number + 1

    def _take(self, info: dict[str, Any]) -> None:
        if "turn" in info:
            self.counts[info["turn"]].update(info["counts"])
            self._next[info["turn"]] = info["next"]
            return
        place = f"{info['found']}: {info['place']}"
        self.found[place] = self.found.get(place, 0) + 1
        if self.found[place] <= 2:
            again = f"--only {info['found']} --case {info['number']} --seed {self.seed}"
            print(f"FOUND {place}\n  {info['text']}\n  again: {again}", flush=True)

    def summary(self) -> str:
        lines = [f"seed {self.seed}"]
        for kind, counts in self.counts.items():
            told = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
            lines.append(f"  {kind}: {sum(counts.values())} cases: {told}")
        lines += [f"  {n} times {place}" for place, n in self.found.items()]
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="default 60")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--only", choices=KINDS, help="only cases of this kind")
    parser.add_argument("--case", type=int, help="only the one with this number")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None and options.only is None:
        parser.error("--case needs --only")
    if options.child:
        _child(*options.child, options.seed, options.only)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        _redis.append(server)
        if options.case is not None:
            print(run_case(options.only, options.case, options.seed))
            return
        print(f"seed {options.seed}", flush=True)
        run = Run(options.seed, server.url, Path(folder) / "case", options.only)
        try:
            run.run(time.monotonic() + options.minutes * 60)
        finally:
            print(run.summary(), flush=True)
    raise SystemExit(f"{len(run.found)} kinds of finds" if run.found else 0)


if __name__ == "__main__":
    main()
