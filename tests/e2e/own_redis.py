"""A real Redis with the files that a broker gave, and who speaks to it, rightly or wrongly."""

import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from wardian.broker.certificates import build_csr, chain_pem, parse_csr
from wardian.broker.infrastructure.ca import InfrastructureCa
from wardian.broker.infrastructure.keeping import Infrastructure
from wardian.broker.infrastructure.messages import QueueFiles
from wardian.cli.redis.files import AUTHORITY, CONF, USERS, ServerPlace, write_files
from wardian.cli.resolving import free_port
from wardian.crypto.tls_keys import TlsKey, load_identity

HOST = "127.0.0.1"


def command(*words: str | bytes) -> bytes:
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


class RedisServer:
    """`redis-server` with the files of a broker's infrastructure, in a directory of its own."""

    def __init__(
        self, program: str, directory: Path, infrastructure: Infrastructure, **changes: str
    ) -> None:
        """Write the files; `changes` replace words of redis.conf."""
        self.program, self.directory = program, directory
        self.port = free_port([HOST])
        directory.mkdir(mode=0o700, exist_ok=True)
        key = TlsKey.generate()
        request = parse_csr(build_csr(key, names=(HOST, "localhost")))
        certificate, ca, acl = infrastructure.server_files(request)
        files = QueueFiles(certificate=certificate, infrastructure_ca=ca, users_acl=acl)
        write_files(directory, key, files, ServerPlace(listen=(HOST,), port=self.port))
        conf = (directory / CONF).read_text()
        for old, new in changes.items():
            conf = conf.replace(old, new)
        (directory / CONF).write_text(conf)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "RedisServer":
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [self.program, str(self.directory / CONF)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if b"Ready to accept" in (self.directory / "log").read_bytes():
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.stop()
        raise RuntimeError((self.directory / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def ca(self) -> Path:
        return self.directory / AUTHORITY

    @property
    def users(self) -> str:
        return (self.directory / USERS).read_text()


class Caller:
    """A connection to Redis as a role, or a stranger, makes it; commands and replies, one by one."""

    def __init__(self, port: int, *, context: ssl.SSLContext | None, name: str = HOST) -> None:
        plain = socket.create_connection((HOST, port), timeout=10)
        try:
            self.socket = (
                plain if context is None else context.wrap_socket(plain, server_hostname=name)
            )
        except BaseException:
            plain.close()
            raise
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, *words: str | bytes) -> Any:
        """Send one command and return the reply; an error comes as a string."""
        self.socket.sendall(command(*words))
        return self._reply()

    def _line(self) -> bytes:
        while b"\r\n" not in self._rest:
            self._more()
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def _more(self) -> None:
        found = self.socket.recv(65536)
        if not found:
            raise ConnectionError("closed")
        self._rest += found

    def _reply(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            while len(self._rest) < size + 2:
                self._more()
            value, self._rest = self._rest[:size], self._rest[size + 2 :]
            return value
        if kind == b"*":
            return None if int(rest) < 0 else [self._reply() for _ in range(int(rest))]
        return rest


def context_for(
    ca: bytes | None, identity: tuple[bytes, TlsKey] | None, *, version: Any = None
) -> ssl.SSLContext:
    """Return a client's context: which authority (DER) it trusts, and what it shows (PEM, key)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=ca)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if identity is not None:
        load_identity(context, *identity)
    return context


def foreign_identity(role: str = "frontend") -> tuple[bytes, TlsKey]:
    """Return a client certificate of another infrastructure CA."""
    key, now = TlsKey.generate(), int(time.time())
    ca = InfrastructureCa.create(mesh="other", simulated=True, now=now)
    request = parse_csr(build_csr(key))
    return chain_pem((ca.issue_client(request, role=role, now=now, life_s=600),)), key
