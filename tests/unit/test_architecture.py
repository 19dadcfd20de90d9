"""The house: imports only go down, roles stay apart, files and functions stay short.

Each exception has its reason, and one that is not needed any more fails.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TypeVar

import scrapy_dist
from scrapy_dist import defaults
from scrapy_dist.brokers.redis.keys import SETTINGS

T = TypeVar("T")

PACKAGE = "scrapy_dist"
ROOT = Path(scrapy_dist.__file__).parent

#: From below: what stands on one floor does not import each other, only what is lower. A
#: package may import its own modules.
FLOORS = (
    ("exceptions", "defaults", "utils", "picklecompat"),
    ("base",),
    ("compat",),
    ("codec",),
    ("queue", "redis_client"),
    ("core",),
    ("connection", "brokers", "worker"),
    ("dupefilter",),
    ("fingerprints",),
    ("admin",),
    ("bridge",),
    ("scheduler",),
    ("pipelines", "stats", "middleware", "spiders"),
    ("client", "addon"),
    ("web",),
    ("commands",),
    ("",),
)

#: Imports that go up or to the side.
UP: dict[str, str] = {}

#: Modules of the worker that reach a Redis.
REACH: dict[str, str] = {}

#: Modules that import each other in a circle.
CIRCLES: dict[frozenset[str], str] = {}

#: Who knows redis-py beside brokers/redis and redis_client.
REDIS_PY: dict[str, str] = {
    "connection": "gives users their client",
    "defaults": "the default of REDIS_CLS",
    "dupefilter": "the attribute server",
    "pipelines": "the attribute server",
    "queue": "the attribute server",
    "scheduler": "the attribute server",
    "stats": "the attribute server",
    "worker.filtering": "what a filter of the project's raises",
}

#: Files of more lines than 400.
LONG_FILES: dict[str, str] = {
    "client.py": "all that users call, each with its contract and an example",
    "brokers/redis/lua/commit.lua": "one script: all that is stored in one moment",
}

#: Functions of more lines than 50.
LONG_FUNCTIONS: dict[str, str] = {}

#: Tests that use unittest.mock. Others have tests.support.engine, Scrapy's get_crawler, or a
#: small real object: what answers to every name hides that a name is gone.
MOCKS: dict[str, str] = {
    "unit/worker/test_no_engine.py": "a user's own tests hand our components a Mock"
}

#: Names of keys in tests outside tests/redis. They are names that users of scrapy-redis know,
#: what rights and foreign keys are about, and what a test writes there before a command.
RAW_KEYS = 343

#: Objects of Scrapy, by the names that we give them.
SCRAPYS = frozenset(
    {"crawler", "downloader", "engine", "extensions", "scraper", "slot", "stats"}
)


def name_of(path: Path) -> str:
    """The module in *path*, without the name of the package; "" is its __init__."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    return {
        name_of(path): ast.parse(path.read_text("utf-8"))
        for path in sorted(ROOT.rglob("*.py"))
    }


