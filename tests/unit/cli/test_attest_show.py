"""`wardian attest show`: who answers, what runs there, how it is known; attacks first."""

import dataclasses
import datetime as dt
import http.server
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attest_cases import Done, attest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from simulators.front_end import MEASUREMENTS, make_manifest

from wardian._internal import wire
from wardian.attestation.appraisal.policy import (
    AllOf,
    AnyMeasurement,
    AnyPlatform,
    AppraisalPolicy,
    PlatformIn,
)
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.ca import MeshCa
from wardian.broker.certificates import MeshIdentity, build_csr, parse_csr, spki_of
from wardian.broker.mesh.trust import TrustAnchor
from wardian.broker.state.audit import AuditHead
from wardian.broker.transparency.cosigning import Cosigned, WitnessedHead, cosign
from wardian.broker.transparency.heads import sign_head
from wardian.cli.attest import show, statements
from wardian.cli.attest.verdict import judge
from wardian.crypto.signing import SigningKey
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import ConnectionLost, FormatError, PeerProtocolError
from wardian.serving.client.policy import ClientPolicy
from wardian.serving.frontend_evidence import FrontendEvidence
from wardian.tee.launch.simulation import generate_platform

__all__ = ["attest"]  # a fixture

NOW = 1_800_000_000
URL = "https://front.example:8443"
NONCE = b"n" * 32
PLATFORM = generate_platform(clock=lambda: NOW)
MANIFEST = make_manifest(PLATFORM)
WITH_ANOTHER_WORKER = {role: (measured,) for role, measured in MEASUREMENTS.items()} | {
    "worker": (b"\x66" * 32,)
}
CA = MeshCa.create(mesh="test", simulated=True, now=NOW)
ISSUING = CA.create_issuing(manifest_digest=MANIFEST.digest, now=NOW)
WITNESS = SigningKey.generate()
HEADS = '[heads]\nwitnesses = ["{}"]\n'


def issued(role: str = "frontend") -> bytes:
    """Return a certificate of the mesh, for a fresh key."""
    identity = MeshIdentity(
        role=role, measurement=MEASUREMENTS[role], manifest_digest=MANIFEST.digest
    )
    request = parse_csr(build_csr(TlsKey.generate(), names=()))
    return ISSUING.issue(request, identity=identity, now=NOW, life_s=3600)[0]


CERTIFICATE = issued()


def head(ca: MeshCa = CA, *, count: int = 7) -> WitnessedHead:
    """Return the end of an audit log that one witness saw."""
    signed = sign_head(
        AuditHead(count=count, digest="11" * 32, root="22" * 32),
        mesh="test",
        manifest_digest=MANIFEST.digest,
        ca_spki=ca.spki,
        sign=ca.sign,
        now=NOW,
    )
    seen = Cosigned(cosignature=cosign(WITNESS, signed, now=NOW), consistency=())
    return WitnessedHead(head=signed, cosigned=(seen,))


EVIDENCE = f"""\
[evidence]
simulation_root_sha256 = "{PLATFORM.root_sha256.hex()}"
measurements = ["{MEASUREMENTS["frontend"].hex()}"]
"""
PINNED = f'[mesh]\nmanifest_digest = "{MANIFEST.digest.hex()}"\n'
LISTED = "[mesh.roles]\n" + "".join(
    f'{role} = ["{measured.hex()}"]\n' for role, measured in MEASUREMENTS.items()
)


def shown(
    *, certificate: bytes = CERTIFICATE, nonce: bytes = NONCE, **changes: Any
) -> FrontendEvidence:
    """Return what a front end shows that binds its evidence to this certificate's key."""
    version = MANIFEST.manifest.version.to_bytes(8, "big")
    data = bind(Purpose.FRONTEND, nonce, spki_of(certificate), CA.spki, MANIFEST.digest, version)
    fields = {
        "evidence": PLATFORM.evidence(mr_enclave=MEASUREMENTS["frontend"], report_data=data),
        "manifest": MANIFEST.signed,
        "mesh_ca": CA.certificate,
        "issuing_ca": ISSUING.certificate,
        "witnessed": head(),
    }
    return FrontendEvidence(**fields | changes)


ANSWER = show.Answer(shown=shown(), nonce=NONCE, certificate=CERTIFICATE)


