"""Which page an output of the spider comes from.

Scrapy hands a scheduler requests, and a pipeline items, without saying whose they are.
The add-on's spider middleware sees each output with its response and notes it here; the
scheduler and the pipelines ask. What was not noted (of errbacks, of other middlewares, given
to ``engine.crawl()``) comes of the page for which the code runs that makes it: from the
moment it was handed out, all that is done for a page is done in its context. Without the
add-on nothing has a known origin.

Scrapy calls the errback of a failed download past the spider middlewares, so nobody there
sees what comes of it; and before 2.14 it goes through outputs of several pages in one
context. There the errback itself is watched.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextvars import ContextVar
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from scrapy.utils.misc import arg_to_iter
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.worker.leases import HeldLease, HeldLeases

    Note = Callable[[Any], None]

#: Origin of the item that the pipelines of this context are working on.
_current: ContextVar[HeldLeases | None] = ContextVar("frontier_origin", default=None)

#: The request for whose page this context works.
_page: ContextVar[Request | None] = ContextVar("frontier_page", default=None)

_NOTHING = object()


class Provenance:
    """Remembers outputs by identity, for as long as their pages are in progress.

    Nearly always an output is asked for before the next one is noted: the last one is
    kept apart, which costs nothing. *handed* are the requests whose pages are in progress.
    """

    def __init__(self, handed: Mapping[Request, HeldLeases]) -> None:
        #: Whether the spider middleware is there.
        self.noting = False
        #: Whether what is done for a page is done in a context of its own.
        self.by_context = False
        self._handed = handed
        #: The request that downloader middlewares answered with last, and to which one.
        self._answer: tuple[object, Request | None] = _NOTHING, None
        self._last: object = _NOTHING
        self._origin: HeldLeases = ()
        #: The others, by ``id``.
        self._noted: dict[int, tuple[object, HeldLeases]] = {}

    def note(self, output: object, records: HeldLeases) -> None:
        """*output* comes from the page of *records*; () for ``Spider.start()``."""
        last = self._last
        if last is not _NOTHING:
            key = id(last)
            self._noted[key] = (last, self._origin)
            for record in self._origin:
                record.noted[key] = last
        self._last, self._origin = output, records

    def take(self, output: object) -> HeldLeases | None:
        """The origin of *output*, once; None if it is not known."""
        if output is self._last:
            return self._take_last()
        key = id(output)
        noted = self._noted.pop(key, None)
        if noted is None:
            return None
        for record in noted[1]:
            record.noted.pop(key, None)
        return noted[1]

    def forget(self, record: HeldLease) -> None:
        """The page is finished; drop what a later middleware did not let through."""
        if record in self._origin:
            self._take_last()
        for key in record.noted:
            self._noted.pop(key, None)
        record.noted.clear()

    def _take_last(self) -> HeldLeases:
        origin = self._origin
        self._last, self._origin = _NOTHING, ()
        return origin

    def work_for(self, request: Request | None) -> None:
        """From now on this context works for the page of *request*; None: for none."""
        if self.by_context:
            _page.set(request)

    def of_context(self) -> HeldLeases | None:
        """The page that this context works for, while it is in progress; None: none."""
        page = _page.get() if self.by_context else None
        return None if page is None else self._handed.get(page)

    def note_answer(self, output: object, request: Request) -> None:
        """In place of a page of *request* there is *output*, which comes next."""
        self._answer = output, request

    def answered_by(self, output: Request) -> Request | None:
        """The request in place of whose page there is *output*; None: it is no answer."""
        if output is not self._answer[0]:
            return None
        _, request = self._answer
        self._answer = _NOTHING, None
        return request if request in self._handed else None

    def enter(self, item: object) -> None:
        """The pipelines begin with *item*, whatever they will make of it."""
        _current.set(self.take(item))

    def of_item(self, item: object) -> HeldLeases | None:
        """The origin of the *item* that reached RedisPipeline.

        By identity where no pipeline in front has noted it (Scrapy 2.13, whose
        pipelines do not run in one context).
        """
        if item is self._last:
            return self._origin
        noted = self._noted.get(id(item))
        origin = _current.get() if noted is None else noted[1]
        return self.of_context() if origin is None else origin


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
    return each_noted(arg_to_iter(output), note)


async def _later(output: Awaitable[Any], note: Note) -> Any:
    return _noted(await output, note)


async def _each_async(outputs: AsyncIterable[Any], note: Note) -> AsyncIterator[Any]:
    async for output in outputs:
        note(output)
        yield output


def each_noted(outputs: Iterable[Any], note: Note) -> Iterator[Any]:
    for output in outputs:
        note(output)
        yield output
