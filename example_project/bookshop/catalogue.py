"""Every page of the small bookshop that the example crawls.

The same numbers give the same shop, byte for byte, on every machine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20240229
#: Books on one page of a category.
BOOKS_PER_PAGE = 10
#: Kinds of pages that are part of the shop; style sheet and robots.txt are not.
KINDS = ("start", "category", "book", "moved", "missing", "datasheet")

CATEGORIES = {
    "Poetry": ("Rivers", "Autumn", "Small Hours", "Salt", "Orchards", "Silence"),
    "Mystery": ("the Locked Mill", "Ashes", "the Night Train", "a Clockmaker", "Fog"),
    "Travel": ("Lisbon", "the High Atlas", "Iceland", "Two Islands", "the Silk Road"),
    "Science": ("Moss", "Neutrinos", "the Tides", "Migrating Birds", "Glass"),
    "History": ("Salt Roads", "Paper", "the Hanseatic League", "Maps", "Bridges"),
    "Cooking": ("Bread", "Slow Stews", "Wild Herbs", "One Pot", "Winter Soups"),
    "Gardening": ("Roses", "Small Balconies", "Old Apple Trees", "Shade", "Compost"),
    "Music": ("the Cello", "Street Bands", "Counterpoint", "Old Records", "Choirs"),
    "Children": ("a Brave Hedgehog", "the Moon Bus", "Nine Owls", "a Paper Boat"),
    "Philosophy": ("Doubt", "Walking", "Friendship", "Idleness", "Ordinary Things"),
    "Art": ("Blue", "Woodcuts", "Street Corners", "Unfinished Paintings", "Light"),
    "Sailing": ("Knots", "the North Sea", "Harbours", "a Slow Boat", "Lighthouses"),
}
TITLES = (
    "A Short History of {}",
    "The Book of {}",
    "Notes on {}",
    "In Praise of {}",
    "{} for Beginners",
    "Letters about {}",
    "The Year of {}",
    "Beyond {}",
)
FIRST_NAMES = ("Ada", "Bruno", "Clara", "Dmitri", "Elif", "Femi", "Greta", "Hugo")
LAST_NAMES = ("Almeida", "Berg", "Castellan", "Duarte", "Eriksen", "Fontaine", "Grau")


@dataclass(frozen=True)
class Book:
    """One book; books are numbered through the whole shop, from 0."""

    number: int
    title: str
    author: str
    category: str
    price: float
    rating: int
    in_stock: int

    @property
    def path(self) -> str:
        return f"/book/{self.number:04}-{slug(self.title)}/"

    @property
    def has_datasheet(self) -> bool:
        return self.number % 3 == 0

    @property
    def datasheet(self) -> str:
        return f"/datasheet/{self.number:04}.pdf"

    @property
    def is_moved(self) -> bool:
        """Whether the category page links to an old address that redirects."""
        return self.number % 12 == 7

    @property
    def listed_path(self) -> str:
        return f"/old/{self.number:04}" if self.is_moved else self.path

    @property
    def bought_path(self) -> str:
        """Half of the moved books are found by their old address alone."""
        return self.listed_path if self.number % 24 == 7 else self.path


@dataclass(frozen=True)
class Page:
    """What the site answers to one path; ``delay`` is in seconds."""

    path: str
    kind: str
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    location: str | None = None
    delay: float = 0.0


class Catalogue:
    """All pages, by path: some hundreds with the default numbers."""

    def __init__(self, categories: int = len(CATEGORIES), books: int = 40) -> None:
        self._random = random.Random(SEED)
        self.categories = list(CATEGORIES)[:categories]
        self.books = [
            self._book(number, category)
            for number, category in enumerate(
                category for category in self.categories for _ in range(books)
            )
        ]
        self.pages = {page.path: page for page in self._pages()}

    def paths(self, *kinds: str) -> set[str]:
        """The paths of all pages of these kinds."""
        return {page.path for page in self.pages.values() if page.kind in kinds}

    def in_category(self, category: str) -> list[Book]:
        return [book for book in self.books if book.category == category]

    def _some_books(self, count: int) -> list[Book]:
        return self._random.sample(self.books, min(count, len(self.books)))

    def _book(self, number: int, category: str) -> Book:
        rng = self._random
        title = rng.choice(TITLES).format(rng.choice(CATEGORIES[category]))
        return Book(
            number=number,
            title=title[0].upper() + title[1:],
            author=f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
            category=category,
            price=rng.randrange(450, 4000, 10) / 100,
            rating=rng.randint(1, 5),
            in_stock=rng.randint(0, 30),
        )

    def _pages(self) -> Iterator[Page]:
        yield self._html("/", "start", self._start_page())
        for category in self.categories:
            yield from self._category_pages(category)
        for book in self.books:
            yield self._html(book.path, "book", self._book_page(book))
            if book.is_moved:
                yield moved(book.listed_path, book.path)
            if book.has_datasheet:
                yield datasheet(book, self._delay())

    def _category_pages(self, category: str) -> Iterator[Page]:
        books = self.in_category(category)
        last = (len(books) - 1) // BOOKS_PER_PAGE + 1
        for number in range(1, last + 1):
            shown = books[(number - 1) * BOOKS_PER_PAGE : number * BOOKS_PER_PAGE]
            content = f"<h1>{category}</h1>\n" + shelf(shown)
            if number == last:
                content += out_of_print(category)
            content += pager(category, number, last)
            yield self._html(category_path(category, number), "category", content)
        yield missing(missing_path(category))

    def _start_page(self) -> str:
        return (
            "<h1>Good books, shortly described</h1>\n"
            f"<p>{len(self.books)} books on {len(self.categories)} shelves."
            " Pick a shelf above, or one of these:</p>\n" + shelf(self._some_books(5))
        )

    def _book_page(self, book: Book) -> str:
        bought = "".join(
            f'<li><a href="{other.bought_path}">{escape(other.title)}</a></li>'
            for other in self._some_books(4)
            if other is not book
        )
        sheet = (
            f'<p><a class="datasheet" href="{book.datasheet}">Data sheet (PDF)</a></p>\n'
            if book.has_datasheet
            else ""
        )
        return f"""<p class="crumbs"><a href="/">Bookshop</a> /
