"""The example's bookshop: the same on every machine, and no link leads nowhere."""

from __future__ import annotations

import json
import re
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

EXAMPLE = Path(__file__).parents[2] / "example_project"
sys.path.insert(0, str(EXAMPLE))

from bookshop.catalogue import Catalogue, Page  # noqa: E402
from bookshop.site import REPORT_PATH, BookshopServer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

VOID_TAGS = {"br", "link", "meta"}


class _Html(HTMLParser):
    """Collects the links of a page and checks that its tags are closed in order."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(page.body.decode())
        assert self._open == [], page.path

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID_TAGS:
            self._open.append(tag)
        self.links += [value for name, value in attrs if name == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def shop() -> Catalogue:
    return Catalogue()


@pytest.fixture
def server() -> Iterator[BookshopServer]:
    server = BookshopServer(Catalogue(categories=2, books=8))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_shop_is_the_same_every_time(shop: Catalogue) -> None:
    assert Catalogue().pages == shop.pages


def test_totals(shop: Catalogue) -> None:
    kinds = Counter(page.kind for page in shop.pages.values())

    assert kinds == {
        "start": 1,
        "category": 48,
        "book": 480,
        "moved": 40,
        "missing": 12,
        "datasheet": 160,
    }
    assert sum(page.delay >= 0.5 for page in shop.pages.values()) > 10


@pytest.mark.parametrize("size", [(12, 40), (4, 12), (1, 1)])
def test_every_link_resolves_and_every_page_is_linked(size: tuple[int, int]) -> None:
    shop = Catalogue(*size)
    found = {"/"}
    todo = ["/"]
    while todo:
        page = shop.pages[todo.pop()]
        links = [page.location] if page.location else []
        if page.content_type.startswith("text/html"):
            links = _Html(page).links
        new = set(links) - found - {"/style.css"}
        found |= new
        todo += new

    assert found == set(shop.pages)


def test_some_books_are_found_by_a_redirect_alone(shop: Catalogue) -> None:
    linked = {
        link
        for page in shop.pages.values()
        if page.content_type.startswith("text/html")
        for link in _Html(page).links
    }
    targets = {page.location for page in shop.pages.values() if page.location}

    assert targets - linked, "reached by their old address only"
    assert targets & linked, "reached both ways"


def test_datasheets_are_valid_pdf(shop: Catalogue) -> None:
    for path in shop.paths("datasheet"):
        body = shop.pages[path].body
        start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", body)[1])
        assert body.startswith(b"%PDF-1.4\n")
        assert body[start:].startswith(b"xref\n0 6\n")
        offsets = re.findall(rb"(\d{10}) 00000 n ", body)
        for number, offset in enumerate(offsets, 1):
            assert body[int(offset) :].startswith(b"%d 0 obj\n" % number)


def test_the_site_counts_who_asked_for_what(server: BookshopServer) -> None:
    def get(path: str, agent: str) -> urllib.request.addinfourl:
        request = urllib.request.Request(
            server.url + path, headers={"User-Agent": f"bookshop (+x) {agent}"}
        )
        return urllib.request.urlopen(request, timeout=10)

    with get("/", "worker-1") as page:
        assert page.headers["Content-Type"].startswith("text/html")
    with get("/old/0007", "worker-2") as page:
        book = page.url.removeprefix(server.url)
    with get("/robots.txt", "worker-1"):
        pass
    for path in ("/book/out-of-print-poetry/", "/nowhere"):
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            get(path, "worker-1")
        caught.value.close()

    with get(REPORT_PATH, "me") as report:
        visits = json.load(report)
    assert book.startswith("/book/0007-")
    assert visits == {
        "/": ["worker-1"],
        "/old/0007": ["worker-2"],
        book: ["worker-2"],
        "/book/out-of-print-poetry/": ["worker-1"],
        "/nowhere": ["worker-1"],
    }
