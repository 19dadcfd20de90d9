"""Draws how a crawl works, for README: ``python -m tests.support.picture``."""

from __future__ import annotations

from html import escape
from pathlib import Path

PATH = Path(__file__).with_name("how_it_works.svg")

WIDTH, HEIGHT = 760, 330
BLUE, GREEN, GREY, INK = "#dce8f7", "#dff0e0", "#f3f3f3", "#1b1f24"
#: Of arrows and frames.
LINE = "#57606a"

HEAD = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"
     font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">
<title>How it works: workers exchange results and requests with Redis</title>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"
  markerHeight="7" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="{LINE}"/>
</marker></defs>
<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"""


def box(
    x: int, y: int, width: int, height: int, color: str, *lines: str, top: bool = False
) -> str:
    """A rectangle; the first of the *lines* is bold, at its *top* or in the middle."""
    middle = x + width // 2
    first = y + 19 if top else y + height // 2 + 5 - 8 * (len(lines) - 1)
    place = f'x="{x}" y="{y}" width="{width}" height="{height}"'
    parts = [f'<rect {place} rx="6" fill="{color}" stroke="{LINE}"/>']
    for n, line in enumerate(lines):
        weight = ' font-weight="bold"' if n == 0 else ""
        parts.append(label(middle, first + 16 * n, line, weight))
    return "\n".join(parts)


def label(x: int, y: int, text: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="middle"{more}>{escape(text)}</text>'


def arrow(x1: int, y1: int, x2: int, y2: int, *, both: bool = False) -> str:
    start = ' marker-start="url(#tip)"' if both else ""
    return (
        f'<path d="M{x1} {y1} {x2} {y2}" stroke="{LINE}" stroke-width="1.5"'
        f' marker-end="url(#tip)"{start}/>'
    )


def picture() -> str:
    """The SVG."""
    worker = [
        box(15, 15, 375, 200, GREY, "worker: one scrapy crawl", top=True),
        box(30, 75, 90, 95, BLUE, "Scrapy", "engine", "and spider"),
        box(165, 50, 100, 66, BLUE, "outbox", "new requests,", "items, acks"),
        box(165, 134, 100, 66, BLUE, "inbox", "leased", "requests"),
        box(300, 75, 78, 95, GREEN, "exchange", "one round", "trip"),
        arrow(120, 95, 165, 83),
        arrow(165, 167, 120, 150),
        arrow(265, 83, 300, 98),
        arrow(300, 147, 265, 167),
    ]
    others = [
        box(15, 230, 375, 34, GREY, "worker"),
        box(15, 280, 375, 34, GREY, "worker"),
        arrow(390, 247, 565, 247, both=True),
        arrow(390, 297, 565, 297, both=True),
    ]
    between = [
        arrow(378, 98, 565, 98),
        label(483, 74, "new requests, items,"),
        label(483, 90, "acks, heartbeat"),
        arrow(565, 147, 378, 147),
        label(483, 165, "leases"),
    ]
    redis = [
        box(565, 15, 180, 299, GREY, "Redis", top=True),
        *(
            box(580, 48 + 44 * n, 150, 36, GREEN, name, meaning)
            for n, (name, meaning) in enumerate(
                (
                    ("requests", "pending"),
                    ("leases", "taken by workers"),
                    ("dupefilter", "fingerprints seen"),
                    ("failed", "dead letters"),
                    ("start_urls", "seeds"),
                    ("items", "of RedisPipeline"),
                )
            )
        ),
    ]
    return "\n".join((HEAD, *worker, *others, *between, *redis, "</svg>\n"))


if __name__ == "__main__":
    PATH.write_text(picture(), "utf-8")
