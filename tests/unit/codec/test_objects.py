"""Objects of allowed classes are taken apart and put together, and run no code."""

from __future__ import annotations

import dataclasses
import enum
import http
import json
import logging
import typing
from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import attr
import msgpack
import pytest
from scrapy import Field, Item, Request, Spider
from scrapy.http import HtmlResponse
from scrapy.http.headers import Headers
from scrapy.link import Link

from scrapy_dist.codec.dump_lines import payload_of, show_payload
from scrapy_dist.codec.forms import form_of
from scrapy_dist.codec.messagepack import Coder, Foreign, to_jsonable
from scrapy_dist.codec.objects import SharedClasses, resolve
from scrapy_dist.codec.request import PayloadCodec, fields_of
from scrapy_dist.compat.extension_points import path_of
from scrapy_dist.exceptions import BadPayload, Unserializable

URL = "https://example.com/"
CALLED: list[str] = []


class Kind(enum.Enum):
    BOOK = "book"
    ALIAS = "book"  # noqa: PIE796
    DVD = object()


class Level(enum.IntEnum):
    ONE = 1


class Colour(str, enum.Enum):
    RED = "red"


class Right(enum.Flag):
    READ = 1
    WRITE = 4


class Number(enum.IntFlag):
    A = 1
    B = 2


Point = namedtuple("Point", "x y")  # noqa: PYI024


class Pair(typing.NamedTuple):
    x: int
    y: Any = None


class Vector(namedtuple("Vector", "x y")):  # noqa: PYI024, SLOT002
    def __new__(cls, both):
        CALLED.append("Vector")
        return super().__new__(cls, both, both)


@dataclass
class Plan:
    depth: int = 1
    tags: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    y: Any = None


@dataclass
class Derived:
    start: InitVar[int]
    total: int = field(init=False)

    def __post_init__(self, start):
        CALLED.append("Derived")
        self.total = start * 2

    @cached_property
    def twice(self):
        return self.total * 2

    def __setattr__(self, name, value):
        CALLED.append("set")
        object.__setattr__(self, name, value)

    def __setstate__(self, state):
        CALLED.append("setstate")

    def __reduce__(self):
        CALLED.append("reduce")
        return (print, ())


@dataclass
class Older:
    x: int


@dataclass
class Newer:
    x: int
    y: int = 5
    z: list[int] = field(default_factory=list)


@attr.define
class Slotted:
    x: int
    _y: Any = attr.Factory(list)


@attr.frozen(cache_hash=True)
class Hashed:
    x: str


@attr.s
class Classic:
    x = attr.ib()


class PageMethod:
    def __init__(self, method, *args, **kwargs):
        CALLED.append("PageMethod")
        self.method, self.args, self.kwargs, self._result = method, args, kwargs, None

    def __eq__(self, other):
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def run(self):
        """No attribute may hide it."""

    @property
    def result(self):
        return self._result

    @result.setter
    def result(self, value):
        CALLED.append("setter")


class Slots:
    __slots__ = ("__private", "_x", "unset")

    def __init__(self, x):
        self._x = x
        self.__private = [x]

    def __eq__(self, other):
        return self._x == other._x and self.__private == other.__private

    __hash__ = None  # type: ignore[assignment]


class Book(Item):
    title = Field()


class MyDict(dict):
    def __init__(self, needed):
        """No constructor is called."""

    def __setitem__(self, key, value):
        CALLED.append("setitem")

    def update(self, *args):
        CALLED.append("update")


class MyOrdered(OrderedDict):
    pass


class MyCounter(Counter):
    pass


class MyList(list):
    pass


class MySet(set):
    pass


class Price(float):
    pass


class Code(str):
    __slots__ = ()


class Identity(int):
    pass


class Raw(bytes):
    pass


class Loose(tuple):
    __slots__ = ()


class Strict(frozenset):
    pass


def filled(cls: type, value: Any) -> Any:
    obj = cls.__new__(cls)
    cls.__mro__[1].update(obj, value)
    return obj


def with_attribute(obj: Any) -> Any:
    obj.note = ["n"]
    return obj


