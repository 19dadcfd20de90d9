"""What the methods that a user overrides lean on, by the names in their code.

Nothing is called for it: a method may pop from Redis when it is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Container
from types import CodeType
from typing import Any


def names_used(
    cls: type, name: str, base: type, *, apart: Container[str] = ()
) -> tuple[frozenset[str], bool]:
    """The names that *cls*'s own code behind the method *name* uses.

    Own are the classes before *base*. Also whether a call of the method comes to *base*'s
    (or another class's behind it): it is not overridden, or its overrides call each
    other by name, as with ``super()``. Helper methods that are own count as well, but for
    those *apart*.
    """
    own = cls.__mro__[: cls.__mro__.index(base)]
    used: set[str] = set()
    for owner in own:
        if name not in vars(owner):
            continue
        names = _with_helpers(vars(owner)[name], own, apart)
        used |= names
        if name not in names:
            return frozenset(used), False
    return frozenset(used), True


def _with_helpers(
    method: Any, own: tuple[type, ...], apart: Container[str]
) -> set[str]:
    used: set[str] = set()
    todo = [method]
    while todo:
        new = (names_in(todo.pop()) or set()) - used
        used |= new
        helpers = [n for n in new if n not in apart]
        todo += [vars(owner)[n] for owner in own for n in helpers if n in vars(owner)]
    return used


def names_in(method: Any) -> set[str] | None:
    """Names of globals, attributes and variables around it that *method*'s code uses.

    None where there is no code to look at.
    """
    if isinstance(method, property):
        method = method.fget
    method = getattr(method, "__func__", method)  # class and static methods
    if not callable(method):
        return None
    code = getattr(inspect.unwrap(method), "__code__", None)
    if code is None:
        return None
    found: set[str] = set()
    todo = [code]
    while todo:
        code = todo.pop()
        found.update(code.co_names, code.co_freevars)
        todo += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found
