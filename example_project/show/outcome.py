"""Whether a crawl did what it had to do, by what the site counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bookshop.catalogue import Catalogue

    from show.display import Row
    from show.plan import Plan

_KINDS = {
    "book": "books",
    "category": "category pages",
    "moved": "redirects",
    "datasheet": "PDFs",
    "missing": "missing (404)",
    "start": "start page",
}


@dataclass(frozen=True)
class Outcome:
    """Plan and reality.

    *again* counts the pages that a killed worker held and others fetched again; such a
    page's item may be stored again too (*items_again*): delivery is at least once.
    """

    plan: Plan
    fetched: Counter[str]
    lost: list[str]
    duplicates: int
    again: int
    unplanned: int
    items: int
    items_twice: int
    items_again: int
    files: int

    @property
    def good(self) -> bool:
        return not self.problems()

    def problems(self) -> list[str]:
        counts = {
            "pages lost": len(self.lost),
            "pages fetched twice": self.duplicates,
            "pages that nobody planned": self.unplanned,
            "items lost": len(self.plan.scraped) - self.items,
            "items twice": self.items_twice,
            "files lost": len(self.plan.files) - self.files,
        }
        return [f"{count} {what}" for what, count in counts.items() if count]

    def rows(self) -> list[Row]:
        kinds = ", ".join(
            f"{self.fetched[kind]} {name}"
            for kind, name in _KINDS.items()
            if self.fetched[kind]
        )
        total = self.fetched.total()
        rows = [("pages", f"{total} of {len(self.plan.pages)}")]
        if kinds:
            rows.append(("", kinds))
        rows.append(("items", f"{self.items} of {len(self.plan.scraped)}"))
        if self.plan.files:
            rows.append(("files", f"{self.files} of {len(self.plan.files)}"))
        rows += [("duplicates", str(self.duplicates)), ("lost", str(len(self.lost)))]
        if self.lost:
            rows.append(("lost pages", " ".join(self.lost[:5])))
        return rows


def judge(
    plan: Plan,
    shop: Catalogue,
    visits: dict[str, list[str]],
    item_urls: Iterable[str],
    files: Path,
    victim: str | None,
) -> Outcome:
    """Compare a crawl with its plan; *visits* are the workers' names by path."""
    held = {path for path, names in visits.items() if names[0] == victim}
    held = {path for path in held if len(visits[path]) > 1}
    more = sum(len(names) - 1 for names in visits.values())
    items = Counter(urlsplit(url).path for url in item_urls)
    items_again = sum(count - 1 for path, count in items.items() if path in held)
    return Outcome(
        plan=plan,
        fetched=Counter(shop.pages[path].kind for path in plan.pages & visits.keys()),
        lost=sorted(plan.pages - visits.keys()),
        duplicates=more - len(held),
        again=len(held),
        unplanned=len(visits.keys() - plan.pages),
        items=len(plan.scraped & items.keys()),
        items_twice=items.total() - len(items) - items_again,
        items_again=items_again,
        files=sum(_is_there(path, shop, files) for path in plan.files),
    )


def _is_there(path: str, shop: Catalogue, files: Path) -> bool:
    file = files / path.rpartition("/")[2]
    return file.is_file() and file.read_bytes() == shop.pages[path].body