@pytest.fixture
def ask(attest: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what runs `show` on a front end that answers with the given evidence."""
    monkeypatch.setattr("wardian.cli.attest.show.unix_time", lambda: NOW)

    def run(answer: FrontendEvidence, *more: object, policy: str | None = None) -> Done:
        monkeypatch.setattr(
            show,
            "fetch",
            lambda url: show.Answer(shown=answer, nonce=NONCE, certificate=CERTIFICATE),
        )
        if policy is not None:
            (tmp_path / "policy.toml").write_text(policy)
            more = (*more, "--policy", tmp_path / "policy.toml")
        return attest("show", URL, *more)

    return run


def told(done: Done) -> dict[str, dict[str, Any]]:
    return {each["about"]: each for each in done.json["statements"]}


# --- attacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [None, EVIDENCE + PINNED])
@pytest.mark.parametrize(
    "answer",
    [
        shown(certificate=issued()),
        shown(nonce=b"o" * 32),
        shown(mesh_ca=MeshCa.create(mesh="test", simulated=True, now=NOW).certificate),
        shown(manifest=make_manifest(PLATFORM, roles=WITH_ANOTHER_WORKER).signed),
        shown(issuing_ca=CA.create_issuing(manifest_digest=b"o" * 32, now=NOW).certificate),
        shown(witnessed=head(MeshCa.create(mesh="test", simulated=True, now=NOW))),
        shown(evidence=Evidence(quote=b"no quote", collateral=b"{}")),
        shown(evidence=Evidence(quote=shown().evidence.quote, collateral=b"")),
    ],
    ids=["key", "nonce", "CA", "manifest", "issuing CA", "audit log", "quote", "collateral"],
)
def test_what_is_not_bound_to_this_connection_is_shown_as_nothing(
    ask: Any, tmp_path: Path, answer: FrontendEvidence, policy: str | None
) -> None:
    done = ask(answer, "--json", policy=policy)
    assert done.status == 3
    assert done.json["refused_by"] in {
        "EvidenceInvalid", "FormatError", "CollateralUnavailable", "issuer-manifest",
    }  # fmt: skip
    assert done.json["statements"] == []
    assert done.json["front_end"] is None
    assert done.json["claims"] is None
    line = ask(answer, policy=policy)
    assert (line.status, line.out) == (3, "")
    assert line.err.startswith("error: ")
    if policy is not None:
        ca = tmp_path / "ca.pem"
        assert ask(answer, "--ca-out", ca, policy=policy).status == 3
        assert not ca.exists()


@pytest.mark.parametrize(
    ("policy", "refused_by"),
    [
        (EVIDENCE + f'[mesh]\nmanifest_digest = "{"00" * 32}"\n', "manifest-pinned"),
        (EVIDENCE + LISTED.replace(MEASUREMENTS["worker"].hex(), "00" * 32), "role-measurements"),
        (EVIDENCE.replace(MEASUREMENTS["frontend"].hex(), "00" * 32) + PINNED, "MeasurementIn"),
        (EVIDENCE + PINNED + HEADS.format(SigningKey.generate().public.hex()), "head-witnessed"),
        (
            EVIDENCE.replace("simulation_root_sha256", "any_platform").replace(
                PLATFORM.root_sha256.hex(), "risk accepted"
            )
            + PINNED,
            "Root",
        ),
    ],
)
def test_who_is_refused_is_shown_and_nothing_of_the_mesh_believed(
    ask: Any, tmp_path: Path, policy: str, refused_by: str
) -> None:
    ca = tmp_path / "ca.pem"
    done = ask(shown(), "--json", "--ca-out", ca, policy=policy)
    assert (done.status, done.json["refused_by"]) == (3, refused_by)
    assert not ca.exists()
    # A rule about the mesh is none of those about the evidence, and none of them decided then.
    about_evidence = refused_by in {"MeasurementIn", "Root"}
    decided = [each["rule"] for each in done.json["rules"] if each["decided"]]
    assert decided == ([refused_by] if about_evidence else [])
    said = told(done)
    assert said["mesh"]["says"].startswith("test, manifest version 3")
    for about in said.keys() - {"kind", "measurement", "connection", "state", "machine"}:
        assert said[about]["verified"] is False
    assert said["measurement"]["verified"] is (refused_by != "Root")
    human = ask(shown(), policy=policy)
    assert human.status == 3
    assert f"REFUSED by {refused_by}" in human.out
    assert ("\n-> " in human.out) is about_evidence


def test_without_a_policy_nothing_but_the_binding_is_looked_at(ask: Any) -> None:
    done = ask(shown(), "--json")
    assert (done.status, done.json["refused_by"]) == (3, "Root")
    assert not any(each["verified"] for each in done.json["statements"])
    assert "anybody could have made" in told(done)["kind"]["how"]
    human = ask(shown())
    assert "REFUSES  Root" in human.out
    assert "claimed, not verified: " in human.out
    assert "verified: " not in human.out.replace("claimed, not verified: ", "")


def test_a_ca_file_needs_a_policy(attest: Any, tmp_path: Path) -> None:
    done = attest("show", URL, "--ca-out", tmp_path / "ca.pem")
    assert (done.status, done.out) == (2, "")
    assert "unverified CA" in done.err


def test_the_policy_is_read_before_anybody_is_asked(attest: Any, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(show, "fetch", lambda url: pytest.fail("asked"))
    (tmp_path / "policy.toml").write_text(EVIDENCE)
    assert attest("show", URL, "--policy", tmp_path / "policy.toml").status == 2


# --- what is accepted -------------------------------------------------------------------------


@pytest.mark.parametrize("mesh", [PINNED, LISTED])
def test_who_it_is_what_runs_there_and_how_it_is_known(ask: Any, tmp_path: Path, mesh: str) -> None:
    out, ca = tmp_path / "evidence.json", tmp_path / "ca.pem"
    done = ask(shown(), "--out", out, "--ca-out", ca, policy=EVIDENCE + mesh)
    assert done.status == 0, done.out
    assert done.out.startswith(f"{URL}  a SIMULATED front end of mesh test, accepted\n")
    assert "SIMULATED SGX: no hardware protects it" in done.out
    assert MEASUREMENTS["frontend"].hex() in done.out
    assert "Bound to this connection's TLS key" in done.out
    assert "test, manifest version 3" in done.out
    assert "broker (1 measurement), frontend (1 measurement), worker (1 measurement)" in done.out
    assert done.out.rstrip().endswith("ACCEPTED")
    assert ca.read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert wire.decode(out.read_bytes(), Evidence, what="evidence").quote.startswith(b"\3\0")
    # An owner's signature is never what a client goes by (TRUST T2).
    *believed, claimed = re.split(r"^(?:claimed, not )?verified: ", done.out, flags=re.MULTILINE)
    assert len(believed) == 4
    assert re.findall(r"^  (\w+)", claimed.partition("\n\n")[0], re.MULTILINE) == ["owners"]


def test_as_json(ask: Any) -> None:
    done = ask(shown(), "--json", policy=EVIDENCE + PINNED)
    assert done.status == 0
    assert (done.json["accepted"], done.json["refused_by"], done.json["url"]) == (True, None, URL)
    assert done.json["kind"] == "SIMULATED"
    assert done.json["front_end"] == {
        "simulated": True,
        "measurement": MEASUREMENTS["frontend"].hex(),
        "mesh": "test",
        "manifest_version": 3,
        "manifest_digest": MANIFEST.digest.hex(),
        "roles": {role: [measured.hex()] for role, measured in MEASUREMENTS.items()},
    }
    unverified = {each["about"] for each in done.json["statements"] if not each["verified"]}
    assert unverified == {"owners", "audit log"}
    assert all(each["how"] for each in done.json["statements"])


def test_an_audit_log_that_witnesses_saw(ask: Any) -> None:
    demands = EVIDENCE + PINNED + HEADS.format(WITNESS.public.hex())
    said = told(ask(shown(), "--json", policy=demands))["audit log"]
    assert said["verified"] is True
    assert said["says"] == "7 lines, with 1 witnesses' signatures"


def test_who_signed_the_manifest_changes_nothing(ask: Any) -> None:
    by_a_stranger = make_manifest(PLATFORM).signed
    assert by_a_stranger.signatures != MANIFEST.signed.signatures
    done = ask(shown(manifest=by_a_stranger), "--json", policy=EVIDENCE + PINNED)
    assert done.status == 0  # the policy pins the manifest, whoever signed it
    assert told(done)["owners"]["verified"] is False
    assert by_a_stranger.signatures[0].owner[:16] in told(done)["owners"]["says"]


def test_simulation_and_risk_are_in_yellow(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)
    done = ask(shown(), policy=EVIDENCE + PINNED)
    yellow = re.findall(r"\x1b\[33m\x1b\[1m([^\x1b]*)", done.out)
    assert "SIMULATED SGX: no hardware protects it" in yellow
    assert "SIMULATED ones, wherever their keeper wants" in yellow


# --- hardware, whose key no test has: the claims are changed, and what is said of them looked at ---


ANY_CLIENT = ClientPolicy(
    evidence=AppraisalPolicy(roots=frozenset(), rule=AllOf()), manifest_digest=MANIFEST.digest
)


def on_hardware(rule: Any, **trust: Any) -> dict[str, statements.Statement]:
    """Return what is said of a front end on hardware, under a rule, in a mesh with this trust."""
    verdict, front = show.appraise(ANSWER, None, now=NOW)
    assert front is not None
    claims = dataclasses.replace(front.result.claims, root_sha256=INTEL_ROOT_SHA256)
    anchor = TrustAnchor(
        simulation_root_sha256=None, tcb_statuses=("UpToDate",), advisories=(), **trust
    )
    front = dataclasses.replace(
        front,
        result=dataclasses.replace(front.result, claims=claims),
        manifest=msgspec.structs.replace(front.manifest, trust=anchor),
    )
    policy = AppraisalPolicy(
        roots=frozenset({INTEL_ROOT_SHA256}), rule=AllOf(AnyMeasurement(), rule)
    )
    verdict = judge(lambda: claims, policy)
    assert verdict.accepted
    said = statements.statements(front, verdict, client=ANY_CLIENT, owners=("ab" * 32,))
    return {each.about: each for each in said}


def test_a_risk_that_somebody_took_is_shown_to_clients() -> None:
    said = on_hardware(AnyPlatform(), any_platform="risk accepted")
    assert said["kind"].says == "SGX"
    assert "Intel's root" in said["kind"].how
    for about in ("machine", "machines"):
        assert said[about].says.endswith("any platform, risk accepted")
        assert said[about].warns
    assert said["owners"].says == "abababababababab…"


def test_machines_that_are_listed_are_no_risk() -> None:
    ppid = show.appraise(ANSWER, None, now=NOW)[0].claims.ppid
    said = on_hardware(PlatformIn(frozenset({ppid})), platforms=(ppid.hex(),))
    assert said["machine"].says == f"PPID {ppid.hex()}"
    assert said["machines"].says == "1 that the owners list"
    assert not any(each.warns for each in said.values())


def test_a_manifest_that_nobody_signed_says_so() -> None:
    verdict, front = show.appraise(ANSWER, None, now=NOW)
    assert front is not None
    said = statements.statements(front, verdict, client=None, owners=())
    assert said[-1].says == "nobody signed the manifest"


# --- fetching ---------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the test says."""

    status, body, asked = 200, b"", ""

    def do_GET(self) -> None:
        type(self).asked = self.path
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[type[Handler], str, bytes]]:
    """A TLS server on this machine: its handler, its URL and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "any name")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    handler = type("Once", (Handler,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        der = certificate.public_bytes(serialization.Encoding.DER)
        yield handler, f"https://127.0.0.1:{listening.server_port}", der
        listening.shutdown()
        thread.join()


def test_what_is_fetched_is_asked_for_with_a_fresh_nonce(server) -> None:
    handler, url, certificate = server
    sent = shown()
    handler.body = wire.encode(sent)
    answer, again = show.fetch(url), show.fetch(url)
    assert answer.certificate == certificate  # the one that the server proved
    assert answer.shown == sent
    assert handler.asked == f"/v1/attestation?nonce={again.nonce.hex()}"
    assert len(answer.nonce) == 32
    assert answer.nonce != again.nonce


def test_answers_that_are_no_evidence(server, attest: Any) -> None:
    handler, url, _ = server
    handler.status, handler.body = 503, b"{}"
    with pytest.raises(PeerProtocolError, match="answered 503"):
        show.fetch(url)
    handler.status, handler.body = 200, b'{"evidence": 1}'
    with pytest.raises(FormatError, match="front end's evidence"):
        show.fetch(url)
    assert attest("show", url).status == 1


def test_nobody_answers(attest: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionLost, match="no evidence from there"):
        show.fetch(f"https://127.0.0.1:{port}")
    done = attest("show", f"https://127.0.0.1:{port}")
    assert (done.status, done.out) == (1, "")
    assert attest("show", "http://127.0.0.1").status == 2
