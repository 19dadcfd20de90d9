"""How large the parts of a request may be whose cost grows faster than their size.

A host is encoded and looked up, a URL is taken apart many times: one of a quarter of a
megabyte stops the event loop for seconds, and some encodings take as long. They are
checked before Scrapy sees them.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from scrapy_dist import defaults

#: Characters of the longest method, and of the longest host (RFC 1035, 2.3.4).
MAX_METHOD, MAX_HOST = 20, 255
#: Characters of the longest id of a task, and of the longest name of a batch.
MAX_TASK_NAME = 255
#: Characters of the longest name of an encoding: Python remembers each that it looks for.
_MAX_ENCODING = 40
#: Encodings for names of hosts, whose cost is the square of the length.
_OF_HOSTS = frozenset({"idna", "punycode"})
#: A method (RFC 9110, 5.6.2).
_METHOD = re.compile(rf"[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,{MAX_METHOD}}}")
#: A backslash is a slash for w3lib, and for browsers; tabs and line breaks are nothing.
_AUTHORITY = re.compile(r"[^/\\?#]*[/\\]{2}([^/?#]*)")
_NOTHING = str.maketrans("", "", "\t\r\n")
_PORT = re.compile(r":[0-9]*\Z")


def flaw_of_url(url: str, limit: int = defaults.FRONTIER_URL_LENGTH) -> str:
    """What is too long about *url*, to follow the words "its url"; '' if nothing is."""
    if len(url) <= MAX_HOST:
        return ""
    if len(url) > limit:
        return f"has {len(url):,} characters; FRONTIER_URL_LENGTH allows {limit:,}"
    found = _AUTHORITY.match(url.translate(_NOTHING))
    host = _PORT.sub("", found[1].rpartition("@")[2]) if found else ""
    if len(host) > MAX_HOST:
        return f"has a host of {len(host):,} characters; {MAX_HOST} are the most"
    return ""


def flaw_of_method(method: str) -> str:
    """What is wrong with *method*, to follow the words "its method"; '' if nothing is."""
    if len(method) > MAX_METHOD:
        return f"has {len(method):,} characters; {MAX_METHOD} are the most"
    return "" if _METHOD.fullmatch(method) else "is not valid in HTTP"


@lru_cache(100)
def flaw_of_encoding(name: str) -> str:
    """What is wrong with an encoding, to follow its name; '' if nothing is, or unknown."""
    if len(name) > _MAX_ENCODING:
        return f"has {len(name):,} characters; {_MAX_ENCODING} are the most"
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return ""
    return "is for names of hosts, not for text" if codec in _OF_HOSTS else ""