def examples() -> list[Any]:
    item = Book(title="T")
    derived = Derived(2)
    derived.twice  # noqa: B018 - it is then an attribute beyond the fields
    return [
        Kind.BOOK,
        Kind.ALIAS,
        Kind.DVD,
        Level.ONE,
        Colour.RED,
        Right.READ,
        Right.READ | Right.WRITE,
        Right(0),
        Number.A | Number.B,
        Point(1, [2]),
        Pair(1),
        tuple.__new__(Vector, (1, 2)),
        Plan(2, [Plan(), Kind.BOOK]),
        Frozen(1, (Frozen(2),)),
        derived,
        Slotted(1),
        Hashed("x"),
        Classic([1]),
        PageMethod("click", "a", timeout=3),
        with_attribute(PageMethod("click")),
        Slots(5),
        item,
        filled(MyDict, {"a": 1, (1,): Kind.BOOK}),
        with_attribute(MyOrdered([("b", 1), ("a", 2)])),
        MyCounter("aab"),
        MyList([1, (2,)]),
        MySet([1]),
        with_attribute(Price(1.5)),
        Code("x"),
        Identity(1 << 70),
        Raw(b"x"),
        Loose((1, 2)),
        Strict([1]),
    ]


CLASSES = [*{type(value): None for value in examples()}]


@pytest.fixture
def coder() -> Coder:
    CALLED.clear()
    return Coder(SharedClasses(CLASSES))


def through_json(coder: Coder, value: Any) -> Any:
    text = json.dumps(coder.to_jsonable(value), allow_nan=False)
    return coder.from_jsonable(json.loads(text))


@pytest.mark.parametrize("value", examples(), ids=lambda value: type(value).__name__)
def test_an_object_comes_back_and_no_code_of_its_class_runs(coder, value):
    for again in (coder.loads(coder.dumps([value]))[0], through_json(coder, value)):
        assert type(again) is type(value)
        assert again == value
        assert getattr(again, "__dict__", None) == getattr(value, "__dict__", None) or (
            isinstance(value, (Item, enum.Enum))
        )

    assert CALLED == []


@pytest.mark.parametrize(
    "value",
    [
        http.HTTPStatus.NOT_FOUND,
        urlsplit("https://a/b?c#d"),
        Link(URL, "text", nofollow=True),
        Headers({"A": ["1", "2"]}, encoding="latin-1"),
    ],
    ids=repr,
)
def test_simple_classes_of_python_and_scrapy_need_no_setting(value):
    coder = Coder(SharedClasses())

    for again in (coder.loads(coder.dumps(value)), through_json(coder, value)):
        assert again == value
        assert type(again) is type(value)
    assert getattr(again, "encoding", "latin-1") == "latin-1"


def test_objects_are_keys_too(coder):
    value = {Kind.BOOK: 1, Point(1, 2): 2, Frozen(1): {Level.ONE}, Hashed("a"): 3}

    again = coder.loads(coder.dumps(value))

    assert again == value
    assert again[Hashed("a")] == 3  # a hash of another process would not be found


def test_subclasses_are_not_their_base(coder):
    class Special(Plan):
        pass

    with pytest.raises(Unserializable, match="Special"):
        coder.dumps(Special())


def test_an_attribute_beside_the_fields_is_never_lost(coder):
    # one that a class can have comes back
    plan = with_attribute(Plan())
    assert coder.loads(coder.dumps(plan)).note == ["n"]
    # one that cannot be set again is a reason not to store the object
    vector = tuple.__new__(Vector, (1, 2))
    vector.note = 1
    for value in (vector, Plan()):
        if value is not vector:
            vars(value)["run"] = vars(value)["__x__"] = 1
        with pytest.raises(Unserializable, match="attribute"):
            coder.dumps(value)
    step = PageMethod("x")
    vars(step)["run"] = "hidden"
    with pytest.raises(Unserializable, match="method of that name"):
        coder.dumps(step)


