"""How large the parts of a request may be whose cost grows faster than their size.

A host is encoded and looked up, a URL is taken apart many times: one of a quarter of a
megabyte stops the event loop for seconds. They are checked before Scrapy sees them.
"""

from __future__ import annotations

import re

from scrapy_dist import defaults

__all__ = ["MAX_HOST", "MAX_METHOD", "flaw_of_method", "flaw_of_url"]

#: Characters of the longest method, and of the longest host (RFC 1035, 2.3.4).
MAX_METHOD, MAX_HOST = 20, 255
#: A method (RFC 9110, 5.6.2).
_METHOD = re.compile(rf"[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,{MAX_METHOD}}}")
_AUTHORITY = re.compile(r"[^/?#]*//([^/?#]*)")
_PORT = re.compile(r":[0-9]*\Z")


def flaw_of_url(url: str, limit: int = defaults.FRONTIER_URL_LENGTH) -> str:
    """What is too long about *url*, to follow the words "its url"; '' if nothing is."""
    if len(url) <= MAX_HOST:
        return ""
    if len(url) > limit:
        return f"has {len(url)} characters; FRONTIER_URL_LENGTH allows {limit}"
    found = _AUTHORITY.match(url)
    host = _PORT.sub("", found[1].rpartition("@")[2]) if found else ""
    if len(host) > MAX_HOST:
        return f"has a host of {len(host)} characters; {MAX_HOST} are the most"
    return ""


def flaw_of_method(method: str) -> str:
    """What is wrong with *method*, to follow the words "its method"; '' if nothing is."""
    if len(method) > MAX_METHOD:
        return f"has {len(method)} characters; {MAX_METHOD} are the most"
    return "" if _METHOD.fullmatch(method) else "is not valid in HTTP"
