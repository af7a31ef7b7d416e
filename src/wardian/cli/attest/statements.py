"""Who answers at a URL and what runs there: one statement each, and how it is known.

"Verified" means that somebody vouches for it whom the policy believes: the processor for what
stands in the quote, the front end's measured code for the manifest that its evidence binds. What
only the other end says is "claimed, not verified", however plausible.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import click

from wardian._internal import wire
from wardian.attestation.claims import Claims
from wardian.broker.certificates import FRONTEND
from wardian.broker.mesh.manifest import MeshManifest
from wardian.broker.mesh.trust import UNPROTECTED, UNPROTECTED_ROLES, TrustAnchor
from wardian.cli.attest.screen import utc, warning_mark
from wardian.cli.attest.verdict import Verdict
from wardian.serving.client.policy import ClientPolicy, VerifiedFrontend

ANY_PLATFORM: Final = "any platform, risk accepted"
_BOUND: Final = "Bound to this connection's TLS key and to a nonce made for this question"
_OWNERS: Final = "what an owner signs is for workloads; it makes no client accept a mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One thing that is said of a front end or its mesh.

    Attributes:
        about: what it is about, in a word or two.
        says: what is said.
        verified: whether somebody whom the policy believes vouches for it.
        how: who vouches for it, or why that does not count.
    """

    about: str
    says: str
    verified: bool
    how: str

    @property
    def warns(self) -> bool:
        """Whether nobody shall overlook it: a simulation, or a risk that somebody took."""
        return self.says.startswith("SIMULATED") or self.says.endswith(ANY_PLATFORM)


def statements(
    front: VerifiedFrontend,
    verdict: Verdict,
    *,
    client: ClientPolicy | None,
    owners: tuple[str, ...],
) -> tuple[Statement, ...]:
    """Return what is known about the front end `front`, and how.

    Args:
        front: its evidence is genuine and bound to the connection; nothing more is believed of it.
        verdict: what a policy says of it.
        client: that policy, if somebody gave one; by default no mesh is believed.
        owners: the public keys that the manifest claims to be signed with, in hex.
    """
    return (
        *_from_quote(front.result.claims, verdict),
        *_from_manifest(front, believed=client is not None and verdict.accepted),
        _from_log(front, asked=client is not None and client.heads is not None, verdict=verdict),
        Statement(
            about="owners",
            says=", ".join(f"{owner[:16]}…" for owner in owners) or "nobody signed the manifest",
            verified=False,
            how=_OWNERS,
        ),
    )


def show_statements(stated: tuple[Statement, ...]) -> None:
    """Print the statements below how they are known."""
    for (verified, how), group in itertools.groupby(stated, lambda each: (each.verified, each.how)):
        known = "verified" if verified else "claimed, not verified"
        click.echo(f"\n{click.style(known, fg='green' if verified else 'yellow')}: {how}")
        for each in group:
            says = wire.printable(each.says)
            click.echo(f"  {each.about:<12} {warning_mark(says) if each.warns else says}")


def _from_quote(claims: Claims, verdict: Verdict) -> Iterator[Statement]:
    """Yield what the quote says: as good as the root that vouches for it."""
    verified = verdict.outcomes[0].accepted
    if not claims.simulated:
        how = "signed by the processor's quoting enclave, under Intel's root"
    elif verified:
        how = "signed under the simulation root that the policy names"
    else:
        how = "signed under a root certificate that anybody could have made"
    kind = claims.kind.value
    rows = (
        ("kind", f"SIMULATED {kind}: no hardware protects it" if claims.simulated else kind),
        ("measurement", claims.measurement.hex()),
        ("connection", _BOUND),
        ("state", _state(claims)),
        ("machine", _machine(claims, verdict)),
    )
    for about, says in rows:
        yield Statement(about=about, says=says, verified=verified, how=how)


def _state(claims: Claims) -> str:
    advisories = ", ".join(claims.advisory_ids) or "no advisories"
    return (
        f"{claims.tcb_status.value}, {advisories}, TCB evaluation "
        f"{claims.tcb_evaluation_number}; collateral until {utc(claims.collateral_expires)}"
    )


def _machine(claims: Claims, verdict: Verdict) -> str:
    """Return which machine it is and, on hardware, whether the policy did not ask (TRUST T12)."""
    machine = f"PPID {claims.ppid.hex()}"
    rules = {outcome.rule for top in verdict.outcomes for _, outcome in top.walk()}
    unasked = not claims.simulated and "AnyPlatform" in rules
    return f"{machine}: {ANY_PLATFORM}" if unasked else machine


def _from_manifest(front: VerifiedFrontend, *, believed: bool) -> Iterator[Statement]:
    """Yield what the manifest says that the evidence binds: as good as who believes it."""
    how = (
        "the policy accepts this manifest, and the evidence binds it"
        if believed
        else "the evidence binds it, but only a policy that accepts it makes it true"
    )
    manifest = front.manifest
    digest = front.manifest_digest.hex()[:16]
    rows = (
        ("role", f"{FRONTEND}, by the measurement above"),
        ("mesh", f"{manifest.mesh}, manifest version {manifest.version} ({digest}…)"),
        ("runs there", _code(manifest)),
        ("serves", _models(manifest)),
        ("machines", _machines(manifest.trust)),
        ("mesh CA", f"SHA-256 {hashlib.sha256(front.mesh_ca).hexdigest()}"),
    )
    for about, says in rows:
        yield Statement(about=about, says=says, verified=believed, how=how)


def _from_log(front: VerifiedFrontend, *, asked: bool, verdict: Verdict) -> Statement:
    """Return how long the mesh's audit log is; only witnesses notice a second one (TRUST T22)."""
    lines, seen = front.witnessed.head.audit.count, len(front.witnessed.cosigned)
    verified = asked and verdict.accepted
    how = (
        "the mesh CA signed its end, and as many witnesses as the policy wants have seen it"
        if verified
        else "the mesh CA signed its end, and no policy vouches that others saw the same log"
    )
    says = f"{lines} lines, with {seen} witnesses' signatures"
    return Statement(about="audit log", says=says, verified=verified, how=how)


def _code(manifest: MeshManifest) -> str:
    return ", ".join(
        f"{role}{f' {UNPROTECTED}' if role in UNPROTECTED_ROLES else ''} "
        f"({len(reference.measurements)} measurement"
        f"{'s' if len(reference.measurements) > 1 else ''})"
        for role, reference in sorted(manifest.roles.items())
    )


def _models(manifest: MeshManifest) -> str:
    named = [f"{line.name} version {line.version}" for line in manifest.models]
    return ", ".join(named) or "no models"


def _machines(trust: TrustAnchor) -> str:
    """Return on which machines the owners let the mesh run."""
    if trust.simulation_root_sha256 is not None:
        return "SIMULATED ones, wherever their keeper wants"
    if trust.platforms:
        return f"{len(trust.platforms)} that the owners list"
    return f"the owners' manifest: {ANY_PLATFORM}"
