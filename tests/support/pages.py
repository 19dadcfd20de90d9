"""Requests for pages of a site that is not there, and their names."""

from __future__ import annotations

from typing import Any

from scrapy import Request

URL = "http://a.invalid/"


def request(name: object, **options: Any) -> Request:
    """A request for the page *name*."""
    return Request(f"{URL}{name}", **options)


def requests(*names: object) -> list[Request]:
    return [request(name) for name in names]


def names(*pages: Request) -> list[str]:
    return [page.url.removeprefix(URL) for page in pages]
