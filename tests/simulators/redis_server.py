"""A real redis-server on loopback: TLS 1.3 with client certificates, one ACL user a role.

The certificates are of a CA that a test makes; those who start it may break each part of it.
"""

import contextlib
import datetime as dt
import hashlib
import ipaddress
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wardian.broker.infrastructure.acl import COMMANDS
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_access import RedisAccess

MESH = "test"
NAME = "redis.wardian.test"
PASSWORDS = {
    "frontend": "f0" * 32,
    "worker": "ab" * 32,
    "zoo": "20" * 32,
    "prober": "cd" * 32,
}
KEYS = f"~{{wardian:{MESH}}}:*"
USERS = {
    **{role: " ".join(f"+{each}" for each in allowed) for role, allowed in COMMANDS.items()},
    "prober": "+@all",  # the tests' own eyes and hands
}
_HOUR = dt.timedelta(hours=1)


class InfrastructureCa:
    """A CA for infrastructure, as the broker has one."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test infrastructure")])
        self.certificate = self._sign(
            self.key.public_key(),
            self.name,
            [(x509.BasicConstraints(ca=True, path_length=0), True)],
            (-24, 24),
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server(
        self, *, name: str = NAME, hours: tuple[float, float] = (-1, 24)
    ) -> tuple[bytes, bytes]:
        """Return certificate and key of a server, PEM."""
        key = TlsKey.generate()
        return self.chain(key, name, hours), key.private_pem().reveal()

    def chain(self, key: TlsKey, name: str, hours: tuple[float, float] = (-1, 24)) -> bytes:
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        usage = x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName([alternative]), False),
            (usage, False),
        ]
        public = key.private_key.public_key()
        return self._sign(public, subject, extensions, hours).public_bytes(
            serialization.Encoding.PEM
        )

    def _sign(self, public, subject, extensions, hours) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self.name,
            subject_name=subject,
            public_key=public,
            serial_number=x509.random_serial_number(),
            not_valid_before=now + hours[0] * _HOUR,
            not_valid_after=now + hours[1] * _HOUR,
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
            critical=False,
        ).add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def access(
    ca: InfrastructureCa, *ports: int, role: str = "frontend", sentinel: str | None = None
) -> RedisAccess:
    """Return how `role` reaches the Redis on `ports` of loopback."""
    key = TlsKey.generate()
    return RedisAccess(
        addresses=tuple(Address(host="127.0.0.1", port=port) for port in ports),
        server_name=NAME,
        username=role,
        password=Secret(PASSWORDS[role].encode()),
        ca_der=ca.der,
        certificate_chain_pem=ca.chain(key, role),
        key=key,
        mesh=MESH,
        sentinel=sentinel,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class RedisServer:
    """A redis-server below `directory`; started and killed at will, always on the same port."""

    program: str
    directory: Path
    ca: InfrastructureCa = field(default_factory=InfrastructureCa)
    settings: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        certificate, key = self.ca.server()
        self.write("server.pem", certificate)
        self.write("server.key", key)
        self.write("ca.pem", self.ca.pem)
        lines = ["user default off"] + [
            f"user {name} on #{hashlib.sha256(PASSWORDS[name].encode()).hexdigest()} "
            f"{KEYS} -@all {rights}"
            for name, rights in USERS.items()
        ]
        self.write("users.acl", "\n".join(lines).encode() + b"\n")

    def write(self, name: str, content: bytes) -> None:
        (self.directory / name).write_bytes(content)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def config(self) -> str:
        lines = [
            "bind 127.0.0.1", "port 0", f"tls-port {self.port}", 'tls-protocols "TLSv1.3"',
            f"tls-cert-file {self.path('server.pem')}", f"tls-key-file {self.path('server.key')}",
            f"tls-ca-cert-file {self.path('ca.pem')}", "tls-auth-clients yes",
            f"aclfile {self.path('users.acl')}", f"dir {self.directory}", "daemonize no",
            'save ""', "appendonly no", "maxmemory 256mb", "maxmemory-policy noeviction",
            *self.settings,
        ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def start(self) -> "RedisServer":
        self.write("redis.conf", self.config().encode())
        with (self.directory / "redis.log").open("ab") as sink:
            self.process = subprocess.Popen(
                [self.program, self.path("redis.conf")], stdout=sink, stderr=sink
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            time.sleep(0.02)
        raise AssertionError((self.directory / "redis.log").read_text()[-2000:])

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            os.kill(self.process.pid, number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                self.process.wait()
                self.process = None

    def access(self, role: str = "frontend", *, port: int | None = None) -> RedisAccess:
        return access(self.ca, port or self.port, role=role)

    def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
            self.kill()
