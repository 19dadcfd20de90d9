"""Objects of classes that are no plain values, taken apart and put together again.

No code of a class runs: neither its constructor nor ``__setattr__``, ``__setstate__``,
``__reduce__``, properties and other descriptors. Only ``__new__`` of a builtin type is
called, and what makes a default that dataclass, attrs or pydantic know of a field. Of
an object of ``SharedClasses`` a path of the class and a plain *state* are stored; what
is read with a path that is not among them is refused, and nothing is imported by it.
"""

from __future__ import annotations

import http
import importlib
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import DefragResult, ParseResult, SplitResult

from scrapy import Request
from scrapy.http.headers import Headers
from scrapy.link import Link

from scrapy_dist.base.settings import elements
from scrapy_dist.codec.forms import Form, form_of
from scrapy_dist.compat.extension_points import path_of
from scrapy_dist.exceptions import BadPayload, ConfigurationError, Unserializable

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

#: Objects that a ``Learner`` looks at.
_MAX_LEARNED = 10_000


def resolve(path: str) -> Any:
    """The module, class or other object at *path*, classes in classes too; None: none."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except Exception:  # noqa: BLE001 S112 - whatever that module raises
            continue
        for name in parts[count:]:
            found = getattr(found, name, None)
        return found
    return None


#: Simple classes of Python and Scrapy that need no setting.
_STANDARD: tuple[type, ...] = (
    http.HTTPStatus,
    # From Python 3.11 on.
    *([http.HTTPMethod] if hasattr(http, "HTTPMethod") else []),
    DefragResult,
    ParseResult,
    SplitResult,
    Link,
    Headers,
)


class SharedClasses:
    """The classes whose objects may be stored and read. Raises ValueError, as ``form_of``."""

    def __init__(self, classes: Iterable[type] = ()) -> None:
        self.classes = tuple(classes)
        self._paths: dict[type, str] = {}
        self._forms: dict[str, Form] = {}
        for cls in (*_STANDARD, *self.classes):
            self._paths[cls] = path_of(cls)
            self._forms[path_of(cls)] = form_of(cls)

    def take(self, obj: Any) -> list[Any] | None:
        """Path and state of *obj*; None if its class is not among these."""
        path = self._paths.get(type(obj))
        return None if path is None else [path, self._forms[path].take(obj)]

    def make(self, plain: Any) -> Any:
        """The object that ``take`` made *plain* of. Raises BadPayload."""
        if type(plain) is not list or len(plain) != 2 or type(plain[0]) is not str:
            raise BadPayload("an object needs a class and a state")
        path, state = plain
        form = self._forms.get(path)
        if form is None:
            raise BadPayload(
                f"objects of {path[:200]!r} are not allowed; if it is a class of this"
                " project, add it to FRONTIER_SHARED_CLASSES",
                cause="class",
                remedy=f"Add {path[:200]!r} to FRONTIER_SHARED_CLASSES again.",
            )
        return form.make(state)


class Learner(SharedClasses):
    """Takes objects of any class that can be stored, and keeps its name in ``missing``."""

    def __init__(self, known: SharedClasses) -> None:
        self.classes = known.classes
        self._paths, self._forms = known._paths.copy(), known._forms.copy()  # noqa: SLF001
        self.missing: dict[str, type] = {}
        self._left = _MAX_LEARNED

    def take(self, obj: Any) -> list[Any] | None:
        cls = type(obj)
        if cls not in self._paths:
            # Of text that lxml extracted only the text counts.
            if isinstance(obj, str) and not isinstance(obj, Enum):
                return None
            try:
                form = form_of(cls)
            except ValueError:
                return None
            path = path_of(cls)
            self.missing[path] = cls
            self._paths[cls], self._forms[path] = path, form
        self._left -= 1
        if self._left < 0:
            raise Unserializable("it holds too many objects")
        return super().take(obj)


def _load(settings: BaseSettings, name: str) -> Iterator[tuple[Any, Any]]:
    """Each path, or class, in the setting *name*, and what is there."""
    for path in elements(settings, name, "['myproject.module.MyClass']"):
        yield path, resolve(path) if isinstance(path, str) else path


def load_request_classes(settings: BaseSettings) -> list[type[Request]]:
    """Those of FRONTIER_REQUEST_CLASSES. Raises ConfigurationError."""
    classes = []
    for path, cls in _load(settings, "FRONTIER_REQUEST_CLASSES"):
        if not (isinstance(cls, type) and issubclass(cls, Request)):
            raise ConfigurationError(
                f"FRONTIER_REQUEST_CLASSES: {path!r} is no subclass of scrapy.Request"
                " that can be imported. Correct the path or remove it."
            )
        classes.append(cls)
    return classes


def load_shared_classes(settings: BaseSettings) -> list[type]:
    """Those of FRONTIER_SHARED_CLASSES. Raises ConfigurationError."""
    classes = []
    for path, cls in _load(settings, "FRONTIER_SHARED_CLASSES"):
        if cls is None:
            raise ConfigurationError(
                f"FRONTIER_SHARED_CLASSES: {path!r} cannot be imported. Correct the path"
                " or remove it."
            )
        try:
            form_of(cls)
        except ValueError as e:
            raise ConfigurationError(
                f"FRONTIER_SHARED_CLASSES: {path!r} cannot be stored: {e}. Remove it."
            ) from None
        classes.append(cls)
    return classes
