"""The rights that README gives to the users of Redis."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def acl(user: str, spider: str) -> list[str]:
    """README's rules for *user* of *spider*'s crawl, without ``on``; see >password."""
    found = re.search(
        rf"ACL SETUSER {user} on (.*?)\n```", README.read_text(), re.DOTALL
    )
    assert found
    return found[1].replace("myspider", spider).split()
