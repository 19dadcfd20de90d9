"""The rights that ``scrapy frontier help redis`` and ``keys`` give to users of Redis."""

from __future__ import annotations

import re

from tests.support.documents import documents


def acl(user: str, spider: str) -> list[str]:
    """The rules for *user* of *spider*'s crawl, without ``on``; see >password."""
    text = "".join(documents().values())
    found = re.search(rf"ACL SETUSER {user} on (.*?)\n```", text, re.DOTALL)
    assert found
    return found[1].replace("myspider", spider).split()
