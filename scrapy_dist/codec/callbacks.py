"""The methods of a spider that may be callbacks."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from scrapy.http.request import NO_CALLBACK

from scrapy_dist.base.escaping import quote
from scrapy_dist.compat.extension_points import root

if TYPE_CHECKING:
    from scrapy import Spider


class SpiderMethods:
    """The methods of a spider that may be callbacks, by name and by function.

    They are plain functions of the spider's class, except dunders and what Scrapy and
    this package define for other purposes, such as ``from_crawler`` and ``start``.
    """

    #: Prefixes, after underscores, of the methods of Scrapy's spider classes that are
    #: callbacks: _parse, _callback, _errback, _parse_sitemap, parse_start_url, …
    CALLBACKS = ("parse", "callback", "errback")

    #: Packages whose other spider methods are no callbacks.
    PACKAGES = frozenset({"builtins", "scrapy", "scrapy_dist", "scrapy_redis"})

    #: Hooks that are no callbacks either, whichever class defines them.
    HOOKS = frozenset(
        {
            *("from_crawler", "set_crawler", "_set_crawler", "update_settings"),
            *("handles_request", "log", "start", "start_requests", "close", "closed"),
            *("setup_redis", "make_request_from_data", "next_requests"),
            *("schedule_next_requests", "spider_idle"),
        }
    )

    def __init__(self, spider: Spider) -> None:
        self._spider = spider
        self._denied = self.HOOKS | {
            name
            for base in type(spider).__mro__
            if root(base) in self.PACKAGES
            for name in vars(base)
            if not name.lstrip("_").startswith(self.CALLBACKS)
        }
        self._names: dict[object, str] = {}
        self._methods: dict[str, Callable[..., Any]] = {}

    def name(self, func: Any) -> str:
        """The name under which ``method`` finds *func*. Raises ValueError with a reason.

        Constant time from the second call with the same method on.
        """
        if type(func) is MethodType and func.__self__ is self._spider:
            found = self._names.get(func.__func__)
            if found is not None:
                return found
            return self._search(func)
        raise ValueError(self._why_foreign(func))

    def method(self, name: str) -> Callable[..., Any]:
        """The spider's method *name*. Raises ValueError with a reason.

        Only the class counts: what somebody has set on the spider itself is not run.
        """
        found = self._methods.get(name)
        if found is None:
            found = MethodType(self._function(name), self._spider)
            self._methods[name] = found
        return found

    def _search(self, func: MethodType) -> str:
        function = func.__func__
        # The name in the class differs from __name__ for aliases, __private methods
        # and decorators without functools.wraps.
        names = {getattr(function, "__name__", ""): None}
        for base in type(self._spider).__mro__:
            names.update(
                (name, None) for name, value in vars(base).items() if value is function
            )
        reasons = []
        for name in names:
            try:
                if self._function(name) is function:
                    self._names[function] = name
                    return name
            except ValueError as e:
                reasons.append(str(e))
        raise ValueError(
            reasons[0] if reasons else f"{quote(func)} is overridden in the spider"
        )

    def _function(self, name: str) -> FunctionType:
        spider_class = type(self._spider)
        if name in self._denied or (name.startswith("__") and name.endswith("__")):
            raise ValueError(f"{quote(name)} is no callback")
        for base in spider_class.__mro__:
            # Not getattr, which would run properties and other descriptors.
            value = vars(base).get(name)
            if isinstance(value, FunctionType):
                return value
            if name in vars(base):
                raise ValueError(
                    f"{quote(name)} of {spider_class.__name__} is no plain method"
                )
        raise ValueError(f"{spider_class.__name__} has no method {quote(name)}")

    def _why_foreign(self, func: Any) -> str:
        if func is NO_CALLBACK:
            return "NO_CALLBACK: the request belongs to a component of this process"
        if getattr(func, "__name__", "") == "<lambda>":
            return "it is a lambda, no method of the spider"
        return f"{quote(func)} is no method of the spider"
