"""Slots: the hosts, or other groups of requests, that take turns.

FRONTIER_SLOT says which slot a request belongs to, and the discipline its place there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scrapy import Request
from scrapy.utils.httpobj import urlparse_cached

from scrapy_dist import defaults
from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.settings import loaded
from scrapy_dist.codec.request import fields_of
from scrapy_dist.codec.sizes import flaw_of_url
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.exceptions import BadPayload, ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

    from scrapy_dist.queue import Base

logger = get_logger(__name__)

#: The slot of disciplines that know no hosts.
NO_SLOT = 0
_LAST = 2**52 - 1
#: Labels of a host that may be in front of the name of its slot, at the most.
_MOST_LABELS = 20


@lru_cache(10_000)
def slot_number(name: str) -> int:
    """The number of the slot *name*, from 1, which a double holds exactly: 52 bits of SHA-1."""
    digest = sha1(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:7], "big") % _LAST + 1


def host_of(request: Request) -> str:
    """The name of Scrapy's own slot of *request*: ``download_slot``, or else its host."""
    name = request.meta.get("download_slot")
    return name if isinstance(name, str) else urlparse_cached(request).hostname or ""


def drop_inherited_slot(request: Request) -> None:
    """Let *request*, where a redirect leads to another host, be of a slot of its own.

    The downloader names the slot in ``download_slot``, and the redirected request has a
    copy (https://github.com/scrapy/scrapy/issues/2141). What a spider has set to
    something else stays.
    """
    before = request.meta.get("redirect_urls")
    if not before or not isinstance(before, (list, tuple)):
        return
    name = request.meta.get("download_slot")
    if isinstance(name, str) and name == _hostname(before[-1]) != _hostname(
        request.url
    ):
        del request.meta["download_slot"]


def _hostname(url: object) -> str:
    try:
        return urlsplit(str(url)).hostname or ""
    except ValueError:
        return ""


class Slots:
    """Which slot a request belongs to; *name_of* None: all are in `NO_SLOT`."""

    def __init__(self, name_of: Callable[[Request], str] | None) -> None:
        self.name_of = name_of

    @property
    def are_many(self) -> bool:
        """Whether slots take turns."""
        return self.name_of is not None

    def domain_of(self, name: str) -> str:
        """The slot of a host *name* where slots are domains; else *name* itself."""
        if isinstance(self.name_of, _Domains):
            return self.name_of.of(name)
        return name

    def number(self, request: Request) -> int:
        """The number of the slot of *request*."""
        return NO_SLOT if self.name_of is None else slot_number(self.name_of(request))

    def name_in(self, slot: float, fields: Mapping[str, Any]) -> str | None:
        """The name of *slot*, told by the *fields* of a request there; None if they do not.

        Also as FRONTIER_SLOT may be set elsewhere: a host, or what it is part of.
        """
        try:
            request = _request(fields)
            if request is None:
                return None
            host = host_of(request)
            labels = host.split(".")[:_MOST_LABELS]
            names = [host, *(host.split(".", n)[n] for n in range(1, len(labels)))]
            if self.name_of is not None and slot != NO_SLOT:
                names.insert(0, self.name_of(request))
        except Exception:  # noqa: BLE001  whatever a rule of the project's makes of it
            return None
        return next((name for name in names if slot_number(name) == slot), None)

    def number_of_fields(self, fields: Mapping[str, Any]) -> int:
        """The number of the slot of a request of which only its *fields* are known.

        They may be anything, as `codec.request.fields_of` gives them. `NO_SLOT` if no slot
        can be told.
        """
        if self.name_of is None:
            return NO_SLOT
        try:
            request = _request(fields)
            return NO_SLOT if request is None else self.number(request)
        except Exception:  # noqa: BLE001  whatever a rule of the project's makes of it
            return NO_SLOT

    def number_of_payload(self, payload: bytes) -> int:
        """As `number_of_fields`, of a request as it is stored, without signature."""
        if self.name_of is None:
            return NO_SLOT
        try:
            return self.number_of_fields(fields_of(payload))
        except BadPayload:
            return NO_SLOT

    @classmethod
    def from_settings(cls, settings: BaseSettings, discipline: type[Base]) -> Slots:
        """FRONTIER_SLOT of *discipline*. Raises ConfigurationError."""
        value = settings.get("FRONTIER_SLOT")
        if not discipline.by_slot:
            if value is not None:
                raise ConfigurationError(
                    f"FRONTIER_SLOT = {value!r} has no effect with SCHEDULER_QUEUE_CLASS"
                    f" = {discipline.__module__ + '.' + discipline.__qualname__!r}, which"
                    " keeps all requests in one order. Remove it, or name"
                    f" {defaults.SCHEDULER_QUEUE_CLASS}."
                )
            return cls(None)
        value = defaults.FRONTIER_SLOT if value is None else value
        if value == "host":
            return cls(host_of)
        if value == "domain":
            return cls(_Domains())
        return cls(_Named(_load(value), value))


