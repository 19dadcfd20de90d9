"""The serializer: everything comes back as it was, and hostile bytes harm nobody."""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import json
import struct
import time
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html

from scrapy_dist.codec.messagepack import dumps, from_jsonable, loads, to_jsonable
from scrapy_dist.exceptions import BadPayload, Unserializable

OFFSETS = st.timedeltas(
    min_value=timedelta(hours=-23), max_value=timedelta(hours=23)
).map(lambda offset: timezone(timedelta(seconds=int(offset.total_seconds()))))

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(1 << 200), max_value=1 << 200),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.datetimes(timezones=OFFSETS),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.times(),
    st.fractions(),
    st.complex_numbers(allow_nan=False),
    st.ip_addresses(),
    st.builds(range, st.integers(), st.integers()),
    st.text().map(PurePosixPath),
)
KEYS = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner),
    max_leaves=4,
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
        st.lists(inner, max_size=4).map(deque),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
        st.dictionaries(KEYS, inner, max_size=4).map(lambda v: defaultdict(list, v)),
        st.dictionaries(KEYS, st.integers(), max_size=4).map(Counter),
    ),
    max_leaves=20,
)


def types(value: Any) -> Any:
    """The types inside *value*, in order where it has an order."""
    if isinstance(value, (list, tuple, deque)):
        return type(value), [types(element) for element in value]
    if isinstance(value, dict):
        return type(value), [(types(k), types(v)) for k, v in value.items()]
    return type(value)


@given(VALUES)
def test_a_value_comes_back_equal_and_of_the_same_type(value):
    again = loads(dumps(value))

    assert again == value
    assert types(again) == types(value)


@given(VALUES)
def test_a_value_survives_json_equal_and_of_the_same_type(value):
    again = from_jsonable(json.loads(json.dumps(to_jsonable(value), allow_nan=False)))

    assert again == value
    assert types(again) == types(value)


def test_an_aware_datetime_keeps_its_offset():
    moment = datetime(
        2024, 2, 29, 1, 2, 3, 4, timezone(timedelta(hours=5, minutes=30, seconds=7))
    )

    assert loads(dumps(moment)).utcoffset() == moment.utcoffset()


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict([("b", 1), ("a", (2,))]),
        defaultdict(list, {"a": [1], 2: {3}}),
        defaultdict(None, a=1),
        defaultdict(OrderedDict),
        Counter("aab"),
        Counter({1: 0.5, (2,): Decimal(1)}),
        deque([1, 2]),
        deque([1, (2,)], maxlen=10**9),
        deque(maxlen=0),
        Path("/a/b"),
        PurePosixPath("a/../b"),
        PureWindowsPath("c:\\x"),
        clock(1, 2, 3, 4),
        clock(1, tzinfo=timezone(timedelta(hours=-3))),
        clock(1, tzinfo=BERLIN, fold=1),
        timezone.utc,
        timezone(timedelta(hours=1), "X"),
        BERLIN,
        datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
        Fraction(-1, 3),
        1 - 2j,
        range(1, 10**30, 7),
        ipaddress.ip_address("::1"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_interface("10.0.0.1/8"),
        SimpleNamespace(a=1, b=[SimpleNamespace()]),
    ],
    ids=repr,
)
def test_common_types_of_the_standard_library_come_back(value):
    for again in (
        loads(dumps([value]))[0],
        from_jsonable(json.loads(json.dumps(to_jsonable(value), allow_nan=False))),
    ):
        assert again == value
        assert repr(again) == repr(value)
        assert type(again) is type(value)


def test_a_path_of_another_system_comes_back_as_a_pure_one():
    data = dumps(Path("/a")).replace(b"PosixPath", b"WindowsPath")
    data = data.replace(b"\xa9Windows", b"\xabWindows").replace(
        b"\xc7\x0e", b"\xc7\x10"
    )

    assert type(loads(data)) is (
        PureWindowsPath if PosixPath is type(Path()) else PosixPath
    )


def test_numbers_of_numpy_come_back_as_those_of_python():
    numpy = pytest.importorskip("numpy", reason="needs the extra plugins")

    for value in (
        numpy.float64(0.1),
        numpy.float32(0.1),
        numpy.int8(3),
        numpy.uint64(2**64 - 1),
        numpy.bool_(True),
        numpy.str_("x"),
        numpy.bytes_(b"x"),
        numpy.complex128(1j),
        numpy.datetime64("2024-01-02"),
        numpy.float64("nan"),
    ):
        for again in (loads(dumps(value)), from_jsonable(to_jsonable(value))):
            assert again == value or value != value  # noqa: PLR0124
            assert type(again).__module__ in ("builtins", "datetime")
    for value in (numpy.longdouble(1) / 3, numpy.zeros(2)):
        with pytest.raises(Unserializable, match="numpy"):
            dumps(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("sNaN")])
