"""`wardian attest show`: who answers at a URL, what runs there, and how is it known?"""

import secrets
from dataclasses import dataclass, replace
from http.client import OK, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.attestation.appraisal.policy import AnyMeasurement, AppraisalPolicy
from wardian.attestation.appraisal.policy_file import default_policy
from wardian.attestation.quotes.quote import parse_quote
from wardian.broker.certificates import chain_pem
from wardian.broker.mesh.manifest import manifest_digest
from wardian.cli.attest.screen import (
    leave,
    show_outcomes,
    show_policy,
    show_verdict,
    warning_mark,
)
from wardian.cli.attest.statements import Statement, show_statements, statements
from wardian.cli.attest.verdict import REFUSALS, Verdict, judge, refused
from wardian.cli.attest.verify import existing
from wardian.cli.audit.files import note_head
from wardian.cli.audit.source import file, log_refused
from wardian.errors import ConfigError, ConnectionLost, PeerProtocolError
from wardian.serving.client.origin import client_context, parse_origin
from wardian.serving.client.policy import ClientPolicy, VerifiedFrontend, load_client_policy
from wardian.serving.frontend_evidence import NONCE_BYTES, PATH, FrontendEvidence

FETCH_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a front end showed on one connection; nothing of it is believed.

    Attributes:
        shown: its evidence, manifest and mesh CA.
        nonce: the one that it was asked with.
        certificate: of the connection's server, DER, whose key it proved in the handshake.
    """

    shown: FrontendEvidence
    nonce: bytes
    certificate: bytes

    def verify(self, policy: ClientPolicy, *, now: int) -> VerifiedFrontend:
        """Return the front end if `policy` accepts it; raises as `ClientPolicy.verify`."""
        return policy.verify(self.shown, nonce=self.nonce, certificate=self.certificate, now=now)


@click.command()
@click.argument("url")
@click.option("--policy", type=existing, help="A client policy; without one no mesh is believed.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the evidence here, as JSON.")
@click.option("--ca-out", type=click.Path(path_type=Path), help="Write the mesh CA here, as PEM.")
@click.option("--head", type=file, help="Remember the audit head here; one that forked is refused.")
@click.option("--head-threshold", type=click.IntRange(1, 16), help="Of the policy's witnesses.")
@click.option("--json", "as_json", is_flag=True)
def show(
    *,
    url: str,
    policy: Path | None,
    out: Path | None,
    ca_out: Path | None,
    head: Path | None,
    head_threshold: int | None,
    as_json: bool,
) -> None:
    """Show who answers at URL, and how that is known.

    The front end's evidence has to be bound to this connection's TLS key and to a fresh nonce. With
    --policy the front end and its mesh are judged as a client would; only then --ca-out writes the
    mesh CA's certificate, for programs that know TLS but no evidence, and --head remembers where
    the mesh's audit log ended (`wardian audit verify --head` proves that it goes on from there).
    Without, the evidence alone is judged: current Intel hardware, whatever runs there.
    """
    if policy is None and (ca_out, head, head_threshold) != (None, None, None):
        raise ConfigError(
            "--ca-out, --head and --head-threshold need --policy: an unverified CA protects nobody"
        )
    client = None if policy is None else _policy(policy, threshold=head_threshold)
    answer = fetch(url)
    if out is not None:
        out.write_bytes(wire.encode(answer.shown.evidence))
    verdict, front = appraise(answer, client, now=unix_time())
    if front is None:
        leave(verdict, as_json=as_json, more={"url": url, "front_end": None, "statements": ()})
    if ca_out is not None and verdict.accepted:
        ca_out.write_bytes(chain_pem((front.mesh_ca,)))
    if head is not None and verdict.accepted:
        with log_refused():
            note_head(head, front.witnessed.head)
    owners = tuple(each.owner for each in answer.shown.manifest.signatures)
    stated = statements(front, verdict, client=client, owners=owners)
    if not as_json:
        click.echo(f"{click.style(url, bold=True)}  {_in_short(front, verdict)}")
        show_statements(stated)
        show_policy(given=client is not None)
        show_outcomes(verdict)
        show_verdict(verdict)
    leave(verdict, as_json=as_json, more=_more(url, front, stated))


def _policy(path: Path, *, threshold: int | None) -> ClientPolicy:
    """Return the client policy in `path`, with `threshold` of its witnesses demanded if given.

    Raises:
        ConfigError: see `load_client_policy`; or the policy names no witnesses.
    """
    client = load_client_policy(path)
    if threshold is None:
        return client
    if client.heads is None:
        raise ConfigError(f"--head-threshold: {path} names no witnesses, in [heads]")
    return replace(client, heads=replace(client.heads, threshold=threshold))


def appraise(
    answer: Answer, client: ClientPolicy | None, *, now: int
) -> tuple[Verdict, VerifiedFrontend | None]:
    """Return what `client`, or the default policy, says of `answer`, and what it is about.

    The front end is None if its evidence is not genuine, or not bound to the connection, the nonce,
    the manifest and the mesh CA that it shows.
    """
    try:
        front = answer.verify(_taken_at_its_word(answer.shown), now=now)
    except REFUSALS as err:
        return refused(err), None
    claims = front.result.claims
    if client is None:
        return judge(lambda: claims, default_policy()), front
    verdict = judge(lambda: claims, client.evidence)
    try:
        answer.verify(client, now=now)
    except REFUSALS as err:  # also for the mesh, which the rules about the evidence do not judge
        return refused(err, claims=claims, outcomes=verdict.outcomes), front
    return verdict, front


def _taken_at_its_word(shown: FrontendEvidence) -> ClientPolicy:
    """Return a policy that believes whatever is shown, if only it is genuine and bound.

    It is for looking at a front end before judging it, and never for sending it anything.

    Raises:
        FormatError: the quote does not parse.
    """
    return ClientPolicy(
        evidence=AppraisalPolicy(
            roots=frozenset({parse_quote(shown.evidence.quote).root_sha256}), rule=AnyMeasurement()
        ),
        manifest_digest=manifest_digest(shown.manifest),
    )


def _in_short(front: VerifiedFrontend, verdict: Verdict) -> str:
    """Return what it is, and whether it is accepted, in one line."""
    kind = warning_mark("SIMULATED ") if front.result.claims.simulated else ""
    state = "accepted" if verdict.accepted else "not accepted"
    return f"a {kind}front end of mesh {front.manifest.mesh}, {state}"


def _more(url: str, front: VerifiedFrontend, stated: tuple[Statement, ...]) -> dict[str, object]:
    """Return the fields of the JSON that a verdict lacks."""
    manifest = front.manifest
    return {
        "url": url,
        "front_end": {
            "simulated": front.result.claims.simulated,
            "measurement": front.result.claims.measurement.hex(),
            "mesh": manifest.mesh,
            "manifest_version": manifest.version,
            "manifest_digest": front.manifest_digest.hex(),
            "roles": {role: reference.measurements for role, reference in manifest.roles.items()},
        },
        "statements": [
            {"about": each.about, "says": each.says, "verified": each.verified, "how": each.how}
            for each in stated
        ],
    }


def fetch(url: str) -> Answer:
    """Return what the front end at `url` shows for a fresh nonce.

    Nothing but the nonce is sent, and nothing that comes back is believed here.

    Raises:
        ConfigError: `url` is none of a front end.
        ConnectionLost: nobody answered within `FETCH_TIMEOUT_S`.
        PeerProtocolError: the answer has another HTTP status than 200.
        FormatError: the answer is no front end's evidence.
    """
    origin = parse_origin(url)
    nonce = secrets.token_bytes(NONCE_BYTES)
    connection = HTTPSConnection(
        origin.host, origin.port, timeout=FETCH_TIMEOUT_S, context=client_context()
    )
    try:
        connection.connect()
        certificate = connection.sock.getpeercert(binary_form=True)
        connection.request("GET", f"{PATH}?nonce={nonce.hex()}")
        response = connection.getresponse()
        body = response.read(wire.MAX_MESSAGE_BYTES)
    except (OSError, HTTPException) as err:
        raise ConnectionLost(f"{url}: no evidence from there: {err}") from err
    finally:
        connection.close()
    if response.status != OK or certificate is None:
        raise PeerProtocolError(f"{url}: answered {response.status} where evidence was expected")
    shown = wire.decode(body, FrontendEvidence, what="front end's evidence")
    return Answer(shown=shown, nonce=nonce, certificate=certificate)
