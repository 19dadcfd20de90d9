"""Keeping Python's garbage collector off what lives as long as the crawl.

Scrapy makes so many objects for each page that Python looks through all objects of the
process about every hundred pages. Most of those are modules, classes and functions; one
in seven came with redis-py. ``gc.freeze`` leaves out what is there when the crawl begins:
https://docs.python.org/3/library/gc.html#gc.freeze. Reference counting goes on for it;
only what is part of a cycle, and dropped during the crawl, stays in memory until its end.
"""

from __future__ import annotations

import gc

#: Crawls of this process that are under way.
_crawls = 0


def freeze() -> None:
    """A crawl begins: what is there stays, as far as the collector is concerned."""
    global _crawls  # noqa: PLW0603  the collector is the process's, too
    _crawls += 1
    if _crawls == 1 and hasattr(gc, "freeze"):  # PyPy has no such thing
        gc.freeze()


def thaw() -> None:
    """A crawl has ended; after the last one the collector sees everything again."""
    global _crawls  # noqa: PLW0603
    _crawls -= 1
    if not _crawls and hasattr(gc, "unfreeze"):
        gc.unfreeze()
