"""The pages' templates: everything that is put into them is escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from scrapy_dist.base import times, words
from scrapy_dist.web.links import crawl_path, letter_link, link

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
            letter_link=letter_link,
            link=link,
            memory=words.memory,
            moment=lambda ms: times.shown(times.from_ms(ms)),
            number=words.number,
            rate=words.rate,
            safe_part=_drawn,
            time=times.shown,
        )
        self._environment.globals.update(crawl_path=crawl_path)

    def render(self, template: str, /, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)


def _drawn(part: str) -> Markup:
    """A part of `web.live.Live`, which was drawn by a template, or is a chart."""
    return Markup(part)  # noqa: S704  it was escaped there
