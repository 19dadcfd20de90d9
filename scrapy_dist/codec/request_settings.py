"""The settings that say what of a request may be stored, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy.http import Request

from scrapy_dist import defaults
from scrapy_dist.codec.forms import form_of
from scrapy_dist.codec.objects import resolve
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scrapy.settings import BaseSettings


def load_size(settings: BaseSettings, name: str, unit: str) -> int:
    value = settings.get(name, getattr(defaults, name))
    try:
        size = int(value)
    except (OverflowError, TypeError, ValueError):
        size = 0
    if size <= 0:
        raise ConfigurationError(
            f"{name} = {value!r} is no number of {unit} above 0."
            f" Write e.g. {getattr(defaults, name)}."
        )
    return size


def load_request_classes(value: Any) -> list[type[Request]]:
    classes = []
    for path, cls in _load_classes("FRONTIER_REQUEST_CLASSES", value):
        if not (isinstance(cls, type) and issubclass(cls, Request)):
            raise ConfigurationError(
                f"FRONTIER_REQUEST_CLASSES: {path!r} is no subclass of scrapy.Request"
                " that can be imported. Correct the path or remove it."
            )
        classes.append(cls)
    return classes


def load_shared_classes(value: Any) -> list[type]:
    classes = []
    for path, cls in _load_classes("FRONTIER_SHARED_CLASSES", value):
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


def _load_classes(name: str, value: Any) -> Iterable[tuple[Any, Any]]:
    """Each path, or class, in the setting *name*, and what is there."""
    if isinstance(value, str):
        value = [path.strip() for path in value.split(",") if path.strip()]
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(
            f"{name} = {value!r} is no list. Write a list of paths, such as"
            " ['myproject.module.MyClass']."
        )
    for path in value:
        yield path, resolve(path) if isinstance(path, str) else path
