"""Bad messages, their names and their letters."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("pika")

from scrapy_dist.bridge.line import RedisSide
from scrapy_dist.bridge.notices import Notices
from scrapy_dist.bridge.refusals import Refusals, reason_of
from scrapy_dist.exceptions import RedisUnavailable


class Delivery(SimpleNamespace):
    is_gone = redelivered = False


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        (None, "bad"),
        ("UTF-8", "bad"),
        (
            "gzip",
            "the message has the content_encoding 'gzip', which is not undone here",
        ),
        (b"\xff", "content_encoding"),
        ("a\x1b", "'a\\x1b'"),
    ],
)
def test_the_reason_names_an_encoding_that_is_not_undone(encoding, said):
    found = reason_of(SimpleNamespace(encoding=encoding), ValueError("bad."))
    assert said in found
    assert (found == "bad") == (said == "bad")


class Port:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def refuse(self, seed, reason, source, *, again):
        self.asked.append((seed, source, again))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def refusals(port=None):
    told = []
    notices = Notices(told.append, told.append)
    crawl = SimpleNamespace(port=port, options=SimpleNamespace(max_seed=3))
    return Refusals(crawl, RedisSide("r", notices), notices), told


def test_messages_that_are_alike_have_names_of_their_own_while_they_are_held():
    found, _ = refusals()
    first, second, other = (Delivery(id=i, body=b"x") for i in (None, None, "a"))
    with found.known(first) as one, found.known(other) as third:
        with found.known(second) as two:
            pass
        assert len({one, two, third}) == 3
        with found.known(second) as again:
            assert again == two
        # Its connection is lost: it comes again, and has the name that it had.
        first.is_gone = True
        with found.known(second) as again:
            assert again == one
    with found.known(second) as again:
        assert again == one


async def test_what_redis_may_have_written_is_asked_for_as_known():
    port = Port(RedisUnavailable("away"), False, True)
    found, told = refusals(port)
    await found.set_aside(Delivery(id=None, body=b"xxxxxx"), "s", "bad")
    assert port.asked == [(b"xxx", "s", again) for again in (False, True, True)]
    assert [text.partition("(")[0] for text in told] == [
        "There is no room for more dead letters ",
        "There is room for dead letters again.",
    ]


async def test_what_comes_again_is_not_waited_for():
    found, _ = refusals(Port())
    await found.set_aside(Delivery(id=None, body=b"x", is_gone=True), "s", "bad")
