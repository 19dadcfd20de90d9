"""Who may see and change what: sessions, the password, the name of the host, headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

#: Seconds that a session lasts, and that a note for the next page does.
SESSION, NOTE = 12 * 3600.0, 60.0
#: Bytes of the longest cookie that is looked at.
_MAX_COOKIE = 3000
#: Bytes of the longest note.
_MAX_NOTE = 1800
#: Sessions that are remembered as ended, and addresses with wrong passwords.
_REMEMBERED = 1000
#: Wrong passwords of one address, and of all together, that have no consequence.
_FREE, _FREE_OF_ALL = 4, 40
#: Seconds of the first wait, and of the longest; each is twice the one before.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 300.0
#: Seconds after which wrong passwords are forgotten.
_FORGIVEN = 900.0
#: Names of this machine that only it itself understands so.
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_HOST = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?"
)

#: All that a page needs comes from here, and nothing of it is written into the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)


@dataclass(frozen=True)
class Rules:
    """How a page is protected.

    *password*: '' for none. *names*: how the page may be called in the header Host; with
    *any_address* also each address in numbers, which nobody can point elsewhere. *https*:
    what serves it to people speaks HTTPS. *port*: that it is served at.
    """

    password: str = ""
    read_only: bool = False
    names: frozenset[str] = LOCAL_NAMES
    any_address: bool = False
    https: bool = False
    port: int = 0

    def knows_host(self, header: str) -> bool:
        """Whether *header*, of a request, is a name of this page."""
        found = _HOST.fullmatch(header)
        if not found:
            return False
        name = (found[1] or found[2]).lower().rstrip(".")
        return name in self.names or (self.any_address and _is_address(name))

    def cookie(self, name: str) -> str:
        """The whole name of a cookie; browsers share them between ports."""
        prefix = "__Host-" if self.https else ""
        return f"{prefix}frontier-{name}-{self.port}"

    def set_cookie(self, name: str, value: str, seconds: int | None = None) -> str:
        """The header that gives a browser the cookie; without *seconds* until it ends."""
        age = "" if seconds is None else f"; Max-Age={seconds}"
        secure = "; Secure" if self.https else ""
        rest = f"{age}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return f"{self.cookie(name)}={value}{rest}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_own_origin(
    origin: str | None, site: str | None, host: str, *, https: bool
) -> bool:
    """Whether a request comes of our own pages, as far as its browser says.

    *origin* and *site* are the headers Origin and Sec-Fetch-Site. By our own Referrer-Policy
    browsers say "null" as the origin of our forms: the token in them decides then.
    """
    if site not in (None, "same-origin", "none"):
        return False
    scheme = "https" if https else "http"
    return origin in (None, "null", f"{scheme}://{host}")


@dataclass(frozen=True)
class Session:
    """One browser; *since* in seconds of the clock, *is_in*: the password was right."""

    id: str
    since: float
    is_in: bool


class Sessions:
    """Sessions and notes, which browsers keep in cookies that are signed.

    The key is made anew with each process: a restart ends all sessions.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._ended: OrderedDict[str, None] = OrderedDict()

    def _mac(self, purpose: str, text: str) -> str:
        data = f"{purpose}:{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, data, hashlib.sha256).hexdigest()

    def _sign(self, purpose: str, value: object) -> str:
        data = json.dumps(value, ensure_ascii=False).encode()
        body = base64.urlsafe_b64encode(data).decode().rstrip("=")
        return f"{body}.{self._mac(purpose, body)}"

    def _open(self, purpose: str, cookie: str) -> list[object] | None:
        body, dot, mac = cookie.partition(".")
        if not dot or len(cookie) > _MAX_COOKIE:
            return None
        mac_bytes = mac.encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(mac_bytes, self._mac(purpose, body).encode()):
            return None
        value = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return value if isinstance(value, list) else None

    def new(self, *, is_in: bool) -> Session:
        return Session(secrets.token_hex(16), self._clock(), is_in)

    def write(self, session: Session) -> str:
        """What the browser keeps."""
        return self._sign("session", [session.id, session.since, session.is_in])

    def read(self, cookie: str) -> Session | None:
        """The session of *cookie*; None if it is not ours, or has ended."""
        match self._open("session", cookie):
            case [str(id_), float(since), bool(is_in)]:
                session = Session(id_, since, is_in)
                if self.lives(session):
                    return session
        return None

    def lives(self, session: Session) -> bool:
        """Whether *session* has not ended."""
        age = self._clock() - session.since
        return 0 <= age < SESSION and session.id not in self._ended

    def end(self, session: Session) -> None:
        """Accept *session* no more, wherever its cookie was copied to."""
        self._ended[session.id] = None
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def token(self, session: Session) -> str:
        """What forms of *session* carry."""
        return self._mac("form", session.id)

    def is_token(self, session: Session, token: str) -> bool:
        given = token.encode("utf-8", "surrogatepass")
        return hmac.compare_digest(given, self.token(session).encode())

    def write_note(self, text: str) -> str:
        """*text* for the next page."""
        # Browsers refuse large cookies, and letters are not all of one byte.
        data = text[:500].encode("utf-8", "replace")[:_MAX_NOTE]
        return self._sign("note", [self._clock(), data.decode("utf-8", "ignore")])

    def read_note(self, cookie: str) -> str:
        """The text of *cookie*; '' if it is not ours, or old."""
        match self._open("note", cookie):
            case [float(since), str(text)]:
                return text if 0 <= self._clock() - since < NOTE else ""
        return ""


