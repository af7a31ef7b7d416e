"""What a role needs to reach the mesh's Redis, and the names of the keys that it uses there.

Redis is not attested: its certificate is of the mesh's infrastructure CA, which no role accepts for
anything else (TRUST T3). TLS, password and ACL keep strangers out of the host's service; nothing
that a role believes depends on them.
"""

import ssl
from dataclasses import dataclass, field
from typing import Final

from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey, load_identity
from wardian.errors import ConfigError
from wardian.serving.queue.frames import Address
from wardian.serving.queue.lease import Lane

GROUP: Final = b"w"
"""Name of the consumer group of every stream that workers read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAccess:
    """How to reach Redis, and as whom. Replaced as a whole when the certificate is renewed.

    Attributes:
        addresses: IP addresses and ports; the first that answers is used. Of the Sentinels where
            `sentinel` is set.
        server_name: which the server's certificate must carry, a DNS name or an IP address.
        username: ACL user, the name of the role.
        password: of that user, made by the broker.
        ca_der: certificate of the infrastructure CA, DER; no other is accepted.
        certificate_chain_pem: the client certificate, leaf first.
        key: of the client certificate.
        mesh: name of the mesh, which is part of every key.
        sentinel: name of the master that the Sentinels at `addresses` are asked for.
    """

    addresses: tuple[Address, ...]
    server_name: str
    username: str
    password: Secret = field(repr=False)
    ca_der: bytes = field(repr=False)
    certificate_chain_pem: bytes = field(repr=False)
    key: TlsKey = field(repr=False)
    mesh: str
    sentinel: str | None = None

    def tls(self) -> ssl.SSLContext:
        """Return the context of a client that shows its certificate: TLS 1.3 and nothing else.

        Raises:
            ConfigError: the CA's certificate does not parse.
            FormatError: the chain does not parse or is of another key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and name
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(cadata=self.ca_der)
        except (ssl.SSLError, ValueError) as err:
            raise ConfigError("the infrastructure CA's certificate is not X.509 in DER") from err
        load_identity(context, self.certificate_chain_pem, self.key)
        return context

    @property
    def keys(self) -> "Keys":
        """The names of this mesh's keys."""
        return Keys(self.mesh)


class Keys:
    """Names of keys. The hash tag in braces keeps them in one slot of a Redis Cluster."""

    __slots__ = ("_prefix",)

    def __init__(self, mesh: str) -> None:
        self._prefix = b"{wardian:%b}:" % mesh.encode()

    @property
    def lanes(self) -> bytes:
        """Set of the lanes that have workers, each as `MODEL:VERSION`."""
        return self._prefix + b"l"

    def lane(self, lane: Lane) -> bytes:
        """Stream of one lane's messages, which any of its workers takes."""
        return b"%bq:%b" % (self._prefix, lane_name(lane))

    def workers(self, lane: Lane) -> bytes:
        """Set of the workers of a lane."""
        return b"%bw:%b" % (self._prefix, lane_name(lane))

    def own(self, worker: bytes) -> bytes:
        """Stream of one worker alone."""
        return b"%bo:%b" % (self._prefix, worker)

    def presence(self, worker: bytes) -> bytes:
        """Credit of a worker, as long as it lives."""
        return b"%bp:%b" % (self._prefix, worker)

    def replies(self, front: bytes) -> bytes:
        """Stream of the answers to one front end."""
        return b"%br:%b" % (self._prefix, front)


def lane_name(lane: Lane) -> bytes:
    """Return `lane` as it stands in keys."""
    return b"%b:%d" % (lane.model.encode(), lane.version)
