"""An override that nobody would call is refused by name."""

from __future__ import annotations

import pytest

from scrapy_dist import queue
from scrapy_dist.compat import extension_points
from scrapy_dist.exceptions import ConfigurationError


class Unread(queue.PriorityQueue):
    def push(self, request):
        pass

    def pop(self, timeout=0):
        pass


class Scored(queue.PriorityQueue):
    @staticmethod
    def score(request):
        return 0

    def own(self):
        pass


class Inherited(Unread):
    pass


@pytest.mark.parametrize("cls", [Unread, Inherited])
def test_the_error_names_class_methods_and_replacement(cls):
    with pytest.raises(ConfigurationError) as error:
        extension_points.refuse([Scored, cls])
    assert f"{__name__}.{cls.__name__} overrides pop, push: " in str(error.value)
    assert "write score(request)" in str(error.value)
    assert "Scored" not in str(error.value)


def test_what_we_or_scrapy_define_is_no_override():
    for cls in (queue.Base, queue.PriorityQueue, queue.LifoQueue, Scored, dict):
        extension_points.refuse([cls])


def test_a_mixin_in_front_counts():
    class Mixin:
        def pop(self, timeout=0):
            pass

    class Mixed(Mixin, queue.FifoQueue):
        pass

    with pytest.raises(ConfigurationError, match="Mixed overrides pop"):
        extension_points.refuse([Mixed])
