"""Settings, read and checked.

All raise ConfigurationError with the name, the value and what to write instead.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from scrapy.utils.misc import load_object

from scrapy_dist import defaults
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)


def number(
    settings: BaseSettings, name: str, *, least: float = 0.0, most: float = math.inf
) -> float:
    """The setting *name* as a finite number from *least* to *most*."""
    value = settings.get(name, getattr(defaults, name))
    try:
        result = float(value)
    except (OverflowError, TypeError, ValueError):
        result = math.nan
    if not (least <= result <= most and math.isfinite(result)):
        limits = f"of at least {least:g}"
        if most < math.inf:
            limits = f"from {least:g} to {most:g}"
        raise ConfigurationError(
            f"{name} = {value!r} is not a number {limits}."
            f" The default is {getattr(defaults, name)!r}."
        )
    return result


def flag(settings: BaseSettings, name: str) -> bool:
    """The setting *name* as Scrapy reads booleans (True, '1', 'false', …)."""
    try:
        return settings.getbool(name, getattr(defaults, name))
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{name} = {settings.get(name)!r} is not a boolean. Write True or False."
        ) from None


def loaded(value: Any, name: str, remedy: str) -> Any:
    """What *value* of the setting *name*, a path or the thing itself, stands for.

    *remedy* says in an error what to write instead.
    """
    try:
        return load_object(value)
    except Exception as e:  # noqa: BLE001  whatever the import of that module raises
        raise ConfigurationError(
            f"{name} = {value!r} cannot be imported: {e}. {remedy}"
        ) from None


def elements(
    settings: BaseSettings, name: str, example: str = "['a', 'b'] or 'a,b'"
) -> list[Any]:
    """Those of the setting *name*, a list or text with commas."""
    value = settings.get(name, getattr(defaults, name))
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(
            f"{name} = {value!r} is no list. Write e.g. {example}."
        )
    return list(value)


def texts(settings: BaseSettings, name: str) -> list[str]:
    """``elements`` that all are text."""
    found = elements(settings, name)
    if not all(isinstance(element, str) for element in found):
        raise ConfigurationError(
            f"{name} = {found!r} is no list of strings. Write e.g. ['a', 'b'] or 'a,b'."
        )
    return found


def schemes(settings: BaseSettings, name: str) -> frozenset[str]:
    """URL schemes, in lower case."""
    found = texts(settings, name)
    for scheme in found:
        if not _SCHEME.fullmatch(scheme):
            raise ConfigurationError(
                f"{name} = {found!r}: {scheme!r} is no URL scheme. Write names such as"
                " 'https', without '://'."
            )
    return frozenset(map(str.lower, found))
