"""The infrastructure CA and the roles' passwords, in the broker's state.

They are ordinary rows: a standby copies them, a handover and a recovery take them along. They are
made when somebody first asks, and committed with an audit line before they are used.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wardian.broker.authority import Authority
from wardian.broker.certificates import CertificateRequest
from wardian.broker.infrastructure.acl import COMMANDS, users_acl
from wardian.broker.infrastructure.ca import InfrastructureCa
from wardian.broker.infrastructure.grant import QueueGrant
from wardian.broker.state.store import Place
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import PolicyDenied

ROLE: Final = "infrastructure"
"""What stands in audit lines in the place of a role: what asks here has none."""
PASSWORD_BYTES: Final = 32

_PLACE: Final = "infrastructure"
_KEY: Final[Place] = (_PLACE, "key")
_CERTIFICATE: Final[Place] = (_PLACE, "certificate")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What the state has of it."""

    ca: InfrastructureCa
    passwords: Mapping[str, Secret] = field(repr=False)


class Infrastructure:
    """Gives access to Redis: to servers what they show, to roles what they say. One thread."""

    __slots__ = ("_authority",)

    def __init__(self, authority: Authority) -> None:
        """Give out of the state of `authority`."""
        self._authority = authority

    def grant(self, request: CertificateRequest, *, role: str) -> QueueGrant:
        """Return the access of an attested process, which the caller writes down.

        Args:
            request: for its TLS key.
            role: as attested.

        Raises:
            PolicyDenied: this role has no business there (rule `queue-access`).
            SealError: what had to be made cannot be made durable.
        """
        if role not in COMMANDS:
            raise PolicyDenied(f"a {role} has nothing to do with the queue", rule="queue-access")
        authority, kept = self._authority, self._kept()
        certificate = kept.ca.issue_client(
            request, role=role, now=authority.clock(), life_s=authority.lease_s
        )
        return QueueGrant(
            infrastructure_ca=kept.ca.certificate,
            certificate=certificate,
            username=role,
            password=kept.passwords[role],
        )

    def server_files(self, request: CertificateRequest) -> tuple[bytes, bytes, str]:
        """Return a server's certificate and the CA's (DER), and the text of its ACL file.

        Raises:
            PolicyDenied: see `InfrastructureCa.issue_server`.
            SealError: it cannot be written down; nothing is given.
        """
        authority, kept = self._authority, self._kept()
        certificate = kept.ca.issue_server(request, now=authority.clock())
        entry = authority.entry(
            event="release",
            outcome="granted",
            role=ROLE,
            kind="certificate",
            certificate=hashlib.sha256(certificate).hexdigest(),
        )
        authority.record([entry])
        return certificate, kept.ca.certificate, users_acl(authority.mesh, kept.passwords)

    def _kept(self) -> _Kept:
        """Return what is kept; what is not there yet is made, and kept, first."""
        store = self._authority.store
        key, certificate = store.get(*_KEY), store.get(*_CERTIFICATE)
        passwords = {role: store.get(*_password(role)) for role in COMMANDS}
        if key is None or certificate is None or None in passwords.values():
            self._make_missing()
            return self._kept()
        return _Kept(
            ca=InfrastructureCa(key=TlsKey.from_secret(Secret(key)), certificate=certificate),
            passwords={role: Secret(found) for role, found in passwords.items() if found},
        )

    def _make_missing(self) -> None:
        """Commit a CA if there is none, and a password for each role that has none."""
        authority = self._authority
        changes: dict[Place, bytes | None] = {
            _password(role): Secret.random(PASSWORD_BYTES).reveal().hex().encode()
            for role in COMMANDS
            if authority.store.get(*_password(role)) is None
        }
        if authority.store.get(*_KEY) is None or authority.store.get(*_CERTIFICATE) is None:
            ca = InfrastructureCa.create(
                mesh=authority.mesh, simulated=authority.simulated, now=authority.clock()
            )
            changes |= {_KEY: ca.to_secret().reveal(), _CERTIFICATE: ca.certificate}
        made = authority.entry(event="start", outcome="granted", role=ROLE, kind="certificate")
        authority.record([made], changes)


def _password(role: str) -> Place:
    return _PLACE, f"password-{role}"
