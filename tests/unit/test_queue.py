"""A discipline that a program makes itself, as with scrapy-redis."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from scrapy import Request, Spider

from scrapy_dist import picklecompat, queue

URL = "http://example.com/"


@pytest.mark.parametrize(
    ("serializer", "head"), [(None, b"\x01"), (json, b"{"), (picklecompat, b"\x80")]
)
def test_requests_become_bytes_by_the_serializer_that_it_is_given(serializer, head):
    made = queue.FifoQueue(None, Spider("s"), "%(spider)s:requests", serializer)
    data = made._encode_request(Request(URL, meta={"a": 1}))
    assert data[:1] == head
    found = made._decode_request(data)
    assert (found.url, found.meta, made.key) == (URL, {"a": 1}, "s:requests")


@pytest.mark.parametrize("name", ["loads", "dumps"])
def test_a_serializer_without_one_of_its_functions_is_refused(name):
    functions = {"loads": json.loads, "dumps": json.dumps}
    del functions[name]
    with pytest.raises(TypeError, match=f"does not implement '{name}'"):
        queue.PriorityQueue(None, Spider("s"), "k", SimpleNamespace(**functions))
