"""The Lua scripts of the frontier: found in ``lua/``, and called by names.

The head of a script names its keys, each with its type, and its arguments:

    -- KEYS  requests (zset)  seed_keys*: in order of priority (list or set)
    -- ARGV  worker: its number  ids*: order ids (<= 100)

In the script these are local variables; so both sides cannot drift. A name with a star is
a list: of ``ids*`` the first is ``ARGV[ids_at + 1]``, and ``ids_count`` says how many there
are. In front comes also what the script names by lines ``-- @use NAME``:
``lua/lib/<NAME>.lua``, local functions, which may need names of their own (``-- @needs
state failed``). Each call of a script makes its functions anew: ``-- @rarely`` in front of
one says that what only it calls is made when it is called, ``-- @here`` that its text goes
to the one place that calls it.

A key of a wrong type fails before anything is written: something of each key with one type
is read first. A script that does so anyway, and is measured, says ``-- @types …``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from importlib import resources
from itertools import chain
from textwrap import indent
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LUA = resources.files("scrapy_dist.brokers.redis") / "lua"

#: What reads something of a key, by its type.
READERS = {
    "zset": "ZCARD",
    "hash": "HLEN",
    "list": "LLEN",
    "set": "SCARD",
    "stream": "XLEN",
}
_KEY = re.compile(r"  (\w+)(?:(\*):[^(]*| )\((.*?)\)")
_ARGUMENT = re.compile(r"  (\w+)(\*?): ")
_USE = re.compile(r"^-- @use (\w+)$", re.MULTILINE)
_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end\n", re.MULTILINE | re.DOTALL)
_RARELY = re.compile(r"^-- @rarely\n(?:-- @here\n)?local function (\w+)", re.MULTILINE)
_HERE = re.compile(r"^-- @here\nlocal function (\w+)\((.*)\)\n", re.MULTILINE)
_COMMENT = re.compile("--.*")
_WORD = re.compile(r"\w+")
_NEEDS = re.compile(r"^-- @needs (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script: what Redis is given, and the names of its *keys* and *arguments*."""

    name: str
    source: str
    sha: str
    keys: tuple[str, ...]
    key_lists: tuple[str, ...]
    arguments: tuple[str, ...]
    lists: tuple[str, ...]
    names: frozenset[str]


@dataclass(eq=False, slots=True)
class Call(Generic[T]):
    """One script call of an exchange; *values* by their names, some are not its own."""

    script: Script
    values: Mapping[str, Any]
    keys: Sequence[str]
    args: Sequence[str | bytes | int | float]
    parse: Callable[[Any], T]
    raw: Any = field(default=None, repr=False)

    def reply(self) -> T:
        """The reply, after the exchange. Raises ResponseError if Redis refused."""
        if isinstance(self.raw, Exception):
            raise self.raw
        return self.parse(self.raw)


def names() -> list[str]:
    """The names of all scripts."""
    files = [file.name for file in LUA.iterdir()]
    return sorted(name[:-4] for name in files if name.endswith(".lua"))


def call(
    name: str, parse: Callable[[Any], T], own: Mapping[str, Any], given: dict[str, Any]
) -> Call[T]:
    """The call of script *name* with the values *given*, and for other names *own*.

    Raises TypeError for a name that the script has not, and for one without a value.
    """
    script = load(name)
    if not given.keys() <= script.names:
        more = ", ".join(sorted(given.keys() - script.names))
        raise TypeError(f"{name}.lua does not know: {more}")
    values = {**own, **given}
    try:
        keys = [values[key] for key in script.keys]
        args = [values[argument] for argument in script.arguments]
        key_lists = [values[key] for key in script.key_lists]
        lists = [values[argument] for argument in script.lists]
    except KeyError as e:
        raise TypeError(f"{name}.lua needs: {e.args[0]}") from None
    args += [len(some) for some in (*key_lists[:-1], *lists[:-1])]
    for some in key_lists:
        keys += some
    for some in lists:
        args += some
    return Call(script, values, keys, args, parse)