def test_what_a_newer_class_has_besides_gets_its_default():
    old = Coder(SharedClasses([Older])).dumps(Older(1))
    data = old.replace(b"Older", b"Newer")

    again = Coder(SharedClasses([Newer])).loads(data)

    assert again == Newer(1, 5, [])
    missing = Coder(SharedClasses([Newer])).dumps(Newer(1)).replace(b"\xa1x", b"\xa1q")
    with pytest.raises(BadPayload, match="Newer has no x"):
        Coder(SharedClasses([Newer])).loads(missing)


def test_pydantic_models_come_back():
    pydantic = pytest.importorskip("pydantic", reason="needs the extra plugins")

    class Inner(pydantic.BaseModel):
        x: int

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        inner: Inner
        url: str = pydantic.Field("u", alias="URL")
        _secret: int = pydantic.PrivateAttr(3)
        _unset: int = pydantic.PrivateAttr()

        @pydantic.model_validator(mode="after")
        def check(self):
            CALLED.append("validator")
            return self

    coder = Coder(SharedClasses([Inner, Model]))
    value = Model(inner=Inner(x=1), more=(1, 2))
    value._secret = 4
    CALLED.clear()

    for again in (coder.loads(coder.dumps(value)), through_json(coder, value)):
        assert again == value
        assert again.more == (1, 2)
        assert again._secret == 4
        assert again.model_fields_set == {"inner", "more"}
        assert again.model_dump() == value.model_dump()
    assert CALLED == []
    with pytest.raises(BadPayload, match="Inner has no __pydantic_fields_set__"):
        coder.loads(hostile(path_of(Inner), {"x": 1}))


# What must not get in


def hostile(path: Any, state: Any) -> bytes:
    packed = msgpack.packb([path, state])
    return msgpack.packb(msgpack.ExtType(22, packed))


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("subprocess.Popen", {"args": "true"}),
        ("builtins.eval", "1"),
        (f"{__name__}.Unlisted", {}),
        (5, {}),
        ([], {}),
        (path_of(Kind), "__class__"),
        (path_of(Kind), "mro"),
        (path_of(Kind), 1),
        (path_of(Kind), ["BOOK"]),
        (path_of(Right), 2),
        (path_of(Right), -1),
        (path_of(Right), True),
        (path_of(Number), 1 << 40),
        (path_of(Point), [1]),
        (path_of(Point), {"x": 1, "y": 2}),
        (path_of(Plan), []),
        (path_of(Plan), {"__class__": 1}),
        (path_of(Plan), {"__dict__": {}}),
        (path_of(Plan), {1: 2}),
        (path_of(Frozen), {"x": 1, "z": 2}),
        (path_of(Frozen), {"y": 1}),
        (path_of(Derived), {"__setattr__": 1}),
        (path_of(Hashed), {"x": "a", "_attrs_cached_hash": 5}),
        (path_of(Slotted), {"x": 1, "more": 1}),
        (path_of(PageMethod), {"run": "x"}),
        (path_of(PageMethod), {"result": "x"}),
        (path_of(Slots), {"__weakref__": 1}),
        (path_of(Book), {"_values": {"other": 1}}),
        (path_of(Book), {"_values": 1}),
        (path_of(Book), {}),
        (path_of(MyDict), [{}, {}]),
        (path_of(MyDict), [[["a"]], {}]),
        (path_of(MyDict), [[], {"items": 1}]),
        (path_of(MyDict), [[]]),
        (path_of(MyList), ["ab", {}]),
        (path_of(MySet), [[[]], {}]),
        (path_of(Price), ["1", {}]),
        (path_of(Price), [True, {}]),
        (path_of(Code), ["x", {"y": 1}]),
        (path_of(Identity), [1.5, {}]),
    ],
)
def test_a_hostile_object_is_refused(coder, path, state):
    with pytest.raises(BadPayload):
        coder.loads(hostile(path, state))
    with pytest.raises((BadPayload, TypeError, ValueError)):
        coder.from_jsonable({"$object": [path, to_jsonable(state)]})

    assert CALLED == []


def test_an_object_nested_too_deep_or_in_itself_is_refused(coder):
    deep: Any = None
    for _ in range(20):
        deep = Plan(deep)
    cycle = Plan()
    cycle.tags.append(cycle)

    for value in (deep, cycle):
        with pytest.raises(Unserializable, match="too deep"):
            coder.dumps(value)
    with pytest.raises(RecursionError):
        coder.to_jsonable(cycle)