def _request(fields: Mapping[str, Any]) -> Request | None:
    url, meta = fields.get("url"), fields.get("meta")
    if type(url) is not str or flaw_of_url(url):
        return None
    return Request(url, meta=meta if type(meta) is dict else None)


#: All requests are in one slot.
NO_SLOTS = Slots(None)


class _Domains:
    """Registered domains of requests, by the list in tldextract."""

    def __init__(self) -> None:
        try:
            import tldextract  # noqa: PLC0415  of Scrapy's; for this setting only
        except ImportError:
            raise ConfigurationError(
                "FRONTIER_SLOT = 'domain' needs tldextract, which is not installed: pip"
                " install tldextract. Or write FRONTIER_SLOT = 'host'."
            ) from None
        extract = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())

        @lru_cache(10_000)
        def of(host: str) -> str:
            found = extract(host)
            if not (found.domain and found.suffix):
                return host  # an address, or a name of the project's
            return f"{found.domain}.{found.suffix}".lower()

        self.of = of

    def __call__(self, request: Request) -> str:
        return self.of(host_of(request))


def _load(value: Any) -> Callable[[Request], object]:
    wanted = (
        "Write 'host', 'domain', or the path of a function that takes a request and"
        " returns the name of its slot."
    )
    found = value
    if isinstance(value, str):
        found = loaded(value, "FRONTIER_SLOT", wanted)
    if not callable(found) or isinstance(found, type):
        raise ConfigurationError(f"FRONTIER_SLOT = {value!r} is no function. {wanted}")
    if inspect.iscoroutinefunction(found):
        raise ConfigurationError(
            f"FRONTIER_SLOT = {value!r} is a coroutine, and the name of a slot is needed"
            f" at once. {wanted}"
        )
    return found  # type: ignore[no-any-return]


class _Named:
    """Names given by a function of the project's; where it fails, the host."""

    def __init__(self, function: Callable[[Request], object], setting: object) -> None:
        self._function = function
        self._setting = setting
        self._said = False

    def __call__(self, request: Request) -> str:
        try:
            name = self._function(request)
        except Exception as e:  # noqa: BLE001  of any code
            return self._failed(request, f"has failed with {e!r}")
        if isinstance(name, str):
            return name
        return self._failed(request, f"has returned {name!r}, which is no string")

    def _failed(self, request: Request, what: str) -> str:
        if not self._said:
            self._said = True
            logger.error(
                "FRONTIER_SLOT = %r %s for %s. Such requests are in the slots of their"
                " hosts; no more of these are logged.",
                self._setting,
                what,
                request,
            )
        return host_of(request)


class Order:
    """The place of a request in the frontier: its slot, and its *score* there."""

    def __init__(self, score: Callable[[Request], float], slots: Slots) -> None:
        self.score = score
        self.slots = slots

    def new(
        self, request: Request, payload: bytes, fingerprint: str = "", start: int = 0
    ) -> NewRequest:
        """*request* for the frontier, as *payload*; the others: see `NewRequest`."""
        slot = self.slots.number(request)
        return NewRequest(payload, self.score(request), fingerprint, start, slot)