def test_numbers_that_are_none_come_back(value):
    assert repr(loads(dumps(value))) == repr(value)
    assert repr(from_jsonable(to_jsonable(value))) == repr(value)


def test_a_nan_as_key_comes_back():
    ((key, value),) = loads(dumps({float("nan"): 1})).items()

    assert key != key  # noqa: PLR0124 - this is what makes it a NaN
    assert value == 1


def test_text_that_lxml_extracted_comes_back_as_plain_text():
    # given the text of a link as CrawlSpider puts it into meta
    text = html.fromstring("<a>next <b>page</b></a>").xpath("string()")
    assert type(text) is not str

    # when it is stored
    again = loads(dumps({text: [text]}))

    # then it is text
    assert again == {"next page": ["next page"]}
    assert types(again) == types({"": [""]})
    assert from_jsonable(to_jsonable({text: text})) == {"next page": "next page"}


class Colour(str, enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


def with_attribute(value: Any) -> Any:
    value.extra = 1
    return value


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
TUPLE_CYCLE: list[Any] = []
TUPLE_CYCLE.append((TUPLE_CYCLE,))
DEEP: list[Any] = []
for _ in range(3000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        print,
        Colour.RED,
        Number.ONE,
        defaultdict(lambda: 1),
        Counter(a="1"),
        with_attribute(OrderedDict(a=1)),
        with_attribute(Counter("a")),
        Fraction(1 << 9000, 3),
        Decimal,
        namedtuple("Pair", "a b")(1, 2),  # noqa: PYI024 - this is what is tested
        "lone \ud800 surrogate",
        {"\udfff": 1},
        CYCLE,
        TUPLE_CYCLE,
        DEEP,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"k": [(v,)]}])
def test_what_cannot_be_stored_is_refused(value, wrap):
    with pytest.raises(Unserializable):
        dumps(wrap(value))


def test_a_refusal_names_the_type():
    with pytest.raises(Unserializable, match=r"builtins\.object"):
        dumps({"a": object()})
    with pytest.raises(Unserializable, match=r"function .*with_attribute.* no code"):
        dumps({"a": with_attribute})
    with pytest.raises(Unserializable, match=r"factory .*lambda.*, none of Counter"):
        dumps({"a": defaultdict(lambda: 1)})
    with pytest.raises(Unserializable, match="in itself"):
        dumps(CYCLE)


def test_tuples_nested_too_deep_are_refused_and_the_others_come_back():
    value: Any = ()
    for _ in range(15):
        value = (value,)

    assert loads(dumps(value)) == value
    with pytest.raises(Unserializable, match="too deep"):
        dumps((((value,),),))


def colliding_integers(count: int) -> list[int]:
    """Integers that all have the same hash."""
    return [((1 << 61) - 1) * (n + 10) for n in range(count)]


@pytest.mark.parametrize("build", [dict.fromkeys, set, frozenset])
def test_keys_whose_hashes_collide_cannot_stall_the_reader(build):
    # given more keys with one hash than a dict can take in reasonable time
    value = build(colliding_integers(5000))

    # when they are stored, or a stranger stores them, then they are refused at once
    with pytest.raises(Unserializable, match="5000 keys"):
        dumps(value)
    begin = time.process_time()
    keys = b"".join(dumps(key) for key in colliding_integers(50_000))
    array = b"\xdd" + struct.pack(">I", 50_000) + keys
    with pytest.raises(BadPayload, match="50000 keys"):
        loads(msgpack.packb(msgpack.ExtType(2, array)))
    # A dict of them takes minutes on a machine where this takes a second.
    assert time.process_time() - begin < 10


def test_many_ordinary_keys_are_no_problem():
    value = {
        "texts": {str(n) for n in range(20_000)},
        "numbers": dict.fromkeys(range(9999)),
    }

    assert loads(dumps(value)) == value