class Abstract(typing.Protocol):
    def run(self): ...


class Failure(Exception):
    pass


class Empty(enum.Enum):
    pass


class Zero(defaultdict):
    pass


@pytest.mark.parametrize(
    "cls",
    [
        int,
        list,
        object,
        type,
        Request,
        Spider,
        HtmlResponse,
        Failure,
        Empty,
        Zero,
        print,
        json,
        None,
    ],
)
def test_a_class_whose_objects_cannot_be_taken_apart_is_refused(cls):
    with pytest.raises(ValueError, match=r"\w"):
        form_of(cls)


def test_classes_are_found_by_their_paths():
    class Local:
        pass

    assert resolve(path_of(Outer.Inner)) is Outer.Inner
    assert resolve("scrapy.Item") is Item
    assert resolve("json") is json
    for path in ("no.such.module", "json.nothing.more", "", ".", path_of(Local)):
        assert resolve(path) is None


class Outer:
    class Inner(enum.Enum):
        X = 1


# In requests


class Shop(Spider):
    name = "shop"

    def parse(self, response):
        """The default callback."""


@pytest.fixture
def spider() -> Shop:
    return Shop()


def refused(spider: Spider, request: Request, **options: Any) -> Unserializable:
    with pytest.raises(Unserializable) as caught:
        PayloadCodec(spider, **options).encode(request)
    return caught.value


@pytest.mark.parametrize("module", [None, json])
def test_all_classes_of_a_request_are_named_at_once(spider, module):
    plan = Plan(tags=[Point(1, Kind.BOOK), {Level.ONE: Outer.Inner.X}])
    meta = {"plan": plan, "ok": OrderedDict(), "step": [PageMethod("x", Kind.BOOK)]}
    request = Request(URL, meta=meta, cb_kwargs={"price": Price(1)})

    error = refused(spider, request, serializer=module, shared_classes=[Kind])

    # the value of the setting is whole, and can be written as it stands
    setting = str(error).partition("FRONTIER_SHARED_CLASSES = ")[2]
    named, _ = json.JSONDecoder().raw_decode(setting)
    assert named == [
        path_of(cls)
        for cls in (Kind, Plan, Point, Level, Outer.Inner, PageMethod, Price)
    ]
    assert "meta['plan'], meta['step'], cb_kwargs['price']" in str(error)
    assert error.missing == {*named} - {path_of(Kind)}
    codec = PayloadCodec(
        spider, serializer=module, shared_classes=[resolve(path) for path in named]
    )
    again = codec.decode(codec.encode(request))
    assert again.meta == meta
    assert type(again.cb_kwargs["price"]) is Price


def test_what_no_setting_helps_is_said_first(spider):
    meta = {"kind": Kind.BOOK, "log": logging.getLogger("x"), "spider": spider}
    for key in ("log", "spider"):
        request = Request(URL, meta={"kind": Kind.BOOK, key: meta[key]})
        error = refused(spider, request)
        assert f"meta['{key}'] cannot be stored" in str(error)
        assert not error.missing


def test_a_class_in_a_function_is_said_to_be_moved(spider):
    class Local:
        pass

    error = refused(spider, Request(URL, meta={"x": Local()}))

    assert "move Local to the level of its module" in str(error)


def test_a_class_that_is_not_allowed_is_named_to_who_reads(spider):
    data = PayloadCodec(spider, shared_classes=[Kind]).encode(
        Request(URL, meta={"kind": Kind.BOOK})
    )

    with pytest.raises(BadPayload, match=r"Kind' are not allowed.*SHARED_CLASSES"):
        PayloadCodec(spider).decode(data)