@dataclass
class _Wrong:
    count: int = 0
    last: float = 0.0
    until: float = 0.0


@dataclass
class Door:
    """The password, and how long somebody has to wait after wrong ones.

    An address that has been wrong some times waits longer each time; so do all, if all
    together have been wrong often.
    """

    password: str
    clock: Callable[[], float] = time.monotonic
    _of: OrderedDict[str, _Wrong] = field(default_factory=OrderedDict)
    _all: _Wrong = field(default_factory=_Wrong)

    def wait(self, address: str) -> float:
        """Seconds until a password of *address* is looked at; 0.0: now."""
        own = self._of.get(_network(address))
        until = max(self._all.until, own.until if own else 0.0)
        return max(0.0, until - self.clock())

    def opens(self, password: str, address: str) -> bool:
        """Whether *password* is right; only to be asked where there is no `wait`."""
        given, right = (
            hashlib.sha256(each.encode("utf-8", "surrogatepass")).digest()
            for each in (password, self.password)
        )
        name = _network(address)
        if bool(self.password) and hmac.compare_digest(given, right):
            self._of.pop(name, None)
            return True
        own = self._of.setdefault(name, _Wrong())
        self._of.move_to_end(name)
        if len(self._of) > _REMEMBERED:
            self._of.popitem(last=False)
        self._count(own, _FREE)
        self._count(self._all, _FREE_OF_ALL)
        return False

    def _count(self, wrong: _Wrong, free: int) -> None:
        now = self.clock()
        if now - wrong.last > _FORGIVEN:
            wrong.count = 0
        wrong.count, wrong.last = wrong.count + 1, now
        if wrong.count >= free:
            doubled = _FIRST_WAIT * 2.0 ** min(wrong.count - free, 20)
            wrong.until = now + min(doubled, _LONGEST_WAIT)


def _network(address: str) -> str:
    """*address*, or of IPv6 the network that one customer has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))


def names_of(host: str, allowed: Collection[str]) -> frozenset[str]:
    """How a page that is served at *host* may be called, besides *allowed*."""
    own = {host.lower().strip("[]")} - {"0.0.0.0", "::", ""}  # noqa: S104  no binding
    return LOCAL_NAMES | own | {name.lower().strip("[]") for name in allowed}
