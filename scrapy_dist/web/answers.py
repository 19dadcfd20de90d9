"""How answers are made: whole pages, errors, and the way in and out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from scrapy_dist.base.words import age, clean
from scrapy_dist.exceptions import EmbeddedRedisError, RedisUnavailable, UnknownTask
from scrapy_dist.web.forms import MAX_FORM, Form, read_form
from scrapy_dist.web.guard import address_of, retry_after, session_of
from scrapy_dist.web.security import NOTE, Door, Rules, Sessions

if TYPE_CHECKING:
    from starlette.requests import Request

    from scrapy_dist.web.site import Site

#: Seconds after which a page that could not be shown is asked for again.
_AGAIN = 5
#: Pages of a crawl, and their names.
_PAGES = (
    ("", "Overview"),
    ("failed", "Dead letters"),
    ("next", "Next requests"),
    ("explain", "Explain a URL"),
    ("seeds", "Seeds"),
    ("tasks", "Tasks"),
    ("history", "History"),
    ("settings", "Settings"),
)
#: What may follow a login: a page of our own.
_OWN = re.compile(r"/(?:[A-Za-z0-9_?=&%.+:~-][A-Za-z0-9_/?=&%.+:~-]*)?")


@dataclass(frozen=True)
class Answers:
    site: Site
    rules: Rules
    sessions: Sessions
    door: Door

    def page(
        self, request: Request, template: str, code: int = 200, /, **values: Any
    ) -> Response:
        """A whole page; with *name*, of that crawl."""
        note_name = self.rules.cookie("note")
        note = self.sessions.read_note(request.cookies.get(note_name, ""))
        session = session_of(request)
        values = {"name": None, "live": None, "title": None, **values}
        html = self.site.templates.render(
            template,
            **values,
            note=note,
            pages=_PAGES,
            path=request.scope["path"],
            read_only=self.rules.read_only,
            token=self.sessions.token(session),
            where=self.site.where,
            can_leave=bool(self.rules.password) and session.is_in,
        )
        response = HTMLResponse(html, code)
        if code == 503 and request.method != "POST":
            response.headers["refresh"] = str(_AGAIN)
        if note:
            self._set_cookie(response, "note", "", 0)
        return response

    def live_page(
        self,
        request: Request,
        template: str,
        parts: Mapping[str, str],
        live: str,
        **values: Any,
    ) -> Response:
        """A page whose *parts* stay up to date, by the events at *live*."""
        # At first there is nothing to be seen yet.
        code = 200 if len(parts) > 1 else 503
        return self.page(request, template, code, parts=parts, live=live, **values)

    def noted(self, path: str, text: str) -> Response:
        """The page at *path*, which says *text*."""
        response = RedirectResponse(path, 303)
        self._set_cookie(response, "note", self.sessions.write_note(text), int(NOTE))
        return response

    def _set_cookie(
        self, response: Response, name: str, value: str, seconds: int | None = None
    ) -> None:
        cookie = self.rules.set_cookie(name, value, seconds)
        response.headers.append("set-cookie", cookie)

    def check_token(self, request: Request, form: Form) -> None:
        """Raise HTTPException for a form that is not of this session."""
        if not self.sessions.is_token(session_of(request), form.get("token")):
            raise HTTPException(
                403,
                "This form is too old, or of another session. Go back, load the page"
                " again, and send it once more.",
            )

    # In and out

    def is_in(self, request: Request) -> bool:
        """Whether who sent *request*, which has passed, may still see what it asks for."""
        return not self.rules.password or self.sessions.lives(session_of(request))

    async def show_login(self, request: Request) -> Response:
        if not self.rules.password or session_of(request).is_in:
            return RedirectResponse("/", 303)
        wanted = request.query_params.get("next", "/")
        return self.page(request, "login.html", wanted=wanted, problem="")

    async def login(self, request: Request) -> Response:
        # Anybody may send it.
        form = await read_form(request, MAX_FORM)
        self.check_token(request, form)
        address = address_of(request)
        wanted = form.get("next")
        if wait := self.door.wait(address):
            problem = f"Too many wrong passwords. Wait {age(wait + 1)}, then try again."
            answer = self.page(
                request, "login.html", 429, wanted=wanted, problem=problem
            )
            answer.headers.update(retry_after(wait))
            return answer
        if not self.door.opens(form.get("password"), address):
            problem = "This is not the password."
            return self.page(request, "login.html", 403, wanted=wanted, problem=problem)
        # Another id than before: somebody may have planted that one.
        session = self.sessions.new(is_in=True)
        response = RedirectResponse(wanted if _OWN.fullmatch(wanted) else "/", 303)
        self._set_cookie(response, "session", self.sessions.write(session))
        return response

    async def logout(self, request: Request) -> Response:
        self.check_token(request, await read_form(request))
        self.sessions.end(session_of(request))
        response = RedirectResponse("/login", 303)
        self._set_cookie(response, "session", "", 0)
        return response

    # Errors

    async def frontier_error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, UnknownTask):
            return self._error(request, 404, "Not found", str(error))
        if not isinstance(error, (EmbeddedRedisError, RedisUnavailable)):
            return self._error(request, 400, "That cannot be done", str(error))
        title = "Redis is away"
        if request.method == "POST":
            title += ": it is not known what was done"
        return self._error(request, 503, title, str(error))

    async def http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = {403: "Not allowed", 404: "Not found"}.get(error.status_code, "Refused")
        return self._error(request, error.status_code, title, error.detail)

    async def own_error(self, request: Request, error: Exception) -> Response:
        text = "This page has a mistake. More is told where it was started."
        return self._error(request, 500, "Something is wrong here", text)

    def _error(self, request: Request, code: int, title: str, text: str) -> Response:
        return self.page(
            request,
            "error.html",
            code,
            title=title,
            text=clean(text, 2000),
            again=_AGAIN if code == 503 and request.method != "POST" else 0,
        )
