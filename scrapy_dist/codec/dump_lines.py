"""The lines of an exported frontier: one JSON object each, for people and programs.

The first is ``{"type": "frontier", …}``, the last ``{"type": "end", "counts": {…}}``; the
``type`` of those between is one of TYPES. A request is the dict of ``Request.to_dict()``,
in the JSON-safe form of ``messagepack``; what this module cannot read it keeps as base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from scrapy_dist.base.escaping import quote
from scrapy_dist.codec import compact, messagepack
from scrapy_dist.codec.envelope import JSON, MSGPACK, SEED
from scrapy_dist.codec.request import fields_of
from scrapy_dist.codec.seal import NO_SEAL, Seal
from scrapy_dist.exceptions import BadPayload

#: Version of the format; a reader refuses those that it does not know.
VERSION = 1
#: Types of lines that hold a request of the frontier.
REQUESTS = ("pending", "suspect", "leased")
#: Types of the lines between the first and the last.
TYPES = (
    *("seen", "started", "task", "result", "seed"),
    *REQUESTS,
    *("failed", "stat", "item"),
)
#: Fields of a dead letter, as ``S:failed`` has them, beside its payload.
LETTER = ("reason", "worker", "deliveries", "time", "kind")


def dump(line: dict[str, Any]) -> str:
    """*line* as ASCII, without its end."""
    return json.dumps(line, separators=(",", ":"))


def load(text: bytes) -> dict[str, Any]:
    """What ``dump`` wrote. Raises BadPayload for anything else."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise BadPayload(f"no JSON: {quote(str(e), 100)}") from None
    if type(line) is not dict or type(line.get("type")) is not str:
        raise BadPayload(f"no line of an export: {quote(text[:40])}")
    return line


def show_bytes(name: str, data: bytes) -> dict[str, str]:
    """*data* under *name* if it is text, else as base64 under ``NAME_base64``."""
    try:
        return {name: data.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode("ascii")}


def bytes_of(line: dict[str, Any], name: str) -> bytes:
    """What ``show_bytes`` put into *line*. Raises BadPayload if there is nothing."""
    text = line.get(name)
    if type(text) is str:
        return text.encode("utf-8", "surrogatepass")
    return _from_base64(line.get(f"{name}_base64"), name)


def show_payload(payload: bytes, seal: Seal = NO_SEAL) -> dict[str, Any]:
    """*payload* as fields of a line; loads no pickle.

    The line has no signature. What *seal* does not know comes as it is, and is marked.
    """
    try:
        payload = seal.open(payload)
    except BadPayload:
        return {"payload": base64.b64encode(payload).decode("ascii"), "foreign": True}
    head = payload[:1]
    try:
        if head == SEED:
            return {"seed": payload[1:].decode("utf-8")}
        fields = fields_of(payload)
        if head == JSON:
            return {"request": fields, "format": "json"}
        return {"request": messagepack.to_jsonable(fields)}
    except (ValueError, RecursionError):  # also BadPayload and Unserializable
        pass
    return {"payload": base64.b64encode(payload).decode("ascii")}


def payload_of(line: dict[str, Any], seal: Seal = NO_SEAL) -> bytes:
    """What ``show_payload`` made fields of, signed by *seal*. Raises BadPayload."""
    payload = _unsigned(line)
    if payload[:1] == SEED or line.get("foreign"):
        return payload
    return seal.sign(payload)


def _unsigned(line: dict[str, Any]) -> bytes:
    if type(line.get("seed")) is str:
        return SEED + bytes_of(line, "seed")
    if "payload" in line:
        return _from_base64(line["payload"], "payload")
    request = line.get("request")
    if type(request) is not dict:
        raise BadPayload("it has neither request nor seed nor payload")
    if line.get("format") == "json":
        return json.dumps(request).encode("ascii")
    try:
        return MSGPACK + compact.dumps(messagepack.from_jsonable(request))
    except Exception as e:  # noqa: BLE001 - whatever the types raise
        raise BadPayload(f"its request cannot be read: {quote(str(e), 200)}") from None


def _from_base64(text: object, name: str) -> bytes:
    if type(text) is not str:
        raise BadPayload(f"it has no {name}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadPayload(f"its {name} is no base64") from None
