"""What meets foreign text takes time in proportion to its length.

No seconds are compared with a limit, but the processor time of a text with that of one
eight times as long: about 8 where it is linear, 64 where it is quadratic. And no pattern
has the forms that make it so.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import importlib
import itertools
import json
import math
import pkgutil
import re
import time
import zlib
from functools import partial
from pathlib import Path

import pytest
from scrapy import Spider

import scrapy_dist
from scrapy_dist.admin import seed_files, sitemaps
from scrapy_dist.base.escaping import escape, quote
from scrapy_dist.codec import dump_lines, messagepack
from scrapy_dist.codec import seed as seed_codec
from scrapy_dist.codec.request import PayloadCodec, fields_of
from scrapy_dist.exceptions import BadPayload, BadSeed

try:
    from re import _constants, _parser
except ImportError:  # Python 3.10
    import sre_constants as _constants
    import sre_parse as _parser

#: Length of the shorter text, and how many times as long the other one is.
LENGTH, TIMES = 2000, 8
#: Growth that is none of something linear, but less than that of anything quadratic.
GROWTH = 24
#: Processor time, in seconds, below which what is measured is mostly the measuring.
MEASURABLE = 0.02

PACKAGE = Path(scrapy_dist.__file__).parent
SPIDER = Spider("s")
CODEC = PayloadCodec(SPIDER)
RULES = seed_codec.SeedRules()


def growth(call, make):
    """How many times as long *call* takes for a longer text of *make*; 0: not to tell.

    The least of some tries, as what else the machine does only makes it more.
    """
    least = math.inf
    for _ in range(3):
        least = min(least, grown(call, make))
        if least < GROWTH:
            break
    return least


def grown(call, make):
    gc.disable()  # it looks at all that the whole suite keeps
    try:
        return measured(call, make)
    finally:
        gc.enable()


def measured(call, make):
    seconds = []
    for length in (LENGTH * TIMES, LENGTH):
        text = make(length)
        took: list[float] = []
        for _ in range(5):
            if took and seconds == [] and took[0] < MEASURABLE:
                return 0
            begun = time.process_time()
            call(text)
            took.append(time.process_time() - begun)
        seconds.append(min(took))
    return seconds[0] / max(seconds[1], 1e-6)


# Patterns


def patterns():
    """Every pattern that a module of the package compiles, under its name."""
    found = {}
    for module in pkgutil.walk_packages(scrapy_dist.__path__, "scrapy_dist."):
        try:
            names = vars(importlib.import_module(module.name))
        except ImportError:  # of an extra that is not installed
            continue
        for name, value in names.items():
            if isinstance(value, re.Pattern):
                found[f"{module.name}.{name}"] = value
    return found


PATTERNS = patterns()


def repeats_at(parsed):
    """Pairs of neighbouring unbounded repeats, and such that are in each other."""
    repeats = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
    before = None
    for kind, value in parsed:
        if kind in repeats:
            _, most, inner = value
            if most == _constants.MAXREPEAT and has_repeat(inner):
                yield "nested"
            elif most == _constants.MAXREPEAT:
                if before is not None and chars(before) & chars(inner):
                    yield "neighbours"
                before = inner
                continue
            else:
                yield from repeats_at(inner)
        elif kind is _constants.SUBPATTERN:
            yield from repeats_at(value[3])
        elif kind is _constants.BRANCH:
            for branch in value[1]:
                yield from repeats_at(branch)
        before = None


def has_repeat(parsed):
    for kind, value in parsed:
        if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            if value[1] == _constants.MAXREPEAT or has_repeat(value[2]):
                return True
        elif (kind is _constants.SUBPATTERN and has_repeat(value[3])) or (
            kind is _constants.BRANCH and any(map(has_repeat, value[1]))
        ):
            return True
    return False


def chars(parsed):
    """Which of the first 256 characters one turn of a repeat may be."""
    pattern = _parser.SubPattern(parsed.state, list(parsed.data))
    compiled = re.compile(unparsed(pattern))
    return {n for n in range(256) if compiled.fullmatch(chr(n))}


def unparsed(parsed):
    """A class of characters as text again; enough for those of the package."""
    [(kind, value)] = parsed.data
    if kind is _constants.LITERAL:
        return re.escape(chr(value))
    if kind is _constants.NOT_LITERAL:
        return f"[^{re.escape(chr(value))}]"
    if kind is _constants.ANY:
        return r"[\s\S]"
    assert kind is _constants.IN, kind
    text = ""
    for part, what in value:
        if part is _constants.NEGATE:
            text += "^"
        elif part is _constants.LITERAL:
            text += re.escape(chr(what))
        elif part is _constants.RANGE:
            text += f"{re.escape(chr(what[0]))}-{re.escape(chr(what[1]))}"
        else:
            text += {
                _constants.CATEGORY_DIGIT: r"\d",
                _constants.CATEGORY_NOT_DIGIT: r"\D",
                _constants.CATEGORY_SPACE: r"\s",
                _constants.CATEGORY_NOT_SPACE: r"\S",
                _constants.CATEGORY_WORD: r"\w",
                _constants.CATEGORY_NOT_WORD: r"\W",
            }[what]
    return f"[{text}]"


def flaws_of(pattern):
    text = pattern if isinstance(pattern, str) else pattern.pattern
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return list(repeats_at(_parser.parse(text)))


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_has_no_repeats_that_share_their_text(name):
    assert flaws_of(PATTERNS[name]) == []


@pytest.mark.parametrize("bad", ["(a+)+b", r"\s*\s+x", "(?:a|b*)*c", r"\d+\w*!"])
def test_such_a_pattern_would_be_found(bad):
    assert flaws_of(bad)


def attacks(pattern):
    """Texts on which a pattern with the same pieces would try for long."""
    text = pattern.pattern
    pieces = [
        "a",
        "0",
        " ",
        "\n",
        "a ",
        "0 ",
        "\n ",
        ":",
        "a:",
        "@",
        "://",
        "a:b@",
        "/",
    ]
    pieces += [
        "a.",
        "-",
        "a/",
        "1.",
        "e1",
        " 1 - ",
        "'",
        "\\",
        "é",
        "sitemap:",
        "password=",
    ]
    for piece, end in itertools.product(pieces, ("", "\x00", "!")):
        prefix = "0" * 16 if "{16}" in str(text) else ""
        for start in {"", prefix, f"{prefix} ", f"{prefix}1 "}:
            yield start, piece, end


@pytest.mark.parametrize(
    ("bad", "piece", "part"),
    [
        (rb"(?im)^\s*sitemap:[ \t]*(\S+)", b"\n", 3),
        (rb"[^\s/:'\"]+:(?!//)\S*@", b"a:", 1),
    ],
)
def test_such_a_growth_would_be_found(bad, piece, part):
    def make(length):
        return piece * (length // part // len(piece))

    assert growth(re.compile(bad).findall, make) > GROWTH


def is_searched(name):
    """Whether a pattern is looked for anywhere in a text, not only at its beginning."""
    module, _, pattern = name.rpartition(".")
    file = importlib.import_module(module).__file__
    call = rf"\b{pattern}\.(search|sub|subn|split|finditer|findall)\("
    return re.search(call, Path(file).read_text()) is not None


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_is_linear(name):
    pattern = PATTERNS[name]
    is_text = isinstance(pattern.pattern, str)
    # Unanchored only those that are used so: the others are slow to look for.
    uses = [pattern.match, pattern.fullmatch]
    if is_searched(name):
        uses.append(partial(pattern.sub, "" if is_text else b""))
    for (start, piece, end), use in itertools.product(attacks(pattern), uses):

        def make(length, start=start, piece=piece, end=end):
            made = start + piece * (length // len(piece)) + end
            return made if is_text else made.encode()

        assert growth(use, make) < GROWTH, (use, start, piece, end)


def test_no_pattern_is_hidden_in_a_call():
    """Those in calls of ``re`` are constant and meet what is ours, or are classes."""
    allowed = {
        # of settings and of our own server; a password, escaped
        *("addresses.py", "arguments.py", "fitness.py", "masking.py"),
        *("program.py", "start.py", "talk.py", "topology.py"),
        # one class of characters, or fullmatch of one
        *("dead_letters.py", "status.py", "crawls.py", "discover.py"),
    }
    for file in PACKAGE.rglob("*.py"):
        if re.search(
            r"\bre\.(match|search|sub|split|findall|fullmatch)\(", file.read_text()
        ):
            assert file.name in allowed, file


def test_patterns_of_lua_are_anchored():
    """Lua's tries at every place of a text; a repeat at the front is quadratic there."""
    for file in PACKAGE.rglob("*.lua"):
        code = file.read_text()
        for call, pattern, rest in re.findall(
            r":(find|match|gmatch|gsub)\('([^']*)'([^)]*)\)", code
        ):
            plain = rest.endswith(", true")
            one_class = re.fullmatch(r"(%\w|\[[^]]*\])\+?", pattern)
            is_text = re.match(r"[^%[.(*+?-][^*+?-]", pattern)  # at the front
            assert pattern.startswith("^") or is_text or plain or one_class, (
                file.name,
                call,
                pattern,
            )