def test_those_without_the_project_move_objects_as_they_are(spider):
    codec = PayloadCodec(spider, shared_classes=CLASSES)
    meta = {"plan": Plan(2, [Kind.BOOK]), Kind.BOOK: Point(1, 2)}
    data = codec.encode(Request(URL, meta=meta))

    # when it is read without the classes, shown as JSON, and written again
    fields = fields_of(data)
    assert isinstance(fields["meta"]["plan"], Foreign)
    plain = Coder()
    shown = json.loads(json.dumps(plain.to_jsonable(fields)))
    again = b"\x01" + plain.dumps(plain.from_jsonable(shown))

    # and so in a file of an export
    exported = json.loads(json.dumps(show_payload(data)))
    assert codec.decode(payload_of(exported)).meta == meta

    # then a worker reads the same
    assert codec.decode(again).meta == meta
    assert dataclasses.asdict(meta["plan"])["depth"] == 2


# Requests with attributes of their own


class Browser(Request):
    def __init__(self, *args, wait=None, shot=False, **kwargs):
        self.wait, self.shot = wait, shot
        super().__init__(*args, **kwargs)


class Page(Request):
    """A constructor that Scrapy's fields do not fit."""

    __slots__ = ("number",)

    def __init__(self, number):
        CALLED.append("Page")
        self.number = number
        super().__init__(f"{URL}{number}", headers={"A": "1"}, meta={"n": number})

    def _set_url(self, url):
        super()._set_url(url if url.endswith(str(self.number)) else url + "/x")


class Both(Request):
    attributes = (*Request.attributes, "country")

    def __init__(self, *args, country=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.country = country and country.upper()
        self.seen = [country]


@pytest.mark.parametrize("module", [None, json])
@pytest.mark.parametrize(
    "request_",
    [
        Browser(URL, wait=10, shot=True),
        Browser(URL, method="PUT"),
        Page(7),
        Both(URL, country="de", priority=3),
        Both(URL),
    ],
    ids=repr,
)
def test_a_request_with_attributes_of_its_own_comes_back_whole(
    spider, module, request_
):
    classes = [Browser, Page, Both]
    codec = PayloadCodec(spider, serializer=module, request_classes=classes)
    CALLED.clear()

    again = codec.decode(codec.encode(request_))

    assert type(again) is type(request_)
    names = {"url", "method", "headers", "meta", "priority", "wait", "shot"}
    for name in names | {"number", "country", "seen"}:
        assert getattr(again, name, 0) == getattr(request_, name, 0)
    assert CALLED == []


def test_an_attribute_that_cannot_be_stored_keeps_the_request_here(spider):
    request = Browser(URL, wait=object())

    error = refused(spider, request, request_classes=[Browser])
    assert "its attribute wait cannot be stored: 'objects of" in str(error)

    error = refused(spider, Browser(URL, wait=Kind.BOOK), request_classes=[Browser])
    assert error.missing == {path_of(Kind)}

    error = refused(spider, Browser(URL, wait=Kind.BOOK))
    assert error.missing == {path_of(Kind), path_of(Browser)}


def test_an_attribute_of_a_plain_request_is_not_lost(spider):
    request = Request(URL)
    if not hasattr(request, "__dict__"):
        pytest.skip("a plain Request of this Scrapy has no attributes of its own")
    request.note = [1]

    codec = PayloadCodec(spider)
    again = codec.decode(codec.encode(request))

    assert again.note == [1]


@pytest.mark.parametrize(
    "state",
    [
        {"_url": "x"},
        {"_meta": {}},
        {"url": "x"},
        {"callback": "parse"},
        {"replace": 1},
        {"__class__": 1},
        {"__dict__": {}},
        {5: 5},
    ],
)
def test_attributes_that_are_scrapys_are_refused(spider, state):
    codec = PayloadCodec(spider, request_classes=[Browser])
    path = f"{__name__}.Browser"
    fields = {"url": URL, "_class": path, "_state": state}

    with pytest.raises(BadPayload):
        codec.decode(b"\x01" + Coder().dumps(fields))


def test_a_request_that_was_stored_without_its_attributes_is_still_read(spider):
    codec = PayloadCodec(spider, request_classes=[Both])
    fields = {"url": URL, "_class": f"{__name__}.Both", "country": "at"}

    assert codec.decode(b"\x01" + Coder().dumps(fields)).country == "AT"
