"""What each request has to pass before a page sees it, and each answer takes with it."""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse

from scrapy_dist.web.security import HEADERS, is_own_origin

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from scrapy_dist.web.security import Door, Rules, Session, Sessions

#: Where `session_of` finds it.
_SESSION = "frontier.session"
#: Pages that are there without a password.
_OPEN = frozenset({"/login", "/static/page.css", "/static/page.js", "/static/icon.svg"})
#: What programs and pages load besides.
_NO_COOKIES = ("/metrics", "/static/")
_READS = frozenset({"GET", "HEAD"})
_WRITES = frozenset({"POST"})


def session_of(connection: HTTPConnection) -> Session:
    """The session of a request that has passed."""
    session: Session = connection.scope[_SESSION]
    return session


def address_of(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


@dataclass(frozen=True)
class Guard:
    """Checks host, session, origin and method of a request before *app* gets it."""

    app: ASGIApp
    rules: Rules
    sessions: Sessions
    door: Door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # A websocket: nobody is at home.
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS:
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
                if new_session:
                    cookie = self.rules.set_cookie("session", new_session)
                    headers.append("set-cookie", cookie)
            await send(message)

        new_session = ""
        connection = HTTPConnection(scope)
        answer: ASGIApp | None = self._refuse(scope, connection)
        if answer is None:
            cookie = connection.cookies.get(self.rules.cookie("session"), "")
            session = self.sessions.read(cookie)
            if session is None:
                session = self.sessions.new(is_in=False)
                if not scope["path"].startswith(_NO_COOKIES):
                    new_session = self.sessions.write(session)
            scope[_SESSION] = session
            answer = self._keep_out(connection, session)
        await (answer or self.app)(scope, receive, send_guarded)

    def _refuse(self, scope: Scope, connection: HTTPConnection) -> Response | None:
        """What a request gets that no page of ours has sent."""
        headers: Headers = connection.headers
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.rules.knows_host(hosts[0]):
            return _said(
                400,
                "This page is not called so. Start it with --allowed-host NAME if it is"
                " to be reached by this name.",
            )
        method = scope["method"]
        if method in _READS:
            return None
        if method not in _WRITES:
            return _said(405, "There is nothing like this here.")
        if self.rules.read_only and scope["path"] not in ("/login", "/logout"):
            return _said(403, "This page only shows: it was started with --read-only.")
        if not is_own_origin(
            headers.get("origin"),
            headers.get("sec-fetch-site"),
            hosts[0],
            https=self.rules.https,
        ):
            return _said(403, "This form is of another site.")
        return None

    def _keep_out(
        self, connection: HTTPConnection, session: Session
    ) -> Response | None:
        """Where somebody has to go who has not said the password."""
        # Not of connection.url: some hosts and paths of strangers make no URL.
        path = connection.scope["path"]
        if not self.rules.password or session.is_in or path in _OPEN:
            return None
        if path == "/metrics":
            return self._check_basic(connection)
        if connection.scope["method"] in _WRITES or path.endswith("/live"):
            return _said(401, "Log in first.")
        query = connection.scope["query_string"].decode("latin-1")
        wanted = quote_plus(f"{path}?{query}" if query else path)
        return RedirectResponse(f"/login?next={wanted}", 303)

    def _check_basic(self, connection: HTTPConnection) -> Response | None:
        """Programs say the password with each request (RFC 7617), with any user name."""
        address = address_of(connection)
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        asked = {"www-authenticate": 'Basic realm="scrapy frontier"'}
        if scheme.lower() != "basic":
            return _said(401, "The password, please.", asked)
        if wait := self.door.wait(address):
            return _said(429, "Too many wrong passwords.", retry_after(wait))
        try:
            login = base64.b64decode(given, validate=True).decode()
        except (binascii.Error, ValueError):
            login = ""
        if not self.door.opens(login.partition(":")[2], address):
            return _said(401, "The password is wrong.", asked)
        return None


def retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(math.ceil(seconds))}


def _said(
    status: int, text: str, headers: dict[str, str] | None = None
) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", status, headers=headers)
