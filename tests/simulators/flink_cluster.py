"""A real Flink on this machine, with certificates of a CA as a mesh's infrastructure has it."""

import datetime as dt
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wardian.broker.certificates import chain_pem
from wardian.cli.engines.flink_files import write_flink_files
from wardian.cli.engines.infrastructure import Pair
from wardian.crypto.tls_keys import TlsKey
from wardian.engines import Supervisor
from wardian.engines.environment import default_python
from wardian.engines.flink.cluster import OwnCluster
from wardian.engines.flink.place import FlinkPlace, FlinkPorts

DAY = dt.timedelta(days=1)


def flink_python() -> Path:
    """Where Flink's environment is: as WARDIAN_FLINK_PYTHON says, or as `make flink` puts it."""
    named = os.environ.get("WARDIAN_FLINK_PYTHON")
    return Path(named) if named else default_python("flink")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Authority:
    """Signs a certificate for 127.0.0.1 for whoever asks, as a broker does."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "infrastructure")])
        self.certificate = self._sign(self.name, self.key.public_key(), ca=True)

    def pair(self, subject: str = "node") -> Pair:
        key = TlsKey.generate()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
        return Pair(key=key, certificate=self._sign(name, key.private_key.public_key(), ca=False))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool) -> bytes:
        now = dt.datetime.now(dt.UTC)
        usages = [x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH]
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(
                x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True
            )
        )
        if not ca:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            built = built.add_extension(x509.SubjectAlternativeName([address]), critical=False)
            built = built.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def own_place(directory: Path, authority: Authority) -> FlinkPlace:
    cluster = authority.pair("cluster")
    tls = write_flink_files(directory / "tls", cluster=cluster, client=authority.pair("client"))
    pem = cluster.key.private_pem().reveal() + chain_pem((cluster.certificate,))
    tls.path("cluster.pem").write_bytes(pem)  # of tests alone
    ports = FlinkPorts(rpc=free_port(), rest=free_port(), blobs=free_port())
    return FlinkPlace(python=flink_python(), directory=directory, tls=tls, mesh="test", ports=ports)


@asynccontextmanager
async def own_cluster(directory: Path) -> AsyncIterator[OwnCluster]:
    supervisor = Supervisor(
        on_line=lambda _name, _line: None, on_ended=lambda _: None, on_failed=lambda _: None
    )
    cluster = OwnCluster(own_place(directory, Authority()), supervisor)
    try:
        yield cluster
    finally:
        await supervisor.stop()
        cluster.close()
