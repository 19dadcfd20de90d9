"""What each spider has to do."""

from __future__ import annotations

from dataclasses import dataclass

from bookshop.catalogue import Catalogue, category_path, missing_path

SPIDERS = ("books", "seeded", "datasheets")


@dataclass(frozen=True)
class Plan:
    """Pages to fetch, pages to get an item from, files to have; all as paths.

    Seeds are pushed in waves: the first at the start, the second half way.
    """

    pages: set[str]
    scraped: set[str]
    files: frozenset[str] = frozenset()
    seeds: tuple[list[str], ...] = ()


def make_plan(spider: str, shop: Catalogue) -> Plan:
    pages = shop.paths("start", "category", "book", "moved", "missing")
    if spider == "books":
        return Plan(pages, shop.paths("book"))
    if spider == "seeded":
        return _seeded_plan(pages, shop)
    files = shop.paths("datasheet")
    scraped = {book.path for book in shop.books if book.has_datasheet}
    return Plan(pages | files, scraped, frozenset(files))


def _seeded_plan(pages: set[str], shop: Catalogue) -> Plan:
    """Most shelves are seeds; of the last two, each book is a seed by itself."""
    shelves, singles = shop.categories[:-2], shop.categories[-2:]
    books = [book for category in singles for book in shop.in_category(category)]
    not_linked = {"/"} | {missing_path(category) for category in singles}
    for category in singles:
        start = category_path(category)
        not_linked |= {path for path in pages if path.startswith(start)}
    return Plan(
        pages - not_linked,
        shop.paths("book"),
        seeds=(
            [category_path(category) for category in shelves],
            [book.listed_path for book in books],
        ),
    )
