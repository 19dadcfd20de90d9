"""The Lua scripts: their heads, which Python reads, and what holds for all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import scrapy_dist
from scrapy_dist.brokers.redis import scripts
from tests.support.acl import acl
from tests.support.frontiers import KEYS, SEED_KEYS, Worker

NAMES = scripts.names()
LIBRARIES = sorted(file.name[:-4] for file in (scripts.LUA / "lib").iterdir())
#: Scripts that are measured: they read something of each key by themselves, or write
#: nothing.
MEASURED = {"commit", "drained", "heartbeat", "lease"}
#: Scripts that may fail above maxmemory, and do so before they have changed anything;
#: what a commit does then, it decides by its first write.
NEED_MEMORY = {"commit", "import", "push", "recrawl", "retry", "submit", "takeover"}
#: Commands of scripts that change nothing.
READS = {
    *(
        "EXISTS",
        "TIME",
        "TYPE",
        "XLEN",
        "XRANGE",
        "XREVRANGE",
        "ZRANDMEMBER",
        "LINDEX",
        "LLEN",
        "LPOS",
    ),
    *("LRANGE", "SCARD", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "SRANDMEMBER"),
    *(
        "HEXISTS",
        "HGET",
        "HKEYS",
        "HLEN",
        "HMGET",
        "HSCAN",
        "ZCARD",
        "ZCOUNT",
        "ZSCORE",
    ),
    *("ZMSCORE", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE"),
}


def own(name):
    return (scripts.LUA / f"{name}.lua").read_text("utf-8")


def library(name):
    return (scripts.LUA / "lib" / f"{name}.lua").read_text("utf-8")


def code(text):
    """Without comments."""
    return re.sub(r"--.*", "", text)


def uses(text, name):
    return re.search(rf"(?<![.\w']){name}\b(?!')", code(text))


@pytest.mark.parametrize("name", NAMES)
def test_head_tells_purpose_keys_arguments_reply_and_cost(name):
    head = re.match(r"(--.*\n)+", own(name))[0]
    assert re.match(r"-- [A-Z].*\n", head)
    assert re.search(r"^-- Reply \S", head, re.MULTILINE)
    assert re.search(r"^-- Cost  \S", head, re.MULTILINE)
    keys = re.search(r"^-- KEYS  (.*(?:\n--  .*)*)", head, re.MULTILINE)[1]
    script = scripts.load(name)
    assert script.keys or script.key_lists
    types = re.findall(r"\(((?:[^()]|\([^)]*\))*)\)", keys)
    assert len(types) >= len(script.keys)
    # All that begins an entry is a name that Python has found.
    arguments = re.search(r"^-- ARGV  (.*(?:\n--  .*)*)", head, re.MULTILINE)[1]
    begins = re.findall(r"(?:^|  )(\w+)\*?:", re.sub(r"\n-- +", "  ", arguments))
    assert begins == [n for n in begins if n in {*script.arguments, *script.lists}], (
        "a text that looks like a name"
    )
    assert len(begins) == len(script.arguments) + len(script.lists)
    assert all(len(line) <= 100 for line in own(name).splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_each_name_of_a_head_is_used(name):
    script = scripts.load(name)
    body = own(name) + "".join(map(library, used_by(own(name))))
    for bound in (*script.keys, *script.arguments):
        assert uses(body, bound), bound
    for bound in (*script.key_lists, *script.lists):
        assert uses(body, f"{bound}_at") or uses(body, f"{bound}_count"), bound


def used_by(text, found=()):
    for name in re.findall(r"^-- @use (\w+)$", text, re.MULTILINE):
        found = (*used_by(library(name), found), name)
    return tuple(dict.fromkeys(found))


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_head_is_given_to_something_else(name):
    script = scripts.load(name)
    for names in re.findall(r"\blocal ([\w, ]+?)(?: =|\n)", code(own(name))):
        bound = {*script.keys, *script.arguments}
        assert not bound & {*names.split(", ")}, names


@pytest.mark.parametrize("name", NAMES)
def test_no_script_counts_its_keys_and_arguments(name):
    body = code(own(name)) + "".join(code(library(each)) for each in LIBRARIES)
    assert not re.search(r"\b(KEYS|ARGV)\[\d", body)
    assert not re.search(r"unpack\((KEYS|ARGV)(, \d|\))", body)


@pytest.mark.parametrize("name", NAMES)
def test_shared_lua_that_a_script_names_is_needed(name):
    """By the script itself; what that Lua needs, it names itself."""
    named = re.findall(r"^-- @use (\w+)$", own(name), re.MULTILINE)
    assert len(named) == len({*named})
    for each in named:
        given = set(functions(each))
        given |= {f for other in used_by(library(each)) for f in functions(other)}
        assert any(uses(own(name), function) for function in given), each


def functions(name):
    return re.findall(r"^local function (\w+)", library(name), re.MULTILINE)


@pytest.mark.parametrize("name", LIBRARIES)
def test_shared_lua_is_local_and_somebody_calls_its_functions(name):
    """It stands in front of scripts, whose names and upvalues it must not touch."""
    text = library(name)
    assert text.startswith("-- ")
    top = {line for line in text.splitlines() if line[:1].strip()}
    assert all(
        line.startswith(("--", "local ")) or line in ("end", "end})") for line in top
    )
    others = [own(each) for each in NAMES]
    others += [library(each) for each in LIBRARIES if each != name]
    for function in functions(name):
        rest = text.replace(f"local function {function}(", "")
        assert any(uses(each, function) for each in [*others, rest]), function
    twice = [each for each in NAMES if name in used_by(own(each))]
    assert len(twice) > 1, "only one script uses it"


@pytest.mark.parametrize("name", NAMES)
def test_each_key_is_read_before_anything_is_written(name):
    script = scripts.load(name)
    assert ("\n-- @types " in own(name)) == (name in MEASURED)
    reads = re.findall(r"^redis\.call\('\w+', (\w+)\)$", script.source, re.MULTILINE)
    types = dict(
        re.findall(r"(\w+) \((\w+)\)", re.split("-- (?:ARGV|Reply)", own(name))[0])
    )
    expected = {key for key in script.keys if types.get(key) in scripts.READERS}
    assert {*reads} >= (set() if name in MEASURED else expected)


@pytest.mark.parametrize("name", NAMES)
def test_first_write_of_a_script_runs_above_maxmemory(name):
    commands = re.findall(r"call\('([A-Z]+)'(.*)", code(own(name)))
    writes = [(word, rest) for word, rest in commands if word not in READS]
    if name in NEED_MEMORY or not writes:
        return
    assert writes[0][0] in ("HDEL", "LREM", "LTRIM", "UNLINK"), writes[0]


@pytest.mark.parametrize("name", NAMES)
def test_no_script_looks_at_all_keys_or_at_what_a_payload_means(name):
    # One that writes nothing may look at a page of a hash.
    text = code(own(name)).replace("'HSCAN'", "" if name == "orphans" else "HSCAN")
    for forbidden in ("'KEYS'", "SCAN", "cjson", "cmsgpack", "RANDOMKEY"):
        assert forbidden not in text
    for key in (*vars(KEYS).values(), *SEED_KEYS):
        assert key not in scripts.load(name).source


# Callers


def calls_in(tree):
    """The calls of scripts: name, and names of values (None: some that are not seen)."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        first = node.args[0] if node.args else None
        if node.func.attr in ("call", "_call", "_send", "run") and isinstance(
            first, ast.Constant
        ):
            # What sends for a reader of items adds its names by itself.
            more = {None} if node.func.attr == "_send" else set()
            yield first.value, {keyword.arg for keyword in node.keywords} | more


