"""All public names of the installed scrapy-redis 0.9.1, found by walking through it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys

import pytest
from scrapy.utils.misc import load_object

from scrapy_dist.compat.extension_points import EXTENSION_POINTS
from scrapy_dist.worker import engine

peer = pytest.importorskip("scrapy_redis", reason="the extra 'test' brings it")

#: What is not here, or is another thing here, and why.
EXCEPTIONS = {
    "__author__": "of the package, not of its API",
    "__email__": "of the package, not of its API",
    "__version__": "our own",
    "utils.six": "Python 2 has gone",
    "defaults.redis": "redis-py is not loaded by the embedded Redis' supervisor",
    **dict.fromkeys(
        (
            "spiders.DontCloseSpider",
            "spiders.FormRequest",
            "spiders.TextColor",
            "spiders.bytes_to_str",
            "spiders.is_dict",
            "spiders.scrapy_version",
            "spiders.signals",
        ),
        "it is only imported there: import it from scrapy, or from scrapy_dist.utils",
    ),
    **(
        {}
        if engine.CALLS_START_REQUESTS
        else {"spiders.RedisMixin.start_requests": "this Scrapy does not call it"}
    ),
    "defaults.REDIS_PARAMS": "no retry_on_timeout: a command that may have been done is"
    " not done twice",
}
MIXIN = EXTENSION_POINTS["scrapy_dist.spiders.RedisMixin"]

#: Parameters that mean something else here, or are missing, and why.
SIGNATURES: dict[str, str] = {}


def modules():
    yield "", peer
    for info in pkgutil.iter_modules(peer.__path__):
        yield info.name, importlib.import_module(f"scrapy_redis.{info.name}")


def is_standard(value):
    name = value.__name__ if inspect.ismodule(value) else value.__module__
    return name.partition(".")[0] in sys.stdlib_module_names


def names():
    for module_name, module in modules():
        for name, value in vars(module).items():
            path = f"{module_name}.{name}" if module_name else name
            if path in EXCEPTIONS or name.startswith("__"):
                continue
            # Nobody asks this package for what Python brings.
            is_import = inspect.ismodule(value) or hasattr(value, "__module__")
            if not (is_import and is_standard(value)):
                yield path


def classes():
    for module_name, module in modules():
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                yield f"{module_name}.{name}"


def members():
    for path in classes():
        for name in vars(load_object(f"scrapy_redis.{path}")):
            if f"{path}.{name}" in EXCEPTIONS:
                continue
            if not name.startswith("__") or name in ("__init__", "__len__"):
                yield f"{path}.{name}"


def is_listed_later(path):
    """Whether the entry of its class is not filled in."""
    return path.startswith("spiders.") and not MIXIN.all


def find(package, path):
    found = importlib.import_module(package)
    for name in path.split("."):
        if inspect.ismodule(found) and not hasattr(found, name):
            found = importlib.import_module(f"{found.__name__}.{name}")
        else:
            found = getattr(found, name)
    return found


def test_it_is_the_version_whose_names_we_promise():
    assert peer.__version__ == "0.9.1"
    assert len(list(names())) > 70
    assert len(list(members())) > 80


@pytest.mark.parametrize("path", sorted(set(names())))
def test_name_is_here(path):
    theirs, ours = find("scrapy_redis", path), find("scrapy_dist", path)
    if path == "defaults.SCHEDULER_QUEUE_CLASS":
        assert ours == "scrapy_dist.queue.SlotQueue"  # hosts take turns
    elif isinstance(theirs, str):
        assert ours == theirs.replace("scrapy_redis", "scrapy_dist")
    elif isinstance(theirs, (int, float, bool)):
        assert ours == theirs
    elif inspect.isclass(theirs):
        assert inspect.isclass(ours)
    else:
        assert callable(ours) == callable(theirs)


@pytest.mark.parametrize("path", sorted(set(members())))
def test_member_is_here(path):
    if is_listed_later(path):
        pytest.skip("RedisMixin")
    theirs = find("scrapy_redis", path)
    owner, _, name = path.rpartition(".")
    assert hasattr(find("scrapy_dist", owner), name), path
    if path in SIGNATURES or not inspect.isroutine(theirs):
        return
    ours = inspect.signature(find("scrapy_dist", path)).parameters
    wanted = inspect.signature(theirs).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in ours.values()):
        return
    assert list(ours)[: len(wanted)] == list(wanted)
    for extra in list(ours.values())[len(wanted) :]:
        assert extra.default is not extra.empty or extra.kind is extra.VAR_KEYWORD


@pytest.mark.parametrize("path", sorted(set(members())))
def test_override_of_it_is_honoured_or_refused(path):
    if is_listed_later(path):
        pytest.skip("RedisMixin")
    owner, _, name = path.rpartition(".")
    cls = find("scrapy_dist", owner)
    listed = [
        EXTENSION_POINTS[f"{base.__module__}.{base.__qualname__}"].all
        for base in cls.__mro__
        if f"{base.__module__}.{base.__qualname__}" in EXTENSION_POINTS
    ]
    if owner == "utils.TextColor":
        return  # nobody calls it back
    assert any(name in points for points in listed), (
        f"{path} is in no entry of extension_points.py"
    )


def test_what_a_wildcard_import_brings_is_there():
    for module_name, module in modules():
        if module_name and not hasattr(module, "__all__"):
            found: dict[str, object] = {}
            exec(f"from scrapy_dist.{module_name} import *", found)
            own = {
                p.partition(".")[2] for p in names() if p.startswith(module_name + ".")
            }
            assert not own - found.keys(), module_name
