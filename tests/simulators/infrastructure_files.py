"""The PEM files that a server of an engine has: certificates of a broker's infrastructure CA."""

import time
from pathlib import Path

from wardian.broker.certificates import build_csr, chain_pem, parse_csr
from wardian.broker.infrastructure.ca import InfrastructureCa
from wardian.crypto.tls_keys import TlsKey


def write_node_files(directory: Path, *, names: tuple[str, ...]) -> None:
    """Write `ca.pem`, the cluster's `node.{pem,key}`, and `sibling.{pem,key}` of the same CA."""
    now = int(time.time())
    ca = InfrastructureCa.create(mesh="m", simulated=True, now=now)
    (directory / "ca.pem").write_bytes(_pem(ca.certificate))
    for holder in ("node", "sibling"):
        key = TlsKey.generate()
        request = parse_csr(build_csr(key, names=tuple(dict.fromkeys(names))))
        (directory / f"{holder}.pem").write_bytes(_pem(ca.issue_server(request, now=now)))
        secret = directory / f"{holder}.key"
        secret.touch(mode=0o600)
        secret.write_bytes(key.private_pem().reveal())


def _pem(certificate: bytes) -> bytes:
    pem = chain_pem((certificate,))
    return pem if isinstance(pem, bytes) else pem.encode()
