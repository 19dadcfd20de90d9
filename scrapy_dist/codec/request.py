"""Requests as bytes, and back, as careful in both directions.

The first byte says what a payload is (``envelope``). What follows is the dict of
``Request.to_dict()``; a plain Request's fields that have their default are left out.
``_state`` beside them are all attributes of a subclass' object that Request does not have:
such a request is put together without the constructor of its class, so that none of them
is reset.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from scrapy.http import FormRequest, JsonRequest, Request, XmlRpcRequest
from scrapy.utils.trackref import object_ref

from scrapy_dist import defaults
from scrapy_dist.base.escaping import get_logger, quote
from scrapy_dist.base.settings import number
from scrapy_dist.codec import compact
from scrapy_dist.codec import messagepack as msgpack_serializer
from scrapy_dist.codec.attributes import Attributes
from scrapy_dist.codec.callbacks import SpiderMethods
from scrapy_dist.codec.compact import Shorthand
from scrapy_dist.codec.culprits import BASE_NAMES, SAMPLE, Culprits, how_to_import
from scrapy_dist.codec.envelope import JSON, KINDS, MSGPACK, OTHER, PICKLE
from scrapy_dist.codec.messagepack import Coder
from scrapy_dist.codec.objects import (
    SharedClasses,
    load_request_classes,
    load_shared_classes,
)
from scrapy_dist.codec.policy import Policy
from scrapy_dist.codec.request_fields import (
    CONVERT,
    FIELD_TYPES,
    STATE,
    add_changed,
    check_fields,
    with_text_headers,
)
from scrapy_dist.codec.seal import ADDED, NO_SEAL, Seal
from scrapy_dist.codec.serializers import (
    Serializer,
    format_of,
    load_serializer,
    to_bytes,
)
from scrapy_dist.codec.sizes import MAX_HOST, flaw_of_url
from scrapy_dist.compat.extension_points import path_of
from scrapy_dist.exceptions import BadPayload, ConfigurationError, Unserializable

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.crawler import Crawler

logger = get_logger(__name__)

#: What to do about requests that are nothing that this worker knows.
_WRITER_REMEDY = (
    "Crawl them with the version of scrapy-dist, and of the project, that made them."
)
#: What to do about requests of another format than SCHEDULER_SERIALIZER's.
_FORMAT_REMEDIES = {
    MSGPACK: "They are of scrapy-dist's own serializer: leave SCHEDULER_SERIALIZER out.",
    OTHER: "Set SCHEDULER_SERIALIZER to the module that made them.",
    JSON: "Set SCHEDULER_SERIALIZER to the module that made them, such as 'json'.",
    PICKLE: "Set SCHEDULER_SERIALIZER to the module that made them, such as"
    " 'scrapy_dist.picklecompat'.",
}
_SCRAPY_CLASSES: tuple[type[Request], ...] = (
    Request,
    FormRequest,
    JsonRequest,
    XmlRpcRequest,
)
#: Names that the constructors of Scrapy's own classes set.
_OWN_NAMES = {
    cls: set(Attributes(cls, skip=BASE_NAMES).take(cls("data:,")))
    for cls in _SCRAPY_CLASSES
}
#: How many attributes there are in the ``__dict__`` of a plain Request; None: it has none.
_DICT_SIZE = len(vars(SAMPLE)) if hasattr(SAMPLE, "__dict__") else None


class PayloadCodec:
    """Turns the requests of one spider into bytes and back.

    *serializer* is None for MessagePack, else a module or object with ``dumps`` and
    ``loads``. *max_size* is in bytes, *max_url* in characters, for both directions.
    *request_classes* are the subclasses of Request, beyond Scrapy's own, that may be
    stored; *shared_classes* those of other objects. Raises ValueError for those whose
    objects cannot be. *policy* says what a request may ask for, *seal* signs what is stored.
    """

    def __init__(
        self,
        spider: Spider,
        *,
        serializer: Serializer | None = None,
        max_size: int = defaults.FRONTIER_MAX_PAYLOAD,
        max_url: int = defaults.FRONTIER_URL_LENGTH,
        request_classes: Iterable[type[Request]] = (),
        shared_classes: Iterable[type] = (),
        policy: Policy | None = None,
        seal: Seal = NO_SEAL,
    ) -> None:
        self._methods = SpiderMethods(spider)
        self._policy = policy or Policy()
        self._seal = seal
        self._max_size = max_size
        self._max_url = max_url
        self._shared = SharedClasses(shared_classes)
        self._coder = Coder(self._shared)
        if serializer in (None, msgpack_serializer):
            serializer = Shorthand(self._coder)
        self._serializer = cast("Serializer", serializer)
        self._format = format_of(self._serializer)
        self._culprits = Culprits(
            self._shared, self._dump, is_pickle=self._format == PICKLE
        )
        self._paths: dict[type[Request], str] = {}
        self._classes: dict[str, type[Request]] = {}
        for request_class in (*_SCRAPY_CLASSES, *request_classes):
            path = f"{request_class.__module__}.{request_class.__name__}"
            self._paths[request_class] = path
            self._classes[path] = request_class
        self._attributes = {
            request_class: Attributes(request_class, skip=BASE_NAMES)
            for request_class in self._paths
        }
        if self._format == PICKLE and not seal.is_on:
            logger.warning(
                "SCHEDULER_SERIALIZER is a pickle (%s): who can write to Redis can run"
                " code on this worker. Leave the setting out to use MessagePack: then they"
                " can choose URLs, proxies and callbacks, and run nothing of their own. Or"
                " set FRONTIER_SECRET.",
                getattr(serializer, "__name__", serializer),
                extra={"spider": spider},
            )

    @classmethod
    def from_crawler(cls, crawler: Crawler, key: str) -> PayloadCodec:
        """Read the settings that say what may be stored, and how.

        *key* is that of the pending requests, which signatures are made for.
        ``crawler.spider`` must be set. Raises ConfigurationError.
        """
        if crawler.spider is None:
            raise ConfigurationError(
                "The crawler has no spider yet. Build the codec when it has."
            )
        settings = crawler.settings
        return cls(
            crawler.spider,
            serializer=load_serializer(
                settings.get("SCHEDULER_SERIALIZER", defaults.SCHEDULER_SERIALIZER)
            ),
            max_size=int(number(settings, "FRONTIER_MAX_PAYLOAD", least=1)),
            max_url=int(number(settings, "FRONTIER_URL_LENGTH", least=1)),
            request_classes=load_request_classes(settings),
            shared_classes=load_shared_classes(settings),
            policy=Policy.from_settings(settings),
            seal=Seal.from_settings(settings, key),
        )

    def encode(self, request: Request) -> bytes:
        """A snapshot of *request*, which is not changed. Raises Unserializable."""
        self._policy.check_own(request)
        try:
            fields = self._to_fields(request)
            check_fields(fields)
            if len(request.url) > MAX_HOST:
                self._check_url(request.url)
        except Unserializable as e:
            raise self._culprits.with_hint(e, request) from e
        except Exception as e:
            raise Unserializable(str(e)) from e
        try:
            data = self._dump(fields)
        except Exception as e:
            raise self._culprits.find(fields, e) from e
        data = self._seal.sign(data)
        if len(data) > self._max_size:
            raise Unserializable(
                f"it takes {len(data):,} bytes; FRONTIER_MAX_PAYLOAD allows"
                f" {self._max_size:,}"
            )
        return data

    def decode(self, data: bytes) -> Request:
        """The request that ``encode`` made *data* of. Raises BadPayload.

        Imports nothing that *data* names, and loads no pickle unless
        SCHEDULER_SERIALIZER says so.
        """
        if len(data) > self._max_size + ADDED:
            raise self.too_large(len(data))
        data = self._seal.open(data)
        if len(data) > self._max_size:
            raise self.too_large(len(data))
        fields = self._load(data)
        try:
            check_fields(fields)
            # First, as taking apart a long one costs much; and what it has become.
            if len(fields["url"]) > MAX_HOST:
                self._check_url(fields["url"])
            request = self._to_request(fields)
            if len(request.url) > MAX_HOST:
                self._check_url(request.url)
            self._policy.check_read(request)
        except BadPayload:
            raise
        except Exception as e:
            raise BadPayload(f"no request: {quote(str(e), 200)}") from e
        return request

    def too_large(self, size: int) -> BadPayload:
        """Why a payload of *size* bytes is not read."""
        return BadPayload(
            f"the payload has {size:,} bytes; FRONTIER_MAX_PAYLOAD allows"
            f" {self._max_size:,}",
            cause="size",
            remedy="Set FRONTIER_MAX_PAYLOAD to what it was, or higher.",
        )

    def _check_url(self, url: str) -> None:
        if flaw := flaw_of_url(url, self._max_url):
            raise BadPayload(
                f"its url {flaw}",
                cause="url",
                remedy="Set FRONTIER_URL_LENGTH to what it was, or higher.",
            )

    def shown(self, data: bytes) -> bytes:
        """*data* for a message: without signature, or what nobody can decode."""
        return self._seal.shown(data)

    def _to_fields(self, request: Request) -> dict[str, Any]:
        fields: dict[str, Any] = {"url": request.url}
        if request.callback is not None:
            fields["callback"] = self._name("callback", request.callback)
        if request.errback is not None:
            fields["errback"] = self._name("errback", request.errback)
        if type(request) is not Request:
            self._add_of_subclass(request, fields)
        else:
            add_changed(request, fields)
            if _DICT_SIZE is not None and len(request.__dict__) != _DICT_SIZE:
                fields[STATE] = self._attributes[Request].take(request)
        return fields

    def _add_of_subclass(self, request: Request, fields: dict[str, Any]) -> None:
        cls = type(request)
        path = self._paths.get(cls)
        if path is None:
            raise Unserializable(
                f"its class is not allowed; add '{path_of(cls)}' to"
                f" FRONTIER_REQUEST_CLASSES{how_to_import(path_of(cls), cls)}",
                [path_of(cls)],
            )
        state = self._attributes[cls].take(request)
        if cls in _OWN_NAMES and state.keys() <= _OWN_NAMES[cls]:
            self._add_all(request, fields)
        else:
            add_changed(request, fields)
            fields[STATE] = state
        fields["_class"] = path

    def _add_all(self, request: Request, fields: dict[str, Any]) -> None:
        """Add all fields: the defaults of a subclass can be others than Request's."""
        cls = type(request)
        for name in cls.attributes:
            if name in ("url", "callback", "errback"):
                continue
            value = getattr(request, name)
            if name in FIELD_TYPES:
                if value is None:
                    continue
                value = CONVERT[name](value) if name in CONVERT else value
            fields[name] = value

    def _name(self, field: str, func: Any) -> str:
        try:
            return self._methods.name(func)
        except ValueError as e:
            raise ValueError(f"its {field} cannot be stored: {e}") from None

    def _method(self, field: str, name: str) -> Callable[..., Any]:
        try:
            return self._methods.method(name)
        except ValueError as e:
            raise BadPayload(
                f"its {field} is not allowed: {e}",
                cause="callback",
                remedy=f"Give the spider a plain method {quote(name)} again (another name"
                " for its successor will do), or crawl these requests with the code that"
                " made them.",
            ) from None

    def _dump(self, fields: dict[str, Any]) -> bytes:
        if self._format == MSGPACK:
            return MSGPACK + to_bytes(self._serializer.dumps(fields))
        if self._format == PICKLE:
            return to_bytes(self._serializer.dumps(fields))
        data = to_bytes(
            self._serializer.dumps(self._coder.to_jsonable(with_text_headers(fields)))
        )
        return data if self._format == JSON else OTHER + data

    def _load(self, data: bytes) -> dict[str, Any]:
        found = data[:1]
        if found != self._format:
            raise BadPayload(
                f"it looks like {KINDS.get(found, 'no payload of any kind')},"
                f" but SCHEDULER_SERIALIZER says {KINDS[self._format]}:"
                f" {quote(data[:40])}",
                cause=f"format {KINDS.get(found, '')}",
                remedy=_FORMAT_REMEDIES.get(found, _WRITER_REMEDY),
            )
        if found in (MSGPACK, OTHER):
            data = data[1:]
        try:
            fields = self._serializer.loads(data)
            if found in (JSON, OTHER):
                fields = self._coder.from_jsonable(fields)
        except Exception as e:
            if isinstance(e, BadPayload) and e.cause == "class":
                raise
            raise BadPayload(
                f"not readable as {KINDS[found]}: {quote(str(e) or repr(e), 200)}",
                cause="content",
                remedy=_FORMAT_REMEDIES[OTHER] if found == OTHER else _WRITER_REMEDY,
            ) from e
        if type(fields) is not dict:
            raise BadPayload(f"it holds a {type(fields).__name__}, no request")
        return fields

    def _to_request(self, fields: dict[str, Any]) -> Request:
        cls: type[Request] = Request
        path = fields.pop("_class", None)
        if path is not None:
            if path not in self._classes:
                raise BadPayload(
                    f"its class {quote(path)} is not allowed; if it is a Request of this"
                    " project, add it to FRONTIER_REQUEST_CLASSES",
                    cause="class",
                    remedy=f"Add {quote(path)} to FRONTIER_REQUEST_CLASSES again.",
                )
            cls = self._classes[path]
        state = fields.pop(STATE, None)
        known = cls.attributes if state is None else Request.attributes
        unknown = fields.keys() - set(known)
        if unknown:
            raise BadPayload(
                f"unknown field {quote(min(map(str, unknown)))}",
                cause="field",
                remedy=_WRITER_REMEDY,
            )
        for field in ("callback", "errback"):
            name = fields.get(field)
            if name is not None:
                fields[field] = self._method(field, name)
        if state is None:
            return cls(**fields)
        request: Request = object_ref.__new__(cls)
        # First, too: methods of the class that Request's constructor calls may read them.
        self._attributes[cls].set(request, state)
        Request.__init__(request, **fields)
        self._attributes[cls].set(request, state)
        return request


def fields_of(payload: bytes) -> dict[str, Any]:
    """The fields of a payload that anybody can read: MessagePack or JSON, no pickle.

    Nothing is known of them but that they are a dict. Raises BadPayload.
    """
    found = payload[:1]
    if found not in (MSGPACK, JSON):
        raise BadPayload(f"no payload of any kind: {quote(payload[:40])}")
    try:
        fields = json.loads(payload) if found == JSON else compact.loads(payload[1:])
    except BadPayload:
        raise
    except (ValueError, RecursionError) as e:
        raise BadPayload(f"not readable as JSON: {quote(str(e), 200)}") from e
    if type(fields) is not dict:
        raise BadPayload(f"it holds a {type(fields).__name__}, no request")
    return fields