def test_each_caller_gives_exactly_the_names_of_its_script():
    known = own_names()
    called = set()
    for file in Path(scrapy_dist.__file__).parent.rglob("*.py"):
        for name, given in calls_in(ast.parse(file.read_text("utf-8"))):
            names = scripts.load(name).names
            called.add(name)
            if None in given:  # what is made elsewhere is found out by each call
                continue
            # The checks add one in one place.
            missing = names - given - known - ({"mend"} if "check" in name else set())
            assert not missing, (file, name, missing)
            assert not given - names, (file, name, given - names)
    assert called == {*NAMES}


def test_a_worker_has_the_rights_that_its_scripts_need():
    file = Path(scrapy_dist.__file__).parent / "brokers" / "redis" / "frontier.py"
    called = {name for name, _ in calls_in(ast.parse(file.read_text("utf-8")))}
    assert {"commit", "lease", "register"} <= called
    code_ = "".join(code(scripts.load(name).source) for name in called)
    needed = set(re.findall(r"call\('([A-Z]+)'", code_))
    rights = {right[1:].upper() for right in acl("worker", "s") if right[0] == "+"}
    assert needed <= rights


def own_names():
    """The names that a frontier gives by itself."""
    with pytest.raises(TypeError) as caught:
        Worker(None).frontier.call("orphans", list)
    assert "cursor" in str(caught.value)
    return Worker(None).frontier.call("orphans", list, cursor=0, most=1).values.keys()


