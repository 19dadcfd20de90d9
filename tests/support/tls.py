"""Certificates made on the spot, and servers on loopback that speak TLS or lie."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections import Counter
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates; its own is in the file ``path``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._number = 0
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        builder = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()),
                critical=False,
            )
        )
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    def certificate(self, *names: str) -> tuple[Path, Path]:
        """Certificate and key of a server that is called *names*."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
        known = [
            x509.IPAddress(ipaddress.ip_address(name))
            if name[0].isdecimal()
            else x509.DNSName(name)
            for name in names
        ]
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._key.public_key()
        )
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(known), critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._number += 1
        stem = f"{self.path.stem}-{self._number}"
        paths = (self._folder / f"{stem}.pem", self._folder / f"{stem}-key.pem")
        paths[0].write_bytes(certificate.public_bytes(_PEM))
        paths[1].write_bytes(
            key.private_bytes(
                _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


class _Server:
    """Serves each connection to ``port`` in a thread."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._socket.close()


class TlsProxy(_Server):
    """Speaks TLS in front of a server that does not, as 127.0.0.1 or as *names*.

    ``authority`` is the file of whoever signed its certificate. ``met`` counts the
    handshakes that were completed.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        authority: Authority | None = None,
        names: tuple[str, ...] = ("127.0.0.1",),
    ) -> None:
        authority = authority or Authority(folder)
        self.authority = authority.path
        self.met = 0
        self._target = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.certificate(*names))
        super().__init__()

    def _serve(self, plain: socket.socket) -> None:
        try:
            secure = self._context.wrap_socket(plain, server_side=True)
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            plain.close()
            return
        back = threading.Thread(target=self._pump, args=(server, secure), daemon=True)
        back.start()
        self._pump(secure, server)
        back.join()
        secure.close()
        server.close()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.met += 1
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Scripted(_Server):
    """Speaks just enough of Redis' protocol to be asked.

    *answer* gets the words of each command, and whether RESP3 is spoken; it returns a
    reply as bytes, or None for ``+OK``. ``asked`` counts the commands, the first word of
    each.
    """

    def __init__(self, answer: Callable[[list[str], bool], bytes | None]) -> None:
        self._answer = answer
        self.asked: Counter[str] = Counter()
        super().__init__()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), plain, plain.makefile("rb") as f:
            new = False
            while head := f.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int(f.readline()[1:])
                    words.append(f.read(size + 2)[:-2].decode())
                self.asked[words[0].upper()] += 1
                if words[0].upper() == "HELLO":
                    new = True
                    plain.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n")
                else:
                    plain.sendall(self._answer(words, new) or b"+OK\r\n")


def sentinel_of(host: str, port: int, master: str = "shop") -> Scripted:
    """A sentinel that says that *master* is at *host* and *port*."""
    info = {
        "name": master,
        "ip": host,
        "port": str(port),
        "flags": "master",
        "num-slaves": "0",
        "num-other-sentinels": "0",
        "quorum": "1",
    }

    def answer(words: list[str], new: bool) -> bytes | None:
        if [word.upper() for word in words] != ["SENTINEL", "MASTERS"]:
            return None
        flat = [part.encode() for pair in info.items() for part in pair]
        head = b"%%%d" % len(info) if new else b"*%d" % len(flat)
        parts = [b"$%d\r\n%s" % (len(part), part) for part in flat]
        return b"\r\n".join([b"*1", head, *parts, b""])

    return Scripted(answer)
