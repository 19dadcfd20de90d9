"""What a browser sends with a form: fields and files, bounded in size and time."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException

from scrapy_dist.base.waits import wait_for

if TYPE_CHECKING:
    from starlette.requests import Request

#: Bytes of a form, and of one with a file; fields of a form.
MAX_FORM, MAX_UPLOAD = 1 << 20, 16 << 20
_MAX_FIELDS = 1000
#: Seconds that all of it may take to arrive.
_PATIENCE = 60.0

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
#: Behind "form-data;", in the rest of its line.
_NAME = re.compile(rb'\bname="([^"\r\n]*)"', re.IGNORECASE)
_FILE_NAME = re.compile(rb'\bfilename="([^"\r\n]*)"', re.IGNORECASE)


@dataclass(frozen=True)
class Form:
    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The first value of the field *name*, or ''."""
        return self.all(name)[0] if self.all(name) else ""

    def all(self, name: str) -> list[str]:
        return self.fields.get(name, [])


async def read_form(request: Request, most: int = MAX_UPLOAD) -> Form:
    """The form in the body of *request*, of *most* bytes.

    Raises HTTPException for what is none, or is larger.
    """
    kind = request.headers.get("content-type", "")
    media = kind.partition(";")[0].strip().lower()
    if media == "multipart/form-data":
        found = _BOUNDARY.search(kind)
        if not found:
            raise HTTPException(400, "The form has no boundary.")
        boundary = (found[1] or found[2]).encode("latin-1", "replace")
        return _parts(await _body(request, most), boundary)
    if media != "application/x-www-form-urlencoded":
        raise HTTPException(415, "This is no form.")
    body = (await _body(request, min(most, MAX_FORM))).decode("latin-1")
    try:
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise HTTPException(400, "The form has too many fields.") from None
    form = Form()
    for name, value in pairs:
        form.fields.setdefault(name, []).append(value)
    return form


async def _body(request: Request, most: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)

    async def read() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise _too_large(most)
        return bytes(body)

    try:
        return await wait_for(read(), _PATIENCE)
    except asyncio.TimeoutError:
        raise HTTPException(408, "The form has not arrived in time.") from None


def _too_large(most: int) -> HTTPException:
    return HTTPException(
        413, f"That is too large: {most >> 20} MB is the most that can be sent at once."
    )


def _parts(body: bytes, boundary: bytes) -> Form:
    """The parts of a multipart *body* (RFC 7578)."""
    form = Form()
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary, _MAX_FIELDS + 1)
    if len(parts) > _MAX_FIELDS + 1:
        raise HTTPException(400, "The form has too many fields.")
    # What is before the first boundary, and behind the last one, is no part.
    for part in parts[1:]:
        if part.startswith(b"--"):
            return form
        head, blank, value = part.partition(b"\r\n\r\n")
        # Not one pattern for all: that would begin anew at each "form-data;".
        begin = head.lower().find(b"form-data;")
        name = _NAME.search(head[begin:].partition(b"\r\n")[0]) if begin >= 0 else None
        if not blank or not name:
            break
        key = name[1].decode("utf-8", "replace")
        if _FILE_NAME.search(head):
            form.files[key] = value
        else:
            form.fields.setdefault(key, []).append(value.decode("utf-8", "replace"))
    raise HTTPException(400, "The form is cut off.")
