"""The fields of a seed that is a JSON object, each read and checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from scrapy_dist.base.escaping import quote
from scrapy_dist.codec.request_fields import MAX_PRIORITY
from scrapy_dist.codec.seed_rules import is_encoding
from scrapy_dist.codec.sizes import MAX_TASK_NAME, flaw_of_method
from scrapy_dist.exceptions import BadSeed

T = TypeVar("T")


class NumberText(str):
    """A JSON number as it was written."""

    __slots__ = ()


#: JSON's name of each Python type that it can give.
JSON_TYPES = {
    dict: "object",
    list: "list",
    str: "string",
    int: "number",
    float: "number",
    NumberText: "number",
    bool: "true or false",
    type(None): "null",
}
#: A header's name (RFC 9110, 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: What names one run of a task.
_TASK = re.compile(r"[0-9a-f]{16}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LINE_BREAK = re.compile(r"[\x00\r\n]")


def wrong(name: str, value: Any, wanted: str) -> BadSeed:
    return BadSeed(
        f"{name} is a JSON {JSON_TYPES[type(value)]}, not {wanted}: {quote(value)}"
    )


def _typed(kind: type[T], wanted: str) -> Callable[[str, Any], T]:
    def read(name: str, value: Any) -> T:
        if type(value) is not kind:
            raise wrong(name, value, wanted)
        return value

    return read


_text = _typed(str, "a string")
_object: Callable[[str, Any], dict[str, Any]] = _typed(dict, "an object")
_flag = _typed(bool, "true or false")
_whole = _typed(int, "a whole number")


def _url(name: str, value: Any) -> str:
    return _text(name, value).strip()


def _line(name: str, value: Any) -> str:
    if _LINE_BREAK.search(_text(name, value)):
        raise BadSeed(f"{name} has a line break: {quote(value)}")
    return str(value)


def _method(name: str, value: Any) -> str:
    if flaw := flaw_of_method(_text(name, value)):
        raise BadSeed(f"{name} {flaw}: {quote(value)}")
    return str(value)


def _token(name: str, value: Any) -> str:
    if not _TOKEN.fullmatch(_text(name, value)):
        raise BadSeed(f"{name} is not valid in HTTP: {quote(value)}")
    return str(value)


def _priority(name: str, value: Any) -> int:
    if abs(_whole(name, value)) > MAX_PRIORITY:
        raise BadSeed(f"{name} is beyond 2**53")
    return int(value)


def _texts(name: str, value: Any) -> list[str]:
    if type(value) is not list:
        raise wrong(name, value, "a list of strings")
    return [_text(f"an element of {name}", element) for element in value]


def _encoding(name: str, value: Any) -> str:
    if not is_encoding(_text(name, value)):
        raise BadSeed(f"{name} is no text encoding that contains ASCII: {quote(value)}")
    return str(value)


def _headers(name: str, value: Any) -> dict[str, list[str]]:
    headers = {}
    for key, values in _object(name, value).items():
        where = f"the header {quote(_token('a name in headers', key))}"
        listed = values if type(values) is list else [values]
        headers[key] = [_line(where, element) for element in listed]
    return headers


def _cookies(name: str, value: Any) -> dict[str, Any] | list[dict[str, Any]]:
    if type(value) is dict:
        for key, part in value.items():
            _scalar(f"the cookie {quote(_line('the name of a cookie', key))}", part)
        return value
    if type(value) is not list:
        raise wrong(name, value, "an object or a list of objects")
    for cookie in value:
        _object(f"an element of {name}", cookie)
        if "name" not in cookie or "value" not in cookie:
            raise BadSeed(f"a cookie has no name or no value: {quote(cookie)}")
        for key, part in cookie.items():
            _scalar(f"{quote(key)} of a cookie", part)
    return value


def _scalar(name: str, value: Any) -> str:
    if type(value) in (int, float, bool):
        return str(value)
    if type(value) is not str:
        raise wrong(name, value, "a string or a number")
    return _line(name, value)


def read_form(formdata: Any, more: dict[str, Any]) -> list[tuple[str, str]]:
    if type(formdata) is dict:
        items = list(formdata.items())
    elif type(formdata) is list:
        items = [_pair(element) for element in formdata]
    else:
        raise wrong("formdata", formdata, "an object or a list of pairs")
    return [
        (key, _form_value(key, value))
        for key, values in (*items, *more.items())
        for value in (values if type(values) is list else [values])
    ]


def _pair(element: Any) -> tuple[str, Any]:
    if type(element) is not list or len(element) != 2:
        raise BadSeed(f"formdata has an element that is no pair: {quote(element)}")
    return _text("a name in formdata", element[0]), element[1]


def _form_value(key: str, value: Any) -> str:
    if type(value) in (int, float):
        return str(value)
    return _text(f"the form field {quote(key)}", value)


READERS: dict[str, Callable[[str, Any], Any]] = {
    "url": _url,
    "method": _method,
    "meta": _object,
    "cb_kwargs": _object,
    "headers": _headers,
    "cookies": _cookies,
    "body": _text,
    "priority": _priority,
    "dont_filter": _flag,
    "encoding": _encoding,
    "flags": _texts,
}
#: Those of a seed that is a task.
TASK_FIELDS = ("id", "batch", "task")
#: All that a seed may have; the others are read with what they depend on.
FIELDS = (*READERS, "formdata", "callback", "errback", *TASK_FIELDS)


def task_name(name: str, value: Any) -> str:
    """The id of a task, or with the *name* batch that of a batch. Raises BadSeed."""
    if type(value) in (int, float, NumberText):
        value = str(value)
    if type(value) is not str:
        raise wrong(name, value, "a string or a number")
    if not value:
        raise BadSeed(
            f"{name} is empty; leave it out, or write 1 to {MAX_TASK_NAME} characters"
        )
    if len(value) > MAX_TASK_NAME:
        raise BadSeed(
            f"{name} has {len(value):,} characters; it can have {MAX_TASK_NAME} at the most:"
            f" {quote(value)}"
        )
    if _CONTROL.search(value):
        raise BadSeed(f"{name} has control characters: {quote(value)}")
    return str(value)


def is_token(text: str) -> bool:
    """Whether it names a run of a task."""
    return _TASK.fullmatch(text) is not None


def read_task_fields(seed: dict[str, Any]) -> dict[str, str]:
    """Those of TASK_FIELDS that *seed* has. Raises BadSeed."""
    fields: dict[str, str] = {}
    fields |= {n: task_name(n, seed[n]) for n in ("id", "batch") if n in seed}
    if "task" in seed:
        if not is_token(_text("task", seed["task"])):
            raise BadSeed(
                "task is no token, which Client.submit() makes; leave it out:"
                f" {quote(seed['task'])}"
            )
        fields["task"] = seed["task"]
    if fields and "id" not in fields:
        raise BadSeed(f"the seed has the key {min(fields)} and no id; give it one")
    return fields
