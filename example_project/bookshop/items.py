"""What the spiders scrape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy.http import TextResponse


@dataclass
class Book:
    """One book, as its page describes it."""

    url: str
    title: str
    author: str
    category: str
    price: float
    rating: int
    in_stock: int

    @classmethod
    def from_response(cls, response: TextResponse) -> Book:
        return cls(
            url=response.url,
            title=response.css("h1::text").get(),
            author=response.css(".author::text").get(),
            category=response.css(".crumbs a:last-of-type::text").get(),
            price=float(response.css(".price::text").re_first(r"[\d.]+")),
            rating=int(response.css(".rating::attr(data-stars)").get()),
            in_stock=int(response.css(".stock::text").re_first(r"\d+")),
        )


@dataclass
class DataSheet:
    """The PDF data sheet of one book; FilesPipeline fills ``files``."""

    url: str
    title: str
    file_urls: list[str]
    files: list[dict[str, str]] = field(default_factory=list)
