"""Who may see and change what."""

from __future__ import annotations

import asyncio
import base64
import time
from urllib.parse import quote, urlencode

import httpx
import pytest

from scrapy_dist.web import forms, security
from scrapy_dist.web.actions import ACTIONS
from scrapy_dist.web.security import Door, Rules, Sessions, names_of
from tests.unit.web.conftest import fill

PASSWORD = "correct horse"
LOCKED = Rules(password=PASSWORD, port=8765)
READS = ("/", "/live", "/crawl?crawl=s", "/crawl/live?crawl=s", "/crawl/failed?crawl=s")


def token(visitor):
    return visitor.page.css('input[name="token"]::attr(value)').get()


async def log_in(visitor, password=PASSWORD, path="/login"):
    await visitor.get(path)
    return await visitor.send("/login", password=password)


def scope_of(path):
    """What a server tells the application of a request that no client here can send."""
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "server": ("127.0.0.1", 8765),
        "client": ("127.0.0.1", 4711),
        "root_path": "",
        "http_version": "1.1",
    }


# The name of the host


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost:8765", 200),
        ("127.0.0.1:8765", 200),
        ("[::1]:8765", 200),
        ("LOCALHOST", 200),
        ("evil.example:8765", 400),
        ("localhost.evil.example", 400),
        ("10.0.0.1", 400),
        ("localhost@evil.example", 400),
        ("", 400),
    ],
)
async def test_the_page_answers_to_its_own_names_only(visit, host, code):
    visitor = visit()
    await visitor.get("/", headers={"host": host})
    assert visitor.code == code
    await visitor.get("/metrics", headers={"host": host})
    assert (visitor.code == 400) is (code == 400)


@pytest.mark.parametrize(
    ("host", "path"),
    [("[127.0.0.1]:8765", "/"), ("localhost", "["), ("localhost", "℀")],
)
async def test_hosts_and_paths_that_make_no_url_are_answered(visit, host, path):
    sent = []

    async def send(message):
        sent.append(message)

    scope = scope_of(path) | {"headers": [(b"host", host.encode())]}
    await visit().app(scope, None, send)
    assert sent[0]["status"] in (200, 404)


async def test_other_names_and_addresses_are_allowed_where_that_was_said(visit):
    rules = Rules(names=names_of("0.0.0.0", ["Crawls.example.org"]), any_address=True)
    visitor = visit(rules=rules)
    for host in ("crawls.example.org", "192.168.0.7:8765", "[fe80::1]:8765"):
        await visitor.get("/", headers={"host": host})
        assert visitor.code == 200, host
    await visitor.get("/", headers={"host": "evil.example"})
    assert visitor.code == 400


# Headers


@pytest.mark.parametrize(
    "path", ["/", "/static/page.js", "/nothing", "/metrics", "/live%"]
)
async def test_every_answer_has_the_headers_of_safety(visit, path):
    visitor = visit()
    for host in ("localhost", "evil.example"):
        await visitor.get(path, headers={"host": host})
        headers = visitor.answer.headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


async def test_cookies_are_strict(visit):
    visitor = visit(rules=Rules(https=True, port=1))
    await visitor.get("/")
    [cookie] = visitor.answer.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-frontier-session-1=")
    for word in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/"):
        assert word in cookie
    visitor = visit()
    await visitor.get("/")
    assert "Secure" not in visitor.answer.headers["set-cookie"]


# Forms


@pytest.mark.parametrize("action", [*(f"/crawl/{name}" for name in ACTIONS), "/logout"])
async def test_nothing_is_changed_without_the_token(client, visit, action):
    await fill(client, ["http://site.example/"])
    visitor = visit()
    await visitor.get("/crawl?crawl=s")
    other = visit(site=visitor.site, app=visitor.app)
    await other.get("/crawl?crawl=s")
    for wrong in ("", "x", "\udcff", token(other)):
        data = {"token": wrong.encode("utf-8", "replace"), "sure": "yes"}
        answer = await visitor.http.post(f"{action}?crawl=s", data=data)
        assert answer.status_code == 403