def imported(module: str) -> set[str]:
    """What *module* imports, by full name, also inside functions and for types only."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix(f"{PACKAGE}.") in modules()
                found.add(whole if is_module else str(node.module))
    return found


@cache
def own_imports(module: str) -> frozenset[str]:
    """The modules of this package that *module* imports."""
    return frozenset(
        name.removeprefix(PACKAGE).removeprefix(".")
        for name in imported(module)
        if name.partition(".")[0] == PACKAGE
    ) - {module}


def excuse(found: set[T], excused: dict[T, str]) -> None:
    assert not found - excused.keys(), "new, and without a reason"
    assert not excused.keys() - found, "needed no more: remove these exceptions"


def floor_of(module: str) -> int:
    top = module.partition(".")[0]
    return next(number for number, names in enumerate(FLOORS) if top in names)


def reachable(module: str) -> set[str]:
    found: set[str] = set()
    todo = [module]
    while todo:
        for other in own_imports(todo.pop()) - found:
            found.add(other)
            todo.append(other)
    return found


def test_every_module_has_its_floor() -> None:
    tops = {module.partition(".")[0] for module in modules()}
    assert tops == {name for names in FLOORS for name in names}


def test_imports_only_go_down() -> None:
    found = {
        f"{module} -> {other}"
        for module in modules()
        for other in own_imports(module)
        if floor_of(other) >= floor_of(module)
        and other.partition(".")[0] != module.partition(".")[0]
    }
    excuse(found, UP)


def test_the_worker_knows_no_redis() -> None:
    # Beside what its floor says: another broker has another client.
    found = {
        module
        for module in modules()
        if module.partition(".")[0] == "worker"
        and any(other.startswith("redis_client") for other in own_imports(module))
    }
    excuse(found, REACH)


def test_no_modules_import_each_other_in_a_circle() -> None:
    ways = {module: reachable(module) for module in modules()}
    found = {
        frozenset(other for other in ways[module] if module in ways[other])
        for module in modules()
        if module in ways[module]
    }
    excuse(found, CIRCLES)


def test_few_know_redis_py() -> None:
    found = {
        module
        for module in modules()
        if any(name.partition(".")[0] == "redis" for name in imported(module))
        and not module.startswith(("brokers.redis", "redis_client"))
    }
    excuse(found, REDIS_PY)


def private_names(tree: ast.Module) -> set[str]:
    """Private attributes of what is called as an object of Scrapy is."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, attribute = node.value, node.attr
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr", "setattr")
            and isinstance(node.args[1], ast.Constant)
        ):
            owner, attribute = node.args[0], str(node.args[1].value)
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(
            "scrapy."
        ):
            found |= {a.name for a in node.names if a.name.startswith("_")}
            continue
        else:
            continue
        name = getattr(owner, "attr", getattr(owner, "id", "")).lstrip("_")
        if name in SCRAPYS and attribute[0] == "_" and attribute[:2] != "__":
            found.add(f"{name}.{attribute}")
    return found


def test_scrapys_private_names_are_in_one_module() -> None:
    found = {name: private_names(tree) for name, tree in modules().items()}
    assert found.pop("worker.engine"), "this test finds nothing"
    assert not {name: names for name, names in found.items() if names}


def test_files_are_short() -> None:
    found = {
        str(path.relative_to(ROOT))
        for suffix in ("py", "lua")
        for path in ROOT.rglob(f"*.{suffix}")
        if len(path.read_text("utf-8").splitlines()) > 400
    }
    excuse(found, LONG_FILES)


def test_functions_are_short() -> None:
    found = {
        f"{module}.{getattr(owner, 'name', '')}.{node.name}".replace("..", ".")
        for module, tree in modules().items()
        for owner in ast.walk(tree)
        for node in ast.iter_child_nodes(owner)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 50
    }
    excuse(found, LONG_FUNCTIONS)


def test_a_boolean_of_ours_that_is_none_is_refused_by_name() -> None:
    """Scrapy's `getbool` names no setting; ``base.settings.flag`` does."""
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in ROOT.rglob("*.py")
        for name in re.findall(r"getbool\(\s*\"(\w+)\"", path.read_text("utf-8"))
        if hasattr(defaults, name)
    }
    assert not found


def test_tests_use_no_mocks() -> None:
    tests = Path(__file__).parents[1]
    found = {
        str(path.relative_to(tests))
        for path in tests.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.ImportFrom) and "mock" in str(node.module))
        or (isinstance(node, ast.Import) and "mock" in node.names[0].name)
    }
    excuse(found, MOCKS)


def test_tests_ask_for_what_is_in_keys() -> None:
    """`tests.support.redis_state` knows keys; the number of others only goes down."""
    tests = Path(__file__).parents[1]
    names = "|".join(field for field, *_ in SETTINGS)
    key = re.compile(rf"[^\s:]*(:[^\s:]+)?:({names})")
    found = sum(
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and key.fullmatch(node.value) is not None
        for path in tests.rglob("*.py")
        if path.relative_to(tests).parts[0] not in ("redis", "benchmarks", "support")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )
    assert found <= RAW_KEYS