# Functions

WORDS = [
    "@",
    ":",
    "://",
    "a:",
    "a:b@",
    "://@",
    "'",
    "\x1b",
    "\u202e",
    " a:b@",
    "://:",
    "a",
]
OPENING = [
    '{"url":',
    "[",
    '{"a":[',
    '"\\u0000',
    "\ud83d",
    "1",
    "1.",
    "-",
    "\t",
    "\ufeff",
]


@pytest.mark.parametrize("piece", WORDS)
def test_what_is_put_into_words_is_linear(piece):
    def make(length):
        return piece * (length // len(piece)) * 5

    for call in (quote, escape, lambda t: quote([t]), lambda t: quote(t, len(t))):
        assert growth(call, make) < GROWTH


def refused(call):
    def tried(*args):
        with contextlib.suppress(BadPayload, BadSeed, sitemaps.Unreadable):
            call(*args)

    return tried


@pytest.mark.parametrize("piece", [*WORDS, *OPENING, "/", "%", "é", "?a=b&", "ß."])
def test_seeds_are_linear(piece):
    read = refused(lambda text: seed_codec.parse_seed(text, RULES, SPIDER))

    def fill(length):
        return piece * (length // len(piece))

    def large(length):
        return fill(length)[: RULES.max_url - 100]

    def some(length):
        # Not below what is too long for a URL.
        return fill(4 * length)

    for make in (
        some,
        lambda n: f"http://{large(n)}",
        lambda n: f"http://a/{large(n)}",
        lambda n: json.dumps({"url": "http://a/", "meta": {"a": fill(n)}}),
        lambda n: json.dumps({"url": "http://a/", "headers": {"X-A": fill(n)}}),
        lambda n: json.dumps({"url": "http://a/", "cookies": {"c": fill(n)}}),
        lambda n: json.dumps({"url": "http://a/", "formdata": {fill(n): ""}}),
        lambda n: json.dumps({"url": "http://a/", "method": fill(n)}),
        lambda n: json.dumps({"url": "http://a/", fill(n): 1}),
    ):
        assert growth(read, make) < GROWTH


@pytest.mark.parametrize(
    "piece", ["\n", " ", "\r", "\n ", "sitemap:", "sitemap:\n", "s: "]
)
def test_robots_are_linear(piece):
    read = refused(lambda body: sitemaps._urls_in("http://a/robots.txt", body))

    def make(length):
        return piece.encode() * (10 * length // len(piece))

    assert growth(read, make) < GROWTH


@pytest.mark.parametrize(
    "piece",
    ["<a>", "<a/>", "&a;", "<url>", "<!--", "<![CDATA[", "<a b='", "]]>", "\n", "<"],
)
def test_sitemaps_are_linear(piece):
    read = refused(lambda body: sitemaps._urls_in("http://a/s.xml", body))

    def make(length):
        return b"<urlset>" + piece.encode() * (40 * length // len(piece))

    assert growth(read, make) < GROWTH


@pytest.mark.parametrize(
    "piece",
    [b"\x90", b"\x91", b"\x81\xa1a", b"\xd4\x01\x90", b"\xc4\x00", b"\xa1a", b"\x01"],
)
def test_payloads_are_linear(piece):
    def make(length):
        count = min(length, 65_000)
        return (
            b"\x01\x82\xa3url\xa9http://a/\xa4meta\x81\xa1a\xdd"
            + count.to_bytes(4, "big")
            + piece * count
        )

    for call in (CODEC.decode, fields_of, dump_lines.show_payload):
        assert growth(refused(call), make) < GROWTH


@pytest.mark.parametrize("value", ["a", "\x00", "é", " ", "9", "[", "{}"])
def test_lines_of_an_export_are_linear(value):
    def make(length):
        fields = {"url": "http://a/", "meta": {"a": value * length}}
        line = {"type": "pending", "request": messagepack.to_jsonable(fields)}
        return json.dumps(line).encode()

    read = refused(lambda text: dump_lines.payload_of(dump_lines.load(text)))
    assert growth(read, make) < GROWTH


@pytest.mark.parametrize(
    "piece", [gzip.compress(b"", mtime=0), b"\0", gzip.compress(b"a\n", mtime=0)]
)
def test_gunzipping_is_linear(piece):
    def unpack(data):
        with contextlib.suppress(zlib.error):
            for chunk in seed_files.Unpacker().feed(data):
                assert chunk is not None

    def make(length):
        return gzip.compress(b"", mtime=0) + piece * (24 * length // len(piece))

    assert growth(unpack, make) < GROWTH