async def test_forms_of_other_sites_are_refused(client, visit):
    await fill(client, ["http://site.example/"])
    visitor = visit()
    await visitor.get("/crawl?crawl=s")
    data = {"token": token(visitor)}
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        answer = await visitor.http.post(
            "/crawl/pause?crawl=s", data=data, headers=headers
        )
        assert answer.status_code == 403
    for headers in ({"origin": "http://localhost:8765"}, {"origin": "null"}):
        answer = await visitor.http.post(
            "/crawl/pause?crawl=s", data=data, headers=headers
        )
        assert answer.status_code == 303


async def test_read_only_refuses_every_form(client, visit):
    await fill(client, ["http://site.example/"], reasons=["HTTP 500"])
    sessions = Sessions()
    rules = Rules(read_only=True)
    visitor = visit(rules=rules, read_only=True, sessions=sessions)
    for path in ("", "/failed", "/seeds", "/explain"):
        await visitor.get(f"/crawl{path}?crawl=s")
        assert visitor.code == 200
        assert not visitor.page.css('form[method="post"]')
        assert not visitor.page.css("tbody button")
    session = sessions.read(visitor.http.cookies["frontier-session-0"])
    for action in ACTIONS:
        data = {"sure": "yes", "token": sessions.token(session)}
        answer = await visitor.http.post(f"/crawl/{action}?crawl=s", data=data)
        assert answer.status_code == 403
        assert "--read-only" in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(visit, method):
    visitor = visit()
    assert (await visitor.http.request(method, "/")).status_code == 405


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("application/json", b"{}", 415),
        ("application/x-www-form-urlencoded", b"a=1&" * 2000, 400),
        ("application/x-www-form-urlencoded", b"a" * (forms.MAX_FORM + 1), 413),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nno head\r\n--x--", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 3000, 400),
        ("multipart/form-data; boundary=x", b"a" * (forms.MAX_UPLOAD + 1), 413),
    ],
)
async def test_what_is_no_form_or_too_large_is_refused(visit, kind, body, code):
    visitor = visit()
    headers = {"content-type": kind}
    answer = await visitor.http.post(
        "/crawl/seed?crawl=s", content=body, headers=headers
    )
    assert answer.status_code == code

    async def chunks():
        for at in range(0, len(body), 1 << 18):
            yield body[at : at + (1 << 18)]

    answer = await visitor.http.post(
        "/crawl/seed?crawl=s", content=chunks(), headers=headers
    )
    assert answer.status_code == code


async def test_who_is_not_in_cannot_send_what_takes_long_or_much_room(visit):
    visitor = visit(rules=LOCKED)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    head = b"--x\r\n" + b"form-data;" * (forms.MAX_FORM // 10 - 10) + b"\r\n\r\n"
    began = time.process_time()
    answer = await visitor.http.post("/login", content=head, headers=headers)
    assert answer.status_code == 400
    # It took hours.
    assert time.process_time() - began < 60
    answer = await visitor.http.post("/login", content=head * 2, headers=headers)
    assert answer.status_code == 413


async def test_a_form_that_does_not_arrive_is_given_up(visit, monkeypatch):
    monkeypatch.setattr(forms, "_PATIENCE", 0.01)

    async def never():
        yield b"a=1"
        await asyncio.sleep(60)

    visitor = visit()
    answer = await visitor.http.post(
        "/crawl/seed?crawl=s",
        content=never(),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 408


# The password


@pytest.mark.parametrize("path", READS)
async def test_nothing_is_shown_without_the_password(client, visit, path):
    await fill(client, ["http://site.example/"])
    visitor = visit(rules=LOCKED)
    await visitor.get(path)
    assert "site.example" not in visitor.answer.text
    if path.partition("?")[0].endswith("/live"):
        assert visitor.code == 401
    else:
        assert visitor.text("h1") == "Log in"
    answer = await visitor.http.post("/crawl/pause?crawl=s", data={"token": "x"})
    assert answer.status_code == 401


async def test_the_password_opens_and_leads_to_the_page_that_was_asked_for(
    client, visit
):
    await fill(client, ["http://site.example/"])
    visitor = visit(rules=LOCKED)
    await log_in(visitor, "wrong")
    assert visitor.code == 403
    assert "not the password" in visitor.text("main")
    before = visitor.http.cookies.get("frontier-session-8765")
    await log_in(visitor, path="/crawl/next?crawl=s")
    assert visitor.text("h1") == "Next requests"
    assert "site.example" in visitor.answer.text
    taken = visitor.http.cookies.get("frontier-session-8765")
    assert taken != before, "a session that somebody planted is not the one that is in"
    await visitor.send("/logout")
    assert visitor.text("h1") == "Log in"
    visitor.http.cookies.set("frontier-session-8765", taken)
    await visitor.get("/")
    assert visitor.text("h1") == "Log in", "a copy of the cookie has ended, too"


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example/",
        "http://evil.example",
        "/\\evil.example",
        "/\t/e",
        "javascript:x",
    ],
)
async def test_a_login_leads_to_pages_of_its_own_only(visit, wanted):
    visitor = visit(rules=LOCKED)
    await visitor.get("/login", params={"next": wanted})
    form = {"token": token(visitor), "next": wanted, "password": PASSWORD}
    answer = await visitor.http.post("/login", data=form)
    assert answer.headers["location"] == "/"