<a href="{category_path(book.category)}">{book.category}</a></p>
<article class="product">
{cover(book)}
<div>
<h1>{escape(book.title)}</h1>
<p>by <span class="author">{escape(book.author)}</span></p>
<p class="rating" data-stars="{book.rating}">{stars(book)}</p>
<p class="price">€ {book.price:.2f}</p>
<p class="stock">{book.in_stock} in stock</p>
{sheet}</div>
</article>
<h2>Readers also bought</h2>
<ul class="bought">{bought}</ul>
"""

    def _html(self, path: str, kind: str, content: str) -> Page:
        links = " ".join(
            f'<a href="{category_path(category)}">{category}</a>'
            for category in self.categories
        )
        body = LAYOUT.format(links=links, content=content).encode()
        return Page(path, kind, body, delay=self._delay())

    def _delay(self) -> float:
        """Most pages take a tenth or two of a second, one in twenty is slow."""
        if self._random.random() < 0.05:
            return self._random.uniform(0.5, 1.0)
        return self._random.uniform(0.08, 0.24)


LAYOUT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Bookshop</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header>
<a class="logo" href="/">Bookshop</a>
<nav class="categories">{links}</nav>
</header>
<main>
{content}</main>
<footer>A shop that does not exist: nothing here can be bought.</footer>
</body>
</html>
"""

STYLE = b"""
body { margin: 0; font: 16px/1.5 Georgia, serif; color: #2b2622; background: #faf7f2 }
header, main, footer { max-width: 60rem; margin: auto; padding: 1rem }
header { border-bottom: 1px solid #d9cfc1 }
.logo { font-size: 1.6rem; font-weight: bold; color: #7a2e1d; text-decoration: none }
nav a { margin-right: .8rem }
a { color: #7a2e1d }
.shelf { display: flex; flex-wrap: wrap; gap: 1.2rem; list-style: none; padding: 0 }
.book { width: 10rem }
.cover { display: block; height: 12rem; width: 8.5rem; padding: .8rem;
  box-sizing: border-box; border-radius: 2px 6px 6px 2px; color: #fff;
  box-shadow: 2px 3px 8px #0004; font-weight: bold }
.product { display: flex; gap: 2rem }
.price { font-size: 1.2rem; font-weight: bold }
.rating { color: #b8860b }
footer { color: #8a8078; font-size: .85rem }
"""


def slug(text: str) -> str:
    return text.lower().replace(" ", "-")


def category_path(category: str, number: int = 1) -> str:
    path = f"/category/{slug(category)}/"
    return path if number == 1 else f"{path}{number}/"


def missing_path(category: str) -> str:
    return f"/book/out-of-print-{slug(category)}/"


def stars(book: Book) -> str:
    return "★" * book.rating + "☆" * (5 - book.rating)


def cover(book: Book) -> str:
    hue = book.number * 37 % 360
    return (
        f'<div class="cover" style="background: linear-gradient(160deg,'
        f' hsl({hue} 45% 45%), hsl({hue + 40} 50% 30%))">{escape(book.title)}</div>'
    )


def shelf(books: list[Book]) -> str:
    items = "\n".join(
        f'<li class="book">{cover(book)}'
        f'<a href="{book.listed_path}">{escape(book.title)}</a>'
        f"<br>{escape(book.author)}<br>€ {book.price:.2f}</li>"
        for book in books
    )
    return f'<ul class="shelf">\n{items}\n</ul>\n'


def out_of_print(category: str) -> str:
    return (
        f'<p class="book"><a href="{missing_path(category)}">Out of print:'
        f" a rare book on {category.lower()}</a></p>\n"
    )


def pager(category: str, number: int, last: int) -> str:
    following = (
        f' <a class="next" href="{category_path(category, number + 1)}">next page</a>'
        if number < last
        else ""
    )
    return f'<p class="pager">Page {number} of {last}{following}</p>\n'


def moved(path: str, location: str) -> Page:
    body = f"Moved to {location}\n".encode()
    return Page(
        path, "moved", body, "text/plain; charset=utf-8", status=301, location=location
    )


def missing(path: str) -> Page:
    body = b"This book is out of print.\n"
    return Page(path, "missing", body, "text/plain; charset=utf-8", status=404)


def datasheet(book: Book, delay: float) -> Page:
    lines = (book.title, f"by {book.author}", f"Shelf: {book.category}")
    return Page(book.datasheet, "datasheet", pdf(lines), "application/pdf", delay=delay)


def pdf(lines: tuple[str, ...]) -> bytes:
    """A PDF of one page with these lines of ASCII text."""
    shown = " ".join(f"({line}) Tj T*" for line in lines)
    stream = f"BT /F1 18 Tf 24 TL 72 740 Td {shown} ET"
    size, fonts = "/MediaBox [0 0 595 842]", "<< /Font << /F1 4 0 R >> >>"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R {size} /Contents 5 0 R /Resources {fonts} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
    )
    out = "%PDF-1.4\n"
    offsets = []
    for number, text in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    count = len(objects) + 1
    return (
        f"{out}xref\n0 {count}\n0000000000 65535 f \n{table}"
        f"trailer << /Size {count} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    ).encode("ascii")