def test_function_that_only_a_rare_one_calls_stands_within_it():
    source = scripts.load("lease").source
    within = "\nlocal function drops(token)\n  local function new_task_book("
    assert within in source
    assert not re.search(r"^local function new_task_book", source, re.MULTILINE)
    # Several call this one, and nobody that one.
    assert re.search(r"^local function with_rank", source, re.MULTILINE)
    assert "is_entry" not in source


def test_function_that_is_to_stand_where_it_is_called_stands_there():
    source = scripts.load("lease").source
    assert "local function store_handing" not in source
    assert re.search(
        r"^do\n  local now = now\n.*^  reply\[8\]", source, re.MULTILINE | re.DOTALL
    )
    assert re.search(
        r"^( *)local n, has_more\n\1do\n\1  local slot, most = slot, most\n"
        r".*^\1  n, has_more = read, goes_on\n\1end$",
        source,
        re.MULTILINE | re.DOTALL,
    )


@pytest.mark.parametrize(
    "own",
    [
        "f(1)\nf(2)\n",  # twice
        "local b = f(1)\n",  # a variable that f has, too
        "if f(1) then\nend\n",  # neither a statement nor what becomes of a variable
    ],
)
def test_function_that_cannot_stand_where_it_is_called_is_noticed(own):
    library = "-- @here\nlocal function f(a)\n  local b = a\n  return b\nend\n"
    assert scripts._put_here(library + "local c = f(1)\n") == (
        "local c\ndo\n  local a = 1\n  local b = a\n  c = b\nend\n"
    )
    with pytest.raises(AssertionError):
        scripts._put_here(library + own)


def test_name_that_a_script_does_not_have_is_an_error():
    with pytest.raises(TypeError, match=r"lease\.lua does not know: wants"):
        Worker(None).frontier.call("lease", list, want=1, most_suspects=0, wants=1)


def test_name_without_a_value_is_an_error():
    with pytest.raises(TypeError, match=r"lease\.lua needs: want"):
        Worker(None).frontier.call("lease", list, most_suspects=0)


def test_values_stand_where_the_head_has_their_names():
    frontier = Worker(None).frontier
    call = frontier.call("stop", int, numbers=["1", "2"])
    assert (call.keys, call.args) == ([KEYS.control, KEYS.workers], ["1", "2"])
    # Of all lists but the last one the length comes in front.
    call = frontier.push([("i", b"a"), ("j", b"b"), ("i", b"c")])
    assert (call.keys, call.args) == (["i", "j"], [1, b"a", 2, b"b", 1, b"c"])
    call = frontier.call("lease", list, want=3, most_suspects=4, worker="me", enough=())
    assert call.keys[0] == KEYS.requests
    assert call.args[:3] == ["me", 3, 4]