async def test_wrong_passwords_have_to_wait_longer_each_time():
    now = [0.0]
    door = Door(PASSWORD, clock=lambda: now[0])
    waits = []
    for _ in range(12):
        now[0] += door.wait("10.0.0.1")
        assert not door.opens("wrong", "10.0.0.1")
        waits.append(door.wait("10.0.0.1"))
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert door.wait("10.0.0.2") == 0, "others need not wait"
    assert door.opens(PASSWORD, "10.0.0.2")
    now[0] += 300
    assert door.opens(PASSWORD, "10.0.0.1")
    assert door.wait("10.0.0.1") == 0


async def test_many_addresses_have_to_wait_together():
    door = Door(PASSWORD, clock=lambda: 0.0)
    for i in range(50):
        door.opens("wrong", f"10.0.{i}.1")
    assert door.wait("10.9.9.9") > 60
    ones = [door.wait(f"2001:db8::{i}") for i in range(3)]
    assert len(set(ones)) == 1
    for i in range(5000):
        door.opens("wrong", f"2001:db8:{i:x}::1")
    assert len(door._of) <= 1000


async def test_a_page_refuses_passwords_while_one_has_to_wait(visit):
    visitor = visit(rules=LOCKED)
    for _ in range(4):
        await log_in(visitor, "wrong")
    await log_in(visitor)
    assert visitor.code == 429
    assert visitor.answer.headers["retry-after"]
    assert "Too many wrong passwords" in visitor.text("main")


async def test_prometheus_says_the_password_each_time(visit):
    async def read():
        return b"up 1\n"

    visitor = visit(rules=LOCKED, metrics=read)
    await visitor.get("/metrics")
    assert visitor.code == 401
    assert visitor.answer.headers["www-authenticate"].startswith("Basic")
    await visitor.get("/metrics", auth=httpx.BasicAuth("any", PASSWORD))
    assert (visitor.code, visitor.answer.text) == (200, "up 1\n")
    for given in ("Basic !", "Basic " + base64.b64encode(b"\xff").decode(), "Bearer x"):
        await visitor.get("/metrics", headers={"authorization": given})
        assert visitor.code == 401


# Sessions


def test_a_cookie_that_was_changed_is_no_session():
    now = [1000.0]
    sessions = Sessions(clock=lambda: now[0])
    session = sessions.new(is_in=True)
    cookie = sessions.write(session)
    assert sessions.read(cookie) == session
    body, _, mac = cookie.partition(".")
    planted = base64.urlsafe_b64encode(b'["x", 1000.0, true]').decode()
    for wrong in (
        f"{planted}.{mac}",
        f"{body}.",
        body,
        "",
        "." * 5000,
        f"{cookie}0",
        "ä.ö",
    ):
        assert sessions.read(wrong) is None
    assert Sessions().read(cookie) is None, "of another process"
    assert sessions.read_note(cookie) == "", "of another kind"
    now[0] += security.SESSION
    assert sessions.read(cookie) is None, "too old"


