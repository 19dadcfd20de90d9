"""Signatures of what workers store, so that nothing of anybody else is decoded.

With FRONTIER_SECRET a payload is the byte 0x03, the first 16 bytes of an HMAC-SHA-256, and
what it would be without. The key of the HMAC is made of the secret and of the name of the
pending requests: a payload of one frontier is none of another. Raw seeds are plain text,
and anybody's. A signature does not tell when, or in which order: who can write to Redis can
still repeat, move and delete what was signed.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from scrapy_dist import defaults
from scrapy_dist.codec.envelope import SEED, SIGNED
from scrapy_dist.codec.policy import POLICY
from scrapy_dist.exceptions import BadPayload, ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

#: Field of S:state: what frontiers with the same secret have in common, see `Seal.check`.
FIELD = "signed"
#: Bytes of a signature.
_SIZE = 16
_HEAD = len(SIGNED) + _SIZE
#: Bytes that a signature adds.
ADDED = _HEAD
#: Characters of the shortest secret: its check value is there to be guessed at.
_LEAST = 16
_BLOCK = hashlib.sha256().block_size


class Seal:
    """Signs payloads of one frontier with *secret*; with b'' it leaves them as they are.

    *name* is the key of its pending requests.
    """

    def __init__(self, secret: bytes = b"", name: str = "") -> None:
        self.is_on = bool(secret)
        key = hmac.digest(secret, b"scrapy-dist " + name.encode(), "sha256")
        # The hashes of an HMAC's two padded keys: what follows costs half as much so.
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))
        #: Tells frontiers of other secrets, and says nothing of this one; '': no secret.
        self.check = hmac.digest(key, b"check", "sha256")[:_SIZE].hex()
        if not secret:
            self.check = ""

    @classmethod
    def from_settings(cls, settings: BaseSettings, name: str) -> Seal:
        """That of FRONTIER_SECRET. Raises ConfigurationError, which does not show it."""
        value: Any = settings.get("FRONTIER_SECRET", defaults.FRONTIER_SECRET)
        if value is None or value in ("", b""):
            return NO_SEAL
        if not isinstance(value, (str, bytes)) or len(value) < _LEAST:
            raise ConfigurationError(
                f"FRONTIER_SECRET is no text of at least {_LEAST} characters, and could be"
                " guessed. Make one: python -c 'import secrets;"
                " print(secrets.token_hex(32))'."
            )
        secret = value.encode("utf-8", "surrogatepass") if type(value) is str else value
        return cls(bytes(secret), name)  # type: ignore[arg-type]

    def sign(self, payload: bytes) -> bytes:
        """*payload* as it is stored; with a secret 17 bytes longer, after about 1 us."""
        if not self.is_on:
            return payload
        return b"%b%b%b" % (SIGNED, self._mac(payload), payload)

    def open(self, payload: bytes) -> bytes:
        """What ``sign`` made *payload* of. Raises BadPayload for what somebody else made.

        Raw seeds are what they are.
        """
        if self.is_on:
            if payload[:1] == SIGNED and hmac.compare_digest(
                payload[1:_HEAD], self._mac(payload[_HEAD:])
            ):
                return payload[_HEAD:]
            if payload[:1] == SEED:
                return payload
            raise BadPayload(
                "it is not signed with this frontier's FRONTIER_SECRET: somebody else has"
                " written it",
                cause=POLICY,
            )
        if payload[:1] == SIGNED:
            raise BadPayload(
                "it is signed, and FRONTIER_SECRET is not set",
                cause="signed",
                remedy="Set FRONTIER_SECRET to the secret of the workers that made them.",
            )
        return payload

    def shown(self, payload: bytes) -> bytes:
        """*payload* for those who show it: as ``open``, or what nobody can decode."""
        try:
            return self.open(payload)
        except BadPayload:
            return payload if payload[:1] == SIGNED else SIGNED + payload

    def _mac(self, payload: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(payload)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:_SIZE]


#: That of a frontier without FRONTIER_SECRET.
NO_SEAL = Seal()


def differ(ours: str, theirs: str, key: str) -> str:
    """Why who has the check value *ours* does not touch a frontier that has *theirs*.

    *key* is S:state; '' if they are the same.
    """
    if ours == theirs:
        return ""
    if not ours:
        return (
            f"The requests of this frontier are signed ({key}), and FRONTIER_SECRET is not"
            " set. Set it to the secret that its workers have, or forget that crawl:"
            " scrapy frontier clear."
        )
    if not theirs:
        return (
            f"FRONTIER_SECRET is set, and this frontier ({key}) is of a crawl without it,"
            " whose requests are not signed. Let workers without FRONTIER_SECRET finish"
            " it; or stop them, scrapy frontier export without the secret, clear, and"
            " import with it; or forget that crawl: scrapy frontier clear."
        )
    return (
        f"The requests of this frontier ({key}) are signed with another FRONTIER_SECRET"
        " than is set here. Set it to the secret that its workers have, or forget that"
        " crawl: scrapy frontier clear."
    )