def nested_extensions(code: int, levels: int) -> bytes:
    data = b"\x90"
    for _ in range(levels):
        data = b"\x91" + msgpack.packb(msgpack.ExtType(code, data))
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xc0\xc0",
        b"\x81\x90\x01",  # a list as key
        b"\x81\x01",
        b"\xa1\xff",
        b"\xd9\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 100_000 + b"\xc0",
        (b"\xdd\x00\x01\x00\x00" * 1000).ljust(65_536, b"\xc0"),
        nested_extensions(1, 17),
        nested_extensions(1, 2000),
        msgpack.packb(msgpack.ExtType(99, b"")),
        msgpack.packb(msgpack.ExtType(1, b"\xa1a")),  # a tuple of a text
        msgpack.packb(msgpack.ExtType(2, b"\x91\x90")),  # a set of a list
        msgpack.packb(msgpack.ExtType(4, b"\xa3now")),
        msgpack.packb(msgpack.ExtType(6, b"\x91\x01")),
        msgpack.packb(msgpack.ExtType(6, b"\x93\xcf" + b"\xff" * 8 + b"\x00\x00")),
        msgpack.packb(msgpack.ExtType(7, b"\xa3abc")),
        msgpack.packb(msgpack.ExtType(8, b"\xa1x")),
        msgpack.packb(msgpack.ExtType(9, b"\xa1x")),
        *(
            msgpack.packb(msgpack.ExtType(code, msgpack.packb(plain)))
            for code, plain in [
                (4, ["2024-01-02T00:00:00", "../../etc/passwd", 0]),
                (4, ["2024-01-02T00:00:00", "os.path", 0]),
                (10, [["a"]]),
                (10, {}),
                (11, ["print", {}]),
                (11, ["list", [["a", 1]]]),
                (11, [["list"], {}]),
                (12, {"a": "x"}),
                (12, {"a": None}),
                (13, [1, [1, 2]]),
                (13, [-1, []]),
                (13, [1.5, []]),
                (13, [1 << 63, []]),
                (13, [None, "ab"]),
                (14, ["open", "/a"]),
                (14, ["PosixPath", 5]),
                (14, ["PosixPath"]),
                (15, "x"),
                (16, ["x"]),
                (17, "/etc/passwd"),
                (17, "No/Such"),
                (18, [1, 0]),
                (18, [1, 2.0]),
                (19, [1, 2]),
                (20, [1, 2]),
                (20, [1, 2, 0]),
                (20, [1.0, 2, 3]),
                (21, ["IPv4Address", "x"]),
                (21, ["print", "x"]),
                (23, {"__class__": 1}),
                (23, {1: 1}),
            ]
        ),
    ],
    ids=lambda data: data[:12].hex(),
)
def test_bytes_that_are_no_messagepack_are_refused(data):
    with pytest.raises(BadPayload):
        loads(data)


def test_lists_that_lie_about_their_length_cost_no_memory():
    # given a megabyte of lists inside each other, each said to have a million elements
    data = b"\xc0" * 1_000_000
    for _ in range(16):
        head = b"\xdd" + struct.pack(">I", len(data))
        data = head * 1000 + b"\xc9" + struct.pack(">IB", len(data), 1) + data

    # when it is read
    tracemalloc.start()
    with pytest.raises(BadPayload):
        loads(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # then the elements have not been allocated
    assert peak < 50_000_000


def test_extensions_that_must_be_read_twice_are_read_in_linear_time():
    # given many levels, each with a key that the fast reader refuses at its end
    data = b"\x81\x01\x01"
    for _ in range(14):
        data = (
            b"\x92"
            + msgpack.packb(msgpack.ExtType(1, b"\x91" + data))
            + b"\x81\x01\x01"
        )

    # when it is read, then the time does not double at each level
    begin = time.process_time()
    loads(data)
    assert time.process_time() - begin < 0.2


@given(st.binary())
def test_garbage_is_read_or_refused(data):
    with contextlib.suppress(BadPayload):
        loads(data)


@given(VALUES, st.data())
def test_a_damaged_value_is_read_or_refused(value, data):
    damaged = bytearray(dumps([value]))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] = data.draw(st.integers(0, 255))

    with contextlib.suppress(BadPayload):
        loads(bytes(damaged))


def test_json_keys_that_look_like_tags_are_no_tags():
    value = {"$bytes": "eA==", "plain": {"$set": 1}}

    assert from_jsonable(to_jsonable(value)) == value


def test_an_unknown_json_tag_is_refused():
    with pytest.raises(BadPayload, match=r"\$python"):
        from_jsonable({"$python": "print"})


def test_json_is_readable():
    value = {"when": date(2024, 1, 2), "id": UUID(int=1), "n": 1 << 70, "raw": b"x"}

    assert to_jsonable(value) == {
        "when": {"$date": "2024-01-02"},
        "id": {"$uuid": "00000000-0000-0000-0000-000000000001"},
        "n": {"$int": "0x400000000000000000"},
        "raw": {"$bytes": "eA=="},
    }
