"""The fields of a request, as ``Request.to_dict()`` has them: taken and checked."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from types import NoneType
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import quote
from scrapy_dist.codec.sizes import flaw_of_encoding, flaw_of_method

if TYPE_CHECKING:
    from scrapy.http import Request

#: Largest priority that a Redis score, a double, holds exactly.
MAX_PRIORITY = 1 << 53
#: The field with the attributes that Request does not have.
STATE = "_state"
FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "url": (str,),
    "callback": (str, NoneType),
    "errback": (str, NoneType),
    "method": (str,),
    "headers": (dict,),
    "body": (bytes,),
    "cookies": (dict, list),
    "meta": (dict,),
    "encoding": (str,),
    "priority": (int,),
    "dont_filter": (bool,),
    "flags": (list,),
    "cb_kwargs": (dict,),
    "_class": (str,),
    STATE: (dict,),
}
#: Makes exactly these types of what Scrapy lets spiders set.
CONVERT: dict[str, Callable[[Any], Any]] = {
    "headers": dict,
    "priority": index,
    "dont_filter": bool,
    "flags": list,
}


def add_changed(request: Request, fields: dict[str, Any]) -> None:
    """Add the fields of a plain Request that differ from their defaults."""
    if request.method != "GET":
        fields["method"] = request.method
    if request.headers:
        fields["headers"] = dict(request.headers)
    if request.body:
        fields["body"] = request.body
    if request.cookies:
        fields["cookies"] = request.cookies
    if request.meta:
        fields["meta"] = request.meta
    if request.encoding != "utf-8":
        fields["encoding"] = request.encoding
    if request.priority:
        fields["priority"] = index(request.priority)
    if request.dont_filter:
        fields["dont_filter"] = True
    if request.flags:
        fields["flags"] = list(request.flags)
    if request.cb_kwargs:
        fields["cb_kwargs"] = request.cb_kwargs


def check_fields(fields: dict[str, Any]) -> None:
    """Raise ValueError unless all fields of Request have their types."""
    for name, value in fields.items():
        types = FIELD_TYPES.get(name)
        if types is not None and type(value) not in types:
            raise ValueError(f"its {name} is a {type(value).__name__}: {quote(value)}")
    if "url" not in fields:
        raise ValueError("it has no url")
    if "method" in fields and (flaw := flaw_of_method(fields["method"])):
        raise ValueError(f"its method {flaw}: {quote(fields['method'])}")
    if "encoding" in fields and (flaw := flaw_of_encoding(fields["encoding"])):
        raise ValueError(f"its encoding {flaw}: {quote(fields['encoding'])}")
    if "headers" in fields:
        _check_headers(fields["headers"])
    if "priority" in fields and abs(fields["priority"]) > MAX_PRIORITY:
        raise ValueError(f"its priority is beyond 2**53: {quote(fields['priority'])}")
    if "flags" in fields and not all(isinstance(flag, str) for flag in fields["flags"]):
        raise ValueError(f"its flags are not all text: {quote(fields['flags'])}")
    cookies = fields.get("cookies")
    if type(cookies) is list and not all(type(cookie) is dict for cookie in cookies):
        raise ValueError("its cookies are not all dicts")
    if "cb_kwargs" in fields and not all(
        isinstance(k, str) for k in fields["cb_kwargs"]
    ):
        raise ValueError("the keys of its cb_kwargs are not all text")


def _check_headers(headers: dict[Any, Any]) -> None:
    for name, values in headers.items():
        if type(name) not in (bytes, str):
            raise ValueError(f"a header's name is a {type(name).__name__}")
        if type(values) is not list:
            raise ValueError(f"the header {quote(name)} is no list of values")
        for value in values:
            if type(value) not in (bytes, str):
                raise ValueError(
                    f"the header {quote(name)} has values that are no text"
                )


def with_text_headers(fields: dict[str, Any]) -> dict[str, Any]:
    """Make JSON readable: headers, which are bytes, as text if they are ASCII."""
    if "headers" not in fields or fields.get("encoding", "utf-8") != "utf-8":
        return fields
    try:
        headers = {
            name.decode("ascii"): [value.decode("ascii") for value in values]
            for name, values in fields["headers"].items()
        }
    except (AttributeError, UnicodeDecodeError):
        return fields
    return {**fields, "headers": headers}
