"""The first byte of all that a frontier keeps: it says what the rest is."""

from __future__ import annotations

#: A seed as it was pushed; a request in MessagePack (``compact``); what another
#: serializer wrote; a signature and one of the others (``seal``).
SEED, MSGPACK, OTHER, SIGNED = b"\x00", b"\x01", b"\x02", b"\x03"
#: In front of one of these: 16 hex digits, the token of the task that it is of.
TASK = b"\x04"
#: A request in JSON or in a pickle, which begin so by themselves.
JSON, PICKLE = b"{", b"\x80"
#: What they are, for people.
KINDS = {
    SEED: "a raw seed",
    MSGPACK: "MessagePack",
    OTHER: "the work of another serializer",
    JSON: "JSON",
    PICKLE: "a pickle",
}