def test_sessions_that_have_ended_are_remembered_in_bounds():
    sessions = Sessions()
    many = [sessions.new(is_in=True) for _ in range(1500)]
    for session in many:
        sessions.end(session)
    assert sessions.read(sessions.write(many[-1])) is None
    assert len(sessions._ended) == 1000


async def test_websockets_are_not_for_us(visit):
    visitor = visit()
    sent = []

    async def send(message):
        sent.append(message)

    await visitor.app({"type": "websocket", "path": "/", "headers": []}, None, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


# Anything that a browser, or somebody who is none, may send

#: Values of every field.
STRANGE = [
    "",
    "\x00",
    "\udcff",
    "9" * 400,
    "-1",
    "1-1",
    "99999999999999999999-1",
    "all",
    "../../etc/passwd",
    "http://[",
    "http://site.example:port/",
    "javascript:alert(1)",
    "<script>",
    "a" * 5000,
    "\u202e",
    "{}",
    '{"url": "http://site.example/", "task": "x"}',
    "%00",
    "\r\nset-cookie: x=1",
]


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
async def test_strange_values_are_answered_in_order(client, visit, value):
    await fill(client, ["http://site.example/"], reasons=["HTTP 500"])
    visitor = visit()
    sent = value.encode("utf-8", "surrogateescape")
    names = ("reason", "before", "url", "batch", "state", "id", "next")
    for path in ("", "/failed", "/next", "/explain", "/seeds", "/tasks", "/task"):
        for crawl in ("s", sent):
            query = urlencode({"crawl": crawl, **dict.fromkeys(names, sent)})
            await visitor.get(f"/crawl{path}?{query}")
            assert visitor.code in (200, 400, 404)
    await visitor.get(f"/login?next={quote(sent)}")
    assert visitor.code == 200
    await visitor.get("/crawl/seeds?crawl=s")
    fields = ("worker", "id", "which", "reason", "url", "seeds", "priority", "sure")
    for action in ACTIONS:
        body = urlencode({"token": token(visitor), **dict.fromkeys(fields, sent)})
        answer = await visitor.http.post(
            f"/crawl/{action}?crawl=s",
            content=body,
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code in (200, 303, 400, 404), (action, answer.text)
        assert "x" not in answer.cookies
    headers = {
        "cookie": f"frontier-session-0={value.encode('ascii', 'replace').decode()}"
    }
    if value.isprintable():
        answer = await visitor.http.get("/", headers=headers)
        assert answer.status_code == 200


def test_a_note_of_any_letters_fits_into_a_cookie():
    sessions = Sessions()
    for text in (
        "x" * 600,
        "я" * 600,
        "漢" * 600,
        "🕷" * 600,
        '"\\' * 300,
        "\udcff" * 600,
    ):
        cookie = sessions.write_note(text)
        assert len(cookie) < 4000
        note = sessions.read_note(cookie)
        assert len(note) >= 400
        assert note[:400] == text[:400].replace("\udcff", "?")


async def test_a_page_that_stays_up_to_date_ends_with_its_session(visit, monkeypatch):
    monkeypatch.setattr("scrapy_dist.web.live._PING", 0.01)
    visitor = visit(rules=LOCKED)
    await log_in(visitor)
    [cookie] = (f"{name}={value}" for name, value in visitor.http.cookies.items())
    sent = []
    began = asyncio.Event()

    async def send(message):
        sent.append(message)
        if message.get("body"):
            began.set()
        await asyncio.sleep(0)

    scope = scope_of("/live") | {
        "headers": [(b"host", b"localhost"), (b"cookie", cookie.encode())]
    }
    stream = asyncio.ensure_future(visitor.app(scope, asyncio.Event().wait, send))
    await asyncio.wait_for(began.wait(), 30)
    assert sent[0]["status"] == 200
    await visitor.send("/logout")
    await asyncio.wait_for(stream, 30)
