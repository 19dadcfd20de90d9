"""What an errback yields, noted like the outputs of a callback, where no context tells.

Scrapy calls the errback of a failed download past the spider middlewares, so nobody there
sees what comes of it; and before 2.14 it goes through outputs of several pages in one context.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from scrapy.utils.misc import arg_to_iter
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from scrapy import Request

    Note = Callable[[Any], None]


def note_outputs(request: Request, note: Note) -> None:
    """Let *note* see each output of the errback of *request*, which is called next."""
    errback = request.errback
    assert errback is not None

    def noting(failure: Failure) -> Any:
        # What the errback copies or yields is the request as it was.
        request.errback = errback
        return _noted(errback(failure), note)

    request.errback = noting


def _noted(output: Any, note: Note) -> Any:
    if isinstance(output, Failure):
        return output
    if isinstance(output, Deferred):
        return output.addCallback(_noted, note)
    if isawaitable(output):
        return _later(output, note)
    if hasattr(output, "__aiter__"):
        return _each_async(output, note)
    return _each(arg_to_iter(output), note)


async def _later(output: Awaitable[Any], note: Note) -> Any:
    return _noted(await output, note)


async def _each_async(outputs: AsyncIterable[Any], note: Note) -> AsyncIterator[Any]:
    async for output in outputs:
        note(output)
        yield output


def _each(outputs: Iterable[Any], note: Note) -> Iterator[Any]:
    for output in outputs:
        note(output)
        yield output
