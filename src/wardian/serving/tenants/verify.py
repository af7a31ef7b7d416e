"""From a signed tenants list to one that is believed: `verify_tenants` alone makes it."""

import ssl
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from wardian._internal.agreed import Tenants
from wardian.crypto.signing import verify_signature
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError, PolicyDenied
from wardian.serving.tenants.lists import (
    SignedTenants,
    TenantList,
    parse_tenants,
    tenants_digest,
    tenants_signed_bytes,
)

MAX_AHEAD_S: Final = 86_400
"""By how much a list may be issued after the reader's clock: the reader's may be behind by as long
as a certificate lasts, and no certificate lasts longer than a day."""
_VERIFIED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTenants:
    """A list whose signatures `verify_tenants` found good; nothing else constructs one."""

    tenants: TenantList
    digest: bytes
    """SHA-256 (32 bytes) of the signed bytes."""
    ends_at: int
    """The first second (Unix) at which it holds no more."""
    proof: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.proof is not _VERIFIED:
            raise LocalProtocolError("only verify_tenants makes a VerifiedTenants")


def verify_tenants(
    signed: SignedTenants, *, terms: Tenants, mesh: str, now: int
) -> VerifiedTenants:
    """Return the list that enough of the signers signed for `mesh`, in its time.

    Says nothing about whether it may follow another: see `roster.Roster.adopt`.

    Args:
        signed: untrusted.
        terms: `[tenants]` of the measured `wardian.toml`.
        mesh: the name of the mesh.
        now: Unix seconds.

    Raises:
        FormatError: not a canonical list, or a certificate in it is none.
        AuthenticationFailed: a signature is wrong.
        PolicyDenied: see the rules in `docs/reference/tenants-file.md`.
    """
    tenants = parse_tenants(signed)
    if tenants.mesh != mesh:
        raise PolicyDenied("the tenants list is of another mesh", rule="tenants-mesh")
    _verify_signers(signed, terms=terms)
    verify_tenants_content(tenants)
    ends_at = _verify_time(tenants, max_age_s=terms.max_age_s, now=now)
    return VerifiedTenants(
        tenants=tenants, digest=tenants_digest(signed), ends_at=ends_at, proof=_VERIFIED
    )


def verify_tenants_content(tenants: TenantList) -> None:
    """Return if `tenants` does not contradict itself: what can be asked before anybody signs.

    Raises:
        FormatError: a certificate is none.
        PolicyDenied: a name or a credential stands twice, or a tenant has both kinds of models, or
            neither.
    """
    each = tenants.tenants
    if len({tenant.name for tenant in each}) < len(each):
        raise PolicyDenied("the tenants list names one tenant twice", rule="tenants-once")
    keys = Counter(key for tenant in each for key in tenant.keys)
    shown = Counter(certificate for tenant in each for certificate in tenant.certificates)
    if max((*keys.values(), *shown.values()), default=1) > 1:
        raise PolicyDenied(
            "the tenants list gives one key or certificate twice", rule="tenants-credential-once"
        )
    for tenant in each:
        if bool(tenant.models) is tenant.all:
            raise PolicyDenied(
                f"tenant {tenant.name}: expected either models or all = true", rule="tenants-models"
            )
    load_anchors(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tuple(shown))


def load_anchors(context: ssl.SSLContext, certificates: tuple[bytes, ...]) -> None:
    """Let `context` accept exactly `certificates`, DER, each as its own anchor.

    Raises:
        FormatError: one is no certificate.
    """
    for certificate in certificates:
        try:
            context.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError) as err:
            raise FormatError("tenants list: a certificate is not one X.509 in DER") from err


def _verify_signers(signed: SignedTenants, *, terms: Tenants) -> None:
    """Return if the signers are all known, each once, and at least the threshold."""
    signers = tuple(each.signer for each in signed.signatures)
    if not signers:
        raise PolicyDenied("the tenants list is not signed", rule="tenants-signed")
    if not frozenset(terms.signers).issuperset(signers):
        raise PolicyDenied(
            "the tenants list is signed by someone who is no signer in wardian.toml",
            rule="tenants-signer",
        )
    if len(set(signers)) != len(signers):
        raise PolicyDenied("the tenants list is signed by one twice", rule="tenants-signer-once")
    message = tenants_signed_bytes(signed.tenants)
    for each in signed.signatures:
        try:
            verify_signature(bytes.fromhex(each.signer), bytes.fromhex(each.signature), message)
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the tenants list is not what its signer signed: the signature is wrong"
            ) from err
    if len(signers) < terms.threshold:
        raise PolicyDenied(
            "fewer signed the tenants list than wardian.toml demands", rule="tenants-threshold"
        )


def _verify_time(tenants: TenantList, *, max_age_s: int, now: int) -> int:
    """Return when `tenants` ends, which has not come yet."""
    if tenants.issued > now + MAX_AHEAD_S:
        raise PolicyDenied("the tenants list was issued in the future", rule="tenants-issued")
    ends_at = min(tenants.not_after + 1, tenants.issued + max_age_s)
    if now >= ends_at:
        raise PolicyDenied("the tenants list is over: sign a new one", rule="tenants-expired")
    return ends_at
