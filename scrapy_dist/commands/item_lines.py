"""Items as lines of JSON, whatever they are."""

from __future__ import annotations

import base64
import json
import re

#: What may move a cursor in a terminal, or be several characters in some encoding.
_UNSAFE = re.compile(r"[^ -~]")
_LINE_BREAK = re.compile(r"[\r\n]")
#: The only key of an object that stands for an item that is no JSON: its text; or its
#: bytes, if they are none.
TEXT, BYTES = "frontier_text", "frontier_base64"


def line_of(item: bytes) -> str:
    """One line of ASCII: *item* if it is JSON, else an object that holds it.

    Numbers and the order of keys stay as they are written.
    """
    try:
        text = item.decode()
    except UnicodeDecodeError:
        return json.dumps({BYTES: base64.b64encode(item).decode()})
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps({TEXT: text})
    # Beyond ASCII, and breaks of lines between: the first are in strings only, and the
    # latter outside of them.
    return _UNSAFE.sub(_escaped, _LINE_BREAK.sub(" ", text).replace("\t", " ").strip())


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f"
