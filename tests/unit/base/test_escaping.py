"""What is put into words can be shown in a terminal and written into a log."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scrapy_dist
from scrapy_dist.base.escaping import escape, get_logger, quote

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07",
    "a\nb",
    "a\r\x0b\x0c\x1c\x85\u2028\u2029b",
    "\x00\x7f\x9b",
    "\u202e\u2066\u200f\u061c",
    "\u200b\u200d\u2060\ufeff\u00ad",
    "\u034f\u115f\u3164\ufe0f\U000e0100\U000e0041",
    "\ud800",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_mark_gets_through(text):
    for shown in (escape(text), quote(text), quote([text]), quote(ValueError(text))):
        assert shown.isprintable()
        assert not any(0xFE00 <= ord(c) <= 0xFE0F or c in "\u034f\u3164" for c in shown)


def test_what_is_plain_stays():
    text = "Grüße, 漢字 العربية 🙂: \\ 'a' \"b\""
    assert escape(text) == text
    assert escape("\x1b") == "\\x1b"


@given(st.text(), st.integers(2, 40))
def test_the_limit_holds_for_what_is_shown(text, limit):
    assert len(escape(text, limit)) <= limit
    assert escape(text, limit).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:secret@host/0", "redis://***@host/0"),
        ("rediss://:secret@host", "rediss://***@host"),
        ("at redis://a:secret:x@b@host now", "at redis://***@host now"),
        ("http://me@host/", "http://***@host/"),
        ("me:secret@host:6379", "***@host:6379"),
        ("x='me:secret@host'", "x='***@host'"),
        ("u:secret@h1,v:secret@h2", "***@h2"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://host/?m=a@b", "http://host/?m=a@b"),
        ("me@example.org", "me@example.org"),
        ("a@b://x:80", "a@b://x:80"),
    ],
)
def test_passwords_are_hidden(text, shown):
    assert quote(text)[1:-1] in (shown, shown.replace("'", "\\'"))


def test_a_password_that_is_cut_is_hidden():
    assert "secret" not in quote(f"http://me:secret{'x' * 5000}@host/", 3000)
    assert "secret" not in quote(f"{' ' * 2000}http://me:secret{'x' * 99}@host/", 3000)


def test_logs_are_escaped(caplog):
    logger = get_logger("scrapy_dist.test_shown")
    assert get_logger("scrapy_dist.test_shown") is logger
    assert len(logger.filters) == 1
    logger.warning("%s and %d", "\x1b[2J\nERROR: forged", 7)
    [record] = caplog.records
    assert record.getMessage() == r"\x1b[2J\nERROR: forged and 7"
    caplog.clear()
    try:
        int("\x1b[2J %s")
    except ValueError:
        logger.exception("it has failed: %s%%", "100")
    text = logging.Formatter().format(caplog.records[0])
    assert text.startswith("it has failed: 100%\nTraceback (most recent call last):\n")
    assert "\x1b" not in text
    assert text.endswith(r"with base 10: '\x1b[2J %s'")


def test_all_of_the_package_logs_with_it():
    for path in Path(scrapy_dist.__file__).parent.rglob("*.py"):
        names = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        }
        assert path.name == "escaping.py" or "getLogger" not in names, path
