"""The pages and what they are called: an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing, nullcontext
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from scrapy_dist.base.escaping import nearest
from scrapy_dist.exceptions import FrontierError
from scrapy_dist.web import views
from scrapy_dist.web.actions import ACTIONS
from scrapy_dist.web.answers import Answers
from scrapy_dist.web.forms import read_form
from scrapy_dist.web.guard import Guard
from scrapy_dist.web.rendering import crawl_path
from scrapy_dist.web.security import Door, Rules, Sessions
from scrapy_dist.web.site import LONG_PATIENCE, MOST_CRAWLS, PATIENCE, Site

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.web.live import Live

#: Pages that stay up to date at the same time; more have to be asked for again.
MOST_STREAMS = 200
#: Pages that look through very much, one after the other.
_LONG = frozenset({"explain", "tasks"})
_STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def make_app(
    site: Site,
    rules: Rules,
    *,
    metrics: Callable[[], Awaitable[bytes]] | None = None,
    sessions: Sessions | None = None,
    door: Door | None = None,
) -> ASGIApp:
    """The application that shows *site*.

    *metrics*: gives what Prometheus reads; None: there is nothing of it.
    """
    sessions = sessions or Sessions()
    door = door or Door(rules.password)
    answers = Answers(site, rules, sessions, door)
    pages = Pages(site, answers, metrics)
    app = Starlette(
        routes=pages.routes(),
        exception_handlers={
            FrontierError: answers.frontier_error,
            HTTPException: answers.http_error,
            Exception: answers.own_error,
        },
    )
    app.router.redirect_slashes = False
    return Guard(app, rules, sessions, door)


class Pages:
    def __init__(
        self,
        site: Site,
        answers: Answers,
        metrics: Callable[[], Awaitable[bytes]] | None,
    ) -> None:
        self._site = site
        self._answers = answers
        self._metrics = metrics
        self._streams = 0
        folder = files("scrapy_dist.web") / "static"
        self._static = {name: (folder / name).read_bytes() for name in _STATIC}

    def routes(self) -> list[Route]:
        return [
            Route("/", self._all),
            Route("/live", self._all_live),
            Route("/login", self._answers.show_login),
            Route("/login", self._answers.login, methods=["POST"]),
            Route("/logout", self._answers.logout, methods=["POST"]),
            Route("/metrics", self._prometheus),
            Route("/static/{name}", self._file),
            Route("/crawl", self._crawl),
            Route("/crawl/live", self._crawl_live),
            *(Route(f"/crawl/{name}", self._shown(name)) for name in views.SHOWN),
            Route("/crawl/{action}", self._act, methods=["POST"]),
        ]

    # What stays up to date

    async def _all(self, request: Request) -> Response:
        parts = await self._site.overview.now()
        return self._answers.live_page(request, "crawls.html", parts, "/live")

    async def _all_live(self, request: Request) -> Response:
        return self._stream(request, self._site.overview)

    async def _crawl(self, request: Request) -> Response:
        crawl = await self._named(request)
        parts = await self._site.live(crawl).now()
        path = crawl_path("live", crawl.name)
        return self._answers.live_page(
            request, "crawl.html", parts, path, name=crawl.name
        )

    async def _crawl_live(self, request: Request) -> Response:
        return self._stream(request, self._site.live(await self._named(request)))

    def _stream(self, request: Request, live: Live) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self._streams >= MOST_STREAMS:
            raise HTTPException(503, "Too many pages are open.")

        async def events() -> Any:
            self._streams += 1
            try:
                async with aclosing(live.events()) as found:  # type: ignore[type-var]
                    async for event in found:
                        if not self._answers.is_in(request):
                            return
                        yield event
            finally:
                self._streams -= 1

        # A proxy is not to wait for more, as nginx does.
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(
            events(), headers=headers, media_type="text/event-stream"
        )

    # What is shown once

    def _shown(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def page(request: Request) -> Response:
            crawl = await self._named(request)
            asked = views.Asked(crawl, request.query_params, self._site.searching)
            patience = LONG_PATIENCE if name in _LONG else PATIENCE
            values = await self._site.within(views.SHOWN[name](asked), patience)
            return self._answers.page(
                request, f"{name}.html", name=crawl.name, **values
            )

        return page

    async def _prometheus(self, request: Request) -> Response:
        if self._metrics is None:
            raise HTTPException(404, 'Metrics need: pip install "scrapy-dist[metrics]"')
        text = await self._metrics()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise HTTPException(404)
        headers = {"cache-control": "no-cache"}
        return Response(self._static[name], headers=headers, media_type=_STATIC[name])

    # What changes something

    async def _act(self, request: Request) -> Response:
        form = await read_form(request)
        self._answers.check_token(request, form)
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            raise HTTPException(404)
        crawl = await self._named(request)
        question = action.ask(form)
        if question and form.get("sure") != "yes":
            return self._answers.page(
                request,
                "sure.html",
                name=crawl.name,
                question=question,
                fields=form.fields,
                action=crawl_path(request.path_params["action"], crawl.name),
                back=crawl_path(action.page, crawl.name),
            )
        async with self._site.searching if action.searches else nullcontext():
            done = await self._site.within(action.do(crawl, form), LONG_PATIENCE)
        return self._answers.noted(crawl_path(action.page, crawl.name), done)

    async def _named(self, request: Request) -> Crawl:
        name = request.query_params.get("crawl", "")
        crawl = await self._site.crawl(name)
        if crawl is None:
            names = [each.name for each in await self._site.crawls()][:MOST_CRAWLS]
            raise HTTPException(
                404, f"There is no crawl of that name.{nearest(name[:200], names)}"
            )
        return crawl
