"""Items as lines of JSON."""

from __future__ import annotations

import base64
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_dist.commands.items import line_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_json_is_one_line_of_ascii_that_says_the_same(value, ascii_, indent):
    text = json.dumps(value, ensure_ascii=ascii_, indent=indent)
    line = line_of(text.encode("utf-8", "surrogatepass"))
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    if isinstance(found, dict) and "frontier_base64" in found:
        assert not ascii_  # a lone surrogate is no UTF-8
        return
    assert found == value


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (b'{"price": 1.10, "b": 1, "a": 2e5}', '{"price": 1.10, "b": 1, "a": 2e5}'),
        (b' {"a":1}\r\n', '{"a":1}'),
        (b'{\n\t"a": 1\n}', '{  "a": 1 }'),
        ('"\U0001f600\x7f"'.encode(), '"\\ud83d\\ude00\\u007f"'),
        (b"", '{"frontier_text": ""}'),
        (b"a\nb", '{"frontier_text": "a\\nb"}'),
        (b'{"a": "\x1b[2J"}', '{"frontier_text": "{\\"a\\": \\"\\u001b[2J\\"}"}'),
        (b"\xff", '{"frontier_base64": "/w=="}'),
    ],
)
def test_line(item, line):
    assert line_of(item) == line


def test_a_pickle_stays_closed():
    item = pickle.dumps({"a": 1})
    found = json.loads(line_of(item))["frontier_base64"]
    assert base64.b64decode(found) == item


def test_what_is_nested_very_deep_is_text():
    item = b"[" * 100_000 + b"]" * 100_000
    assert json.loads(line_of(item)) == {"frontier_text": item.decode()}
