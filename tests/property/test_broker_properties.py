"""Whatever a hostile carrier does to a release, it ends in the right secrets or in an error."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from toy_mesh import MASTER_KEY, NOW, Counter, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.ca import MeshCa
from wardian.broker.certificates import (
    MeshIdentity,
    build_csr,
    parse_csr,
    read_identity,
    spki_of,
    verify_ca_certificate,
    verify_issuing_certificate,
    verify_peer_certificate,
)
from wardian.broker.mesh.manifest import MeshManifest, SignedManifest
from wardian.broker.mesh.verify import verify_manifest
from wardian.broker.owners.goods import decode_goods
from wardian.broker.owners.protocol import OwnerChallenge, OwnerHello, Provision
from wardian.broker.refusal import Refusal
from wardian.broker.release.broker_session import BrokerSession
from wardian.broker.release.protocol import (
    Attestation,
    Challenge,
    Request,
    Response,
    decode_release,
)
from wardian.broker.release.workload_session import WorkloadSession
from wardian.broker.state.audit import START, AuditEntry, AuditLine, link, verify_chain
from wardian.broker.state.store import Store
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError, WardianError

MESH = ToyMesh()
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyBroker]:
    with closing(ToyBroker(MESH, tmp_path_factory.mktemp("broker") / "broker.db")) as broker:
        yield broker


def flip(raw: bytes, bit: int) -> bytes:
    out = bytearray(raw)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


# Parsers


@given(raw=st.binary(max_size=300))
def test_garbage_ends_in_a_format_error(raw: bytes) -> None:
    messages = (Request, Challenge, Attestation, Response, OwnerHello, OwnerChallenge, Provision)
    for kind in (*messages, SignedManifest, MeshManifest, Refusal, AuditLine):
        with pytest.raises(FormatError):
            wire.decode(raw, kind, what="x")
    for parse in (decode_release, decode_goods, MeshIdentity.from_der, read_identity):
        with pytest.raises(FormatError):
            parse(raw)
    for parse in (parse_csr, verify_ca_certificate):
        with pytest.raises(FormatError):
            parse(raw)


@given(
    role=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=64),
    measurement=st.binary(min_size=32, max_size=32),
    digest=st.binary(min_size=32, max_size=32),
)
def test_an_identity_has_one_form(role: str, measurement: bytes, digest: bytes) -> None:
    identity = MeshIdentity(role=role, measurement=measurement, manifest_digest=digest)
    assert MeshIdentity.from_der(identity.to_der()) == identity


# Mutations of certificates and requests

CA = MeshCa.create(mesh="test", simulated=True, now=NOW)
CSR = build_csr(TlsKey.generate(), names=["localhost", "127.0.0.1"])
IDENTITY = MeshIdentity(role="frontend", measurement=bytes(32), manifest_digest=bytes(32))
ISSUER = CA.create_issuing(manifest_digest=bytes(32), now=NOW)
LEAF = ISSUER.issue(parse_csr(CSR), identity=IDENTITY, now=NOW, life_s=3600)[0]


def verify_leaf(raw: bytes) -> object:
    return verify_peer_certificate(
        raw, issuer_spki=ISSUER.spki, role="frontend", manifest_digest=bytes(32), now=NOW
    )


def verify_issuer(raw: bytes) -> object:
    return verify_issuing_certificate(raw, ca_spki=CA.spki, manifest_digest=bytes(32), now=NOW)


READERS = {
    verify_ca_certificate: CA.certificate,
    verify_issuer: ISSUER.certificate,
    spki_of: LEAF,
    read_identity: LEAF,
    verify_leaf: LEAF,
    parse_csr: CSR,
}
EDIT = st.tuples(
    st.sampled_from(["set", "flip", "delete", "insert"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 255),
)


def edited(raw: bytes, edits: list[tuple[str, float, int]]) -> bytes:
    out = bytearray(raw)
    for what, where, value in edits:
        at = int(where * len(out))
        match what:
            case "set":
                out[at] = value
            case "flip":
                out[at] ^= 1 << value % 8
            case "delete":
                del out[at]
            case _:
                out.insert(at, value)
    return bytes(out)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(max_examples=1500, deadline=None)
@given(reader=st.sampled_from(list(READERS)), edits=st.lists(EDIT, min_size=1, max_size=4))
def test_mutated_x509_ends_in_an_error_of_ours(
    reader: Callable[[bytes], object], edits: list[tuple[str, float, int]]
) -> None:
    try:
        reader(edited(READERS[reader], edits))
    except WardianError:
        return


# Every bit of what is signed


def test_every_bit_of_a_manifest_is_signed() -> None:
    signed = MESH.signed()
    for bit in range(8 * len(signed.manifest)):
        forged = SignedManifest(manifest=flip(signed.manifest, bit), signatures=signed.signatures)
        with pytest.raises(WardianError):
            verify_manifest(forged, mesh=MESH.agreed.mesh)


def test_every_bit_of_a_response_is_authenticated(broker: ToyBroker) -> None:
    workload, session = MESH.workload(), broker.open()
    challenge = broker.challenge(session, workload.request(tee="simulated"))
    attest = MESH.attest("worker")
    raw = broker.respond(
        session, workload.attestation(attest(workload.receive_challenge(challenge, now=NOW)))
    )
    good = wire.decode(raw, Response, what="x")
    turn = workload._turns._state.__class__.PROVED
    for bit in range(8 * len(raw)):
        workload._turns.enter(turn)  # the same session again, as no attacker can have it
        try:
            workload.receive_response(flip(raw, bit), now=NOW)
        except WardianError:
            continue
        # Base64 has spare bits, and JSON spare spellings, that decode to the very same message.
        assert wire.decode(flip(raw, bit), Response, what="x") == good


@QUICK
@given(data=st.data())
def test_a_flipped_bit_anywhere_in_messages_1_to_3_releases_nothing(
    broker: ToyBroker, data: st.DataObject
) -> None:
    which = data.draw(st.integers(1, 3))
    where = data.draw(
        st.floats(0, 1, exclude_max=True)
    )  # signatures differ in length from run to run

    def carry(number: int, raw: bytes) -> bytes:
        if number != which:
            return raw
        return flip(raw, int(where * 8 * len(raw)))

    workload, session = MESH.workload(), broker.open()
    with pytest.raises(WardianError):
        challenge = broker.challenge(session, carry(1, workload.request(tee="simulated")))
        report_data = workload.receive_challenge(carry(2, challenge), now=NOW)
        message = workload.attestation(MESH.attest("worker")(report_data))
        workload.receive_response(broker.respond(session, carry(3, message)), now=NOW)


# The audit log


@given(
    events=st.lists(st.sampled_from(["start", "release", "refusal"]), min_size=1, max_size=8),
    data=st.data(),
)
def test_no_line_of_the_log_can_go(events: list[str], data: st.DataObject) -> None:
    lines, chain = [], START
    for event in events:
        raw, chain = link(AuditEntry(event=event, outcome="granted"), chain=chain, now=NOW)  # type: ignore[arg-type]
        lines.append(raw)
    assert len(verify_chain(lines, head=chain.head)) == len(events)
    at = data.draw(st.integers(0, len(lines) - 1))
    with pytest.raises(WardianError):
        verify_chain(lines[:at] + lines[at + 1 :], head=chain.head)


# Sessions, in any order


class Carrier(RuleBasedStateMachine):
    """Owns the wire: delivers any message it has seen to any session, as often as it likes.

    Whatever it does, a workload that accepts a response holds exactly its own model's key.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.broker = ToyBroker(MESH, Path(self.directory.name) / "broker.db")
        self.workloads: list[tuple[str, WorkloadSession]] = []
        self.sessions: list[BrokerSession] = []
        self.seen: list[bytes] = []
        self.accepted: list[tuple[str, object]] = []

    @initialize()
    def begin(self) -> None:
        self.new_workload("digits")
        self.new_session()

    @rule(model=st.sampled_from(["digits", "faces"]))
    def new_workload(self, model: str) -> None:
        workload = MESH.workload("worker", (model,))
        self.workloads.append((model, workload))
        self.seen.append(workload.request(tee="simulated"))

    @rule()
    def new_session(self) -> None:
        self.sessions.append(self.broker.open())

    @precondition(lambda self: len(self.seen) > 0)
    @rule(data=st.data())
    def deliver_to_broker(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        raw = data.draw(st.sampled_from(self.seen))
        step = data.draw(st.sampled_from([self.broker.challenge, self.broker.respond]))
        try:
            self.seen.append(step(session, raw))
        except WardianError:
            return

    @rule(model=st.sampled_from(["digits", "faces"]))
    def carry_one_release_honestly(self, model: str) -> None:
        workload, session = MESH.workload("worker", (model,)), self.broker.open()
        self.seen.append(workload.request(tee="simulated"))
        self.seen.append(self.broker.challenge(session, self.seen[-1]))
        report_data = workload.receive_challenge(self.seen[-1], now=NOW)
        self.seen.append(workload.attestation(MESH.attest("worker")(report_data)))
        self.seen.append(self.broker.respond(session, self.seen[-1]))
        self.accepted.append((model, workload.receive_response(self.seen[-1], now=NOW)))
        self.sessions.append(session)
        self.workloads.append((model, workload))

    @rule(data=st.data())
    def deliver_to_workload(self, data: st.DataObject) -> None:
        model, workload = data.draw(st.sampled_from(self.workloads))
        raw = data.draw(st.sampled_from(self.seen))
        try:
            if workload._shown is None:
                report_data = workload.receive_challenge(raw, now=NOW)
                self.seen.append(workload.attestation(MESH.attest("worker")(report_data)))
            else:
                self.accepted.append((model, workload.receive_response(raw, now=NOW)))
        except WardianError:
            return

    @invariant()
    def whoever_was_admitted_has_its_own_key(self) -> None:
        for model, admission in self.accepted:
            assert admission.model_key(model, 1) == MESH.keys[model].key  # type: ignore[attr-defined]
            assert {secret.model for secret in admission.secrets} == {model}  # type: ignore[attr-defined]

    def teardown(self) -> None:
        self.broker.close()
        self.directory.cleanup()


TestCarrier = Carrier.TestCase
TestCarrier.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


# The store, against a dictionary, with crashes


@QUICK
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.one_of(st.none(), st.binary(max_size=20)),
            st.sampled_from(["commit", "reopen", "crash"]),
        ),
        max_size=12,
    )
)
def test_the_store_is_a_dictionary_that_survives(
    steps: list[tuple[str, bytes | None, str]],
) -> None:
    entry = AuditEntry(event="start", outcome="granted")
    with tempfile.TemporaryDirectory() as directory:
        counter, expected = Counter(), dict[str, bytes]()
        path = Path(directory) / "state.db"
        store = Store(path, master_key=MASTER_KEY, counter=counter.seam)
        for key, value, what in steps:
            counter.fails = what == "crash"  # between file and counter: the change holds
            try:
                store.commit({("t", key): value}, audit=[entry], now=NOW)
            except OSError:
                assert what == "crash"
            counter.fails = False
            expected = {k: v for k, v in expected.items() if k != key}
            if value is not None:
                expected[key] = value
            if what != "commit":
                store.close()
                store = Store(path, master_key=MASTER_KEY, counter=counter.seam)
            assert {k: store.get("t", k) for k in store.keys("t")} == expected
        assert store.audit_head.count == len(steps)
        store.close()
