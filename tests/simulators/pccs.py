"""A PCCS on loopback: it serves collateral as Intel's caching service does, and can misbehave.

    with FakePccs([platform.collateral()]) as pccs:
        PccsClient(parse_pccs(pccs.url)).fetch(model)

What is served may be changed at any time (`shelf`), and `mischief` gets each request before it is
answered. `answer_for` alone says what an honest answer is, without a socket.
"""

import contextlib
import datetime as dt
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typing_extensions import override

CHAINS = {
    "pckcrl": ("SGX-PCK-CRL-Issuer-Chain", "pck_crl_issuer_chain"),
    "tcb": ("TCB-Info-Issuer-Chain", "tcb_info_issuer_chain"),
    "qe/identity": ("SGX-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain"),
}


@dataclass(frozen=True)
class Reply:
    """What a service answers."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


NOT_FOUND = Reply(status=404, body=b"No cache data for this platform.")
Mischief = Callable[["Request", Reply], Reply | None]
"""Gets a request and its honest answer; returns another answer, or None if it has answered."""


def answer_for(shelf: Iterable[bytes], target: str) -> Reply:
    """Return what a PCCS that has the collateral in `shelf` answers to GET `target`."""
    url = urlsplit(target)
    _, tee, api, version, *rest = url.path.split("/")
    what = "/".join(rest)
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    if (api, version) != ("certification", "v4") or asked.get("update", "standard") not in {
        "standard",
        "early",
    }:
        return Reply(status=400, body=b"Invalid request parameters.")
    for parts in map(json.loads, shelf):
        if _fits(parts, tee, what, asked):
            return Reply(headers=_headers(parts, what), body=_body(parts, what))
    return NOT_FOUND


def _fits(parts: dict[str, Any], tee: str, what: str, asked: dict[str, str]) -> bool:
    tcb_info = json.loads(parts["tcb_info"])
    authority, *_ = x509.load_pem_x509_certificates(parts["pck_crl_issuer_chain"].encode())
    name = str(authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value).lower()
    return {
        "pckcrl": tee == "sgx" and asked.get("ca", "?") in name and asked.get("encoding") == "der",
        "rootcacrl": tee == "sgx",
        "tcb": (tee, asked.get("fmspc")) == (tcb_info["id"].lower(), tcb_info["fmspc"].upper()),
        "qe/identity": tee == tcb_info["id"].lower(),
    }.get(what, False)


def _headers(parts: dict[str, Any], what: str) -> tuple[tuple[str, str], ...]:
    if what not in CHAINS:
        return ()
    name, field = CHAINS[what]
    return (("Request-ID", "0" * 32), (name, quote(parts[field], safe="")))


def _body(parts: dict[str, Any], what: str) -> bytes:
    if what == "pckcrl":
        return bytes.fromhex(parts["pck_crl"])
    if what == "rootcacrl":
        return parts["root_ca_crl"].encode()
    name, field = ("tcbInfo", "tcb_info") if what == "tcb" else ("enclaveIdentity", "qe_identity")
    signature = parts[f"{field}_signature"]
    return f'{{"{name}":{parts[field]},"signature":"{signature}"}}'.encode()


class Request(BaseHTTPRequestHandler):
    """One request to a `FakePccs`."""

    server: "_Server"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        pccs = self.server.pccs
        pccs.asked.append(self.path)
        reply = answer_for(pccs.shelf, self.path)
        with contextlib.suppress(OSError):  # the client had enough
            answer = pccs.mischief(self, reply) if pccs.mischief else reply
            if answer is not None:
                self.answer(answer)

    def answer(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pccs: "FakePccs"

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients go away, that is what is tested."""


class FakePccs:
    """A PCCS, listening from `__enter__` to `__exit__`.

    Attributes:
        shelf: the collateral that it has, as `attestation.collateral.bundle` reads it.
        mischief: what it does instead of answering; None: it answers.
        asked: the path and query of each request so far.
    """

    def __init__(self, shelf: Iterable[bytes], *, tls: Path | None = None) -> None:
        """Serve `shelf`; with TLS if `tls` names a directory for a certificate of its own."""
        self.shelf = list(shelf)
        self.mischief: Mischief | None = None
        self.asked: list[str] = []
        self._tls = tls
        self._done = threading.Event()

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), Request)
        self._server.pccs = self
        if self._tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(_self_signed(self._tls))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_port}"

    def until_closed(self, pause_s: float) -> Iterator[None]:
        """Yield each `pause_s` seconds until the service is closed."""
        while not self._done.wait(pause_s):
            yield


# --- mischief ------------------------------------------------------------------------------------


def slow(pause_s: float = 0.02) -> Mischief:
    """One byte at a time, each well within a socket's timeout."""

    def play(request: Request, reply: Reply) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(reply.body)}\r\nX-Pad: ".encode()
        request.wfile.write(head)
        for _ in request.server.pccs.until_closed(pause_s):
            request.wfile.write(b"a")

    return play


def silent(request: Request, _reply: Reply) -> None:
    """Nothing at all."""
    for _ in request.server.pccs.until_closed(0.05):
        pass


def huge(request: Request, _reply: Reply) -> None:
    """Ten gigabytes, announced and begun."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
    for _ in request.server.pccs.until_closed(0.0):
        request.wfile.write(bytes(65536))


def endless_chunks(request: Request, _reply: Reply) -> None:
    """A body without an announced end."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in request.server.pccs.until_closed(0.0):
        request.wfile.write(b"4000\r\n" + bytes(0x4000) + b"\r\n")


def endless_headers(request: Request, _reply: Reply) -> None:
    """Interim answers, one after the other."""
    for _ in request.server.pccs.until_closed(0.0):
        request.wfile.write(b"HTTP/1.1 100 Continue\r\nX-Pad: " + b"a" * 1000 + b"\r\n\r\n")


def raw(content: bytes) -> Mischief:
    """Exactly these bytes."""

    def play(request: Request, _reply: Reply) -> None:
        request.wfile.write(content)
        request.close_connection = True

    return play


def redirect(location: str, status: int = 302) -> Mischief:
    """Somewhere else."""
    return lambda _request, _reply: Reply(status=status, headers=(("Location", location),))


def not_found(_request: Request, _reply: Reply) -> Reply:
    """As a PCCS says that it has nothing."""
    return NOT_FOUND


def instead(body: bytes) -> Mischief:
    """Another body under the honest headers."""
    return lambda _request, reply: replace(reply, body=body)


def with_headers(*headers: tuple[str, str]) -> Mischief:
    """These headers before the honest ones."""
    return lambda _request, reply: replace(reply, headers=(*headers, *reply.headers))


def after_a_pause(pause_s: float) -> Mischief:
    """The honest answer, late."""

    def play(_request: Request, reply: Reply) -> Reply:
        time.sleep(pause_s)
        return reply

    return play


def _self_signed(directory: Path) -> Path:
    """Return a file with a new key and the certificate that it made for itself, as a PCCS does."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a PCCS")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    path = directory / "pccs.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
