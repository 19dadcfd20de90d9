"""How what came from Redis, a site, a seed or a file is put into words.

Whatever is printed or logged goes through `escape`: it cannot move a terminal's cursor,
begin a line of its own in a log, turn the direction of text, or be invisible.
"""

from __future__ import annotations

import difflib
import logging
import re
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy import Spider

#: Marks that take no room, though Python counts them among the printable characters.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
#: Characters of a value that are looked at for a message.
_LOOKED_AT = 2048
_SPACES = re.compile(r"(\s+)")
#: Where the login of a URL may begin; it goes up to the last @ of the word, with and
#: without scheme. Hiding too much does no harm.
_URL_LOGIN = re.compile(r"://[^/?#@:]*[:@]")
_LOGIN = re.compile(r"[^/:'\"]:(?!//)")
_LOGIN_BREAK = re.compile(r"[/:'\"]")


def escape(text: str, limit: int | None = None) -> str:
    """*text* with a backslash escape for each character that is not plainly visible.

    Those are control characters (also line breaks, tabs and ESC), marks that change the
    direction of text or take no room, separators other than the space, lone surrogates
    and unassigned characters. At most *limit* characters. Linear in ``len(text)``.
    """
    if limit is not None and len(text) > limit:
        text = f"{text[: limit - 1]}…"
    if not (text.isascii() and text.isprintable()) and not _is_plain(text):
        text = "".join(c if _is_plain(c) else _escaped(c) for c in text)
    if limit is not None and len(text) > limit:
        text = f"{text[: limit - 1]}…"
    return text


def _is_plain(text: str) -> bool:
    return text.isprintable() and _INVISIBLE.search(text) is None


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def quote(value: object, limit: int = 80) -> str:
    """*value* for a message: at most *limit* characters, without passwords of URLs.

    Text comes in quotes. Linear in the length of the value.
    """
    text = value if isinstance(value, str) else repr(value)
    text = _without_logins(_head(text))
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return escape(repr(text) if isinstance(value, str) else text)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A sentence, with a space in front, if one of *names* is like *name*; else ''."""
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f" Did you mean {quote(close[0], 200)}?" if close else ""


def nearest(name: str, names: Iterable[str]) -> str:
    """As `did_you_mean`; if none is like it, a sentence says which *names* there are."""
    known = sorted(names)
    if meant := did_you_mean(name, known):
        return meant
    if not known:
        return ""
    more = ", …" if len(known) > 10 else ""
    return f" There are: {', '.join(escape(n, 200) for n in known[:10])}{more}."


def _head(text: str) -> str:
    """The beginning of *text*; of a login that is cut in two, its end is still seen."""
    if len(text) <= _LOOKED_AT:
        return text
    space = _SPACES.search(text, _LOOKED_AT)
    end = space.start() if space else len(text)
    return text[:_LOOKED_AT] + "@" * ("@" in text[_LOOKED_AT:end])


def _without_logins(text: str) -> str:
    if "@" not in text:
        return text
    return "".join(map(_without_login, _SPACES.split(text)))


def _without_login(word: str) -> str:
    head, at, rest = word.rpartition("@")
    if not at:
        return word
    found = _URL_LOGIN.search(word, 0, len(head) + 1)
    if found:
        return f"{word[: found.start()]}://***@{rest}"
    found = _LOGIN.search(head)
    if not found:
        return word
    before = 0
    for mark in _LOGIN_BREAK.finditer(head, 0, found.start()):
        before = mark.end()
    return f"{head[:before]}***@{rest}"


class _Escaping(logging.Filter):
    """Escapes the messages of one logger, and the tracebacks below them."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        escaped = escape(message)
        if escaped != message:
            record.msg, record.args = escaped, ()
        if record.exc_info and not record.exc_text:
            lines = "".join(traceback.format_exception(*record.exc_info)).split("\n")
            record.exc_text = "\n".join(map(escape, lines)).rstrip("\n")
        return True


def get_logger(name: str) -> logging.Logger:
    """The logger *name*, whose messages are escaped. All of this package log with it."""
    logger = logging.getLogger(name)
    if not any(isinstance(each, _Escaping) for each in logger.filters):
        logger.addFilter(_Escaping())
    return logger


def spider_logger(name: str, spider: Spider) -> logging.LoggerAdapter[logging.Logger]:
    """As ``get_logger``, for what is said of *spider*."""
    return logging.LoggerAdapter(get_logger(name), {"spider": spider})
