"""How many messages a budget of bytes lets in."""

from __future__ import annotations

from scrapy_dist.bridge.weight import Weight


def test_until_sizes_are_known_messages_may_be_as_large_as_they_can_be():
    assert Weight(100, 1000).room == 10


def test_room_follows_the_size_of_the_last_ones():
    found = Weight(100, 1000)
    for _ in range(200):
        assert found.add(b"x")
        found.remove(b"x")
    assert 900 < found.room <= 1000
    for _ in range(200):
        assert found.add(b"x" * 50)
        found.remove(b"x" * 50)
    assert 18 <= found.room <= 20
    assert found.held == 0


def test_what_has_no_room_is_not_held_but_one_always_is():
    found = Weight(100, 60)
    large = b"x" * 100
    assert found.room == 1
    assert found.add(large)
    assert (found.held, found.room) == (100, 0)
    assert not found.add(b"x")
    found.remove(large)
    assert found.add(b"x" * 50)
    assert not found.add(b"x" * 11)
    assert found.add(b"x" * 10)
    found.clear()
    assert found.held == 0
