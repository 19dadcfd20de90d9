"""The pages' templates, and the addresses in them: everything that is put in is escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from scrapy_dist.base import times, words

if TYPE_CHECKING:
    from scrapy_dist.core.dead_letters import DeadLetter

#: Characters of a URL that are shown.
_SHOWN = 300
#: Bytes of the largest dead letter that is read for its URL.
_MAX_READ = 1 << 16
_HERE = files("scrapy_dist.web") / "templates"


class Templates:
    """The files beside this module, read once."""

    def __init__(self) -> None:
        sources = {
            file.name: file.read_text("utf-8")
            for file in _HERE.iterdir()
            if file.name.endswith(".html")
        }
        self._environment = Environment(
            autoescape=True,
            loader=DictLoader(sources),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            age=words.age,
            clean=words.clean,
            count=words.count,
            letter_link=_letter_link,
            link=link,
            memory=words.memory,
            moment=lambda ms: times.shown(times.from_ms(ms)),
            number=words.number,
            rate=words.rate,
            # A part of `web.live.Live`, which a template has drawn, or a chart.
            safe_part=Markup,
            time=times.shown,
        )
        self._environment.globals.update(crawl_path=crawl_path)

    def render(self, template: str, /, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)


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
    if shown != url or not _is_web(url):
        return Markup('<span class="url">{}</span>').format(shown)
    return Markup(
        '<a class="url" href="{0}" rel="noopener noreferrer nofollow">{0}</a>'
    ).format(shown)


def _letter_link(letter: DeadLetter) -> Markup:
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