@cache
def load(name: str) -> Script:
    """Script *name*, as its head says."""
    own = (LUA / f"{name}.lua").read_text("utf-8")
    found = [
        [(n, bool(star), kind) for n, star, kind in _KEY.findall(_part(own, "KEYS"))],
        [(n, bool(star), "") for n, star in _ARGUMENT.findall(_part(own, "ARGV"))],
    ]
    (keys, key_lists), (arguments, lists) = (
        [
            tuple(n for n, is_list, _ in some if is_list is which)
            for which in (False, True)
        ]
        for some in found
    )
    libraries = _libraries(own, {})
    for library, text in libraries.items():
        missing = {*" ".join(_NEEDS.findall(text)).split()} - {*keys, *arguments}
        assert not missing, f"{name}.lua: lib/{library}.lua needs {missing}"
    body = _put_here(_lean("".join(libraries.values()), own) + own)
    lines = [
        f"local {', '.join(some)} = unpack({table}, 1, {len(some)})"
        for table, some in (("KEYS", keys), ("ARGV", arguments))
        if some
    ]
    lines += _lists(keys, key_lists, arguments, lists)
    if "\n-- @types " not in own:
        lines += [
            f"redis.call('{READERS[kind]}', {key})"
            for key, is_list, kind in found[0]
            if kind in READERS and not is_list
        ]
    source = "\n".join([*lines, body])
    digest = sha1(source.encode(), usedforsecurity=False).hexdigest()
    groups = keys, key_lists, arguments, lists
    return Script(name, source, digest, *groups, frozenset(chain(*groups)))


def _lists(
    keys: Sequence[str],
    key_lists: Sequence[str],
    arguments: Sequence[str],
    lists: Sequence[str],
) -> Iterator[str]:
    """Where each list begins, and its length; of all but the last ones this is sent."""
    at = len(arguments)
    first = at + len(key_lists[:-1]) + len(lists[:-1])
    for table, start, some in (("KEYS", len(keys), key_lists), ("ARGV", first, lists)):
        begin = str(start)
        for name in some:
            count = f"#{table} - {begin}"
            if name != some[-1]:
                at += 1
                count = f"tonumber(ARGV[{at}])"
            yield f"local {name}_at, {name}_count = {begin}, {count}"
            begin = f"{name}_at + {name}_count"


def _part(source: str, name: str) -> str:
    """One part of a head as one line; what begins a line stands behind two spaces."""
    part, is_inside = "", False
    for line in source.splitlines():
        if not line.startswith("--   "):
            is_inside = line.startswith(f"-- {name} ")
        if is_inside:
            part += "  " + line[3:].removeprefix(name).strip()
    return part


def _lean(libraries: str, own: str) -> str:
    """*libraries* with few functions, as each takes time at each call of the script.

    What nothing calls is left out, and what only a rare function calls is put into it.
    """
    for rare in (None, *reversed(_RARELY.findall(libraries))):
        functions = {found[1]: found[0] for found in _FUNCTION.finditer(libraries)}
        rest = {name: _words(text) for name, text in functions.items()}
        words = _words(own) | _words(_FUNCTION.sub("", libraries))
        while called := (rest.keys() & words) - {rare}:
            words = words.union(*(rest.pop(name) for name in called))
        inner = [functions[name] for name in rest if name != rare]
        for function in inner:
            libraries = libraries.replace(function, "")
        if rare in functions:
            head, body = functions[rare].split("\n", 1)
            within = "\n".join([head, indent("".join(inner), "  ") + body])
            libraries = libraries.replace(functions[rare], within)
    return libraries


def _put_here(body: str) -> str:
    """*body* with each function that is to stand where it is called standing there.

    It returns at its end, if it does; and its call is a line: a statement, or what
    variables become that it does not know.
    """
    for name, parameters in _HERE.findall(body):
        function = next(f[0] for f in _FUNCTION.finditer(body) if f[1] == name)
        body = body.replace(f"-- @here\n{function}", "")
        inner = function.splitlines(keepends=True)[1:-1]
        result = ""
        if inner[-1].startswith("  return "):
            result = inner.pop().removeprefix("  return ")
        call = next(n for n in body.splitlines() if name in _words(n))
        before, values = call.split(f"{name}(")
        assert values.endswith(")"), call
        space = before[: -len(before.lstrip()) or None]
        variables = before.strip().removesuffix(" =")
        names = variables.removeprefix("local ")
        block = f"{space}do\n{space}  local {parameters} = {values[:-1]}\n"
        block += indent("".join(inner), space)
        if variables:
            assert not _words(names) & _words(function), (name, variables)
            block += f"{space}  {names} = {result}"
        if names != variables:
            block = f"{space}{variables}\n{block}"
        body = body.replace(call, f"{block}{space}end")
        assert name not in _words(body), f"{name} is called in another place, too"
    return body


@cache
def _words(source: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_COMMENT.sub("", source)))


def _libraries(source: str, found: dict[str, str]) -> dict[str, str]:
    """The shared Lua that *source* uses, and that this uses, each once, in order."""
    for name in _USE.findall(source):
        if name not in found:
            text = (LUA / "lib" / f"{name}.lua").read_text("utf-8")
            _libraries(text, found)
            found[name] = text
    return found
