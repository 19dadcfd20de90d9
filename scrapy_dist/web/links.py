"""Addresses of our own pages, and of strangers'."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from markupsafe import Markup, escape

from scrapy_dist.base import words

if TYPE_CHECKING:
    from scrapy_dist.core.dead_letters import DeadLetter

#: Characters of a URL that are shown.
_SHOWN = 300
#: Bytes of the largest dead letter that is read for its URL.
_MAX_READ = 1 << 16


def crawl_path(page: str, name: str, **more: str) -> str:
    """The address of a *page* of the crawl *name*; '' is its first one."""
    query = urlencode(
        {"crawl": name, **{key: value for key, value in more.items() if value}},
        errors="replace",
    )
    return f"/crawl{f'/{page}' if page else ''}?{query}"


def link(url: str | None) -> Markup:
    """*url* as people may see it; a link only if it is shown as it is, and of the web.

    So nothing is hidden behind it: no password, no script, no other direction of text.
    """
    if not url:
        return Markup("-")
    shown = words.clean(url, _SHOWN)
    text = escape(shown)
    if shown != url or not _is_web(url):
        return Markup('<span class="url">{}</span>').format(text)
    return Markup(
        '<a class="url" href="{}" rel="noopener noreferrer nofollow">{}</a>'
    ).format(text, text)


def letter_link(letter: DeadLetter) -> Markup:
    """The URL of *letter*; not of a very large one, as reading that takes its time."""
    if len(letter.payload) > _MAX_READ:
        size = f"{len(letter.payload) / 1e6:.1f} MB"
        return Markup("(a {} of {})").format(letter.kind, size)
    return link(letter.url)


def _is_web(url: str) -> bool:
    try:
        found = urlsplit(url)
    except ValueError:
        return False
    return found.scheme in ("http", "https") and bool(found.hostname)
