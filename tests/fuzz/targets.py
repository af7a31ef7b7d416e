"""Every parser that reads bytes of a stranger, with its seeds.

Messages are found by themselves: each subclass of `wire.Message` in the rooms of security is a
target, with examples made from its types. The other parsers are named here, in `data_plane`, in
`model_files`, in `zoo_wire` and in `zoo_replies`.
"""

import base64
import io
import json
import pkgutil
import random
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial, reduce
from importlib import import_module
from io import BytesIO
from operator import or_
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "compat"))

import toy_jobs
from data_plane import parsers
from model_files import model_parsers
from structures import example
from toy_mesh import NOW, PLATFORM, ToyBroker, ToyMesh
from zoo_files import FLAT, NESTED, SERVED
from zoo_replies import zoo_replies
from zoo_wire import zoo_parsers

import wardian.attestation
import wardian.broker
import wardian.crypto
from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian._internal.operator import Operator
from wardian._internal.settings import parse
from wardian.attestation.appraisal.policy import AppraisalPolicy, NotDebug
from wardian.attestation.appraisal.policy_file import load_policy
from wardian.attestation.collateral.bundle import parse_collateral
from wardian.attestation.collateral.signed import verify_collateral
from wardian.attestation.dice import (
    TaggedEvidence,
    build_claims,
    build_tagged_evidence,
    parse_claims,
    parse_tagged_evidence,
)
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.ra_tls import Layout, verify_certificate
from wardian.attestation.results.ear_key import parse_ear_key
from wardian.attestation.verification.statements import read_statements
from wardian.broker.certificates import (
    MeshIdentity,
    build_csr,
    parse_csr,
    read_identity,
    spki_of,
    verify_ca_certificate,
    verify_issuing_certificate,
)
from wardian.broker.jobs.canonical import canonical
from wardian.broker.jobs.plan import encode_plan, load_plan, parse_plan
from wardian.broker.jobs.policy import load_policy as load_data_policy
from wardian.broker.jobs.signing import SignedPolicy
from wardian.broker.jobs.signing import parse_policy as parse_data_policy
from wardian.broker.kbs.messages import (
    parse_attestation,
    parse_request,
    parse_resource,
    parse_result_request,
)
from wardian.broker.mesh.manifest import SignedManifest, parse_manifest
from wardian.broker.owners.goods import decode_goods
from wardian.broker.recovery.protocol import decode_contribution
from wardian.broker.release.protocol import decode_release
from wardian.broker.release.request_keys import RequestKey, parse_request_key
from wardian.broker.service import DESKS
from wardian.broker.standby.messages import decode_keys
from wardian.broker.state.audit import decode_line
from wardian.broker.state.contents import Commit, decode_commit
from wardian.broker.state.snapshot import Piece, decode_piece
from wardian.compat.zoo.config import parse_config
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.servables import parse_servables
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.jose import verify_jws
from wardian.crypto.message import QueueSender
from wardian.crypto.message_header import RequestHeader
from wardian.crypto.message_header import parse_header as parse_message_header
from wardian.crypto.owner_key import decode_owner_key, encode_owner_key
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import parse_header, read_signed
from wardian.crypto.sealed_request import RequestOpener, RequestPlace, seal_request
from wardian.crypto.sealed_stream import open_bytes, seal_stream
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.crypto.tls_keys import TlsKey
from wardian.crypto.zoo_formats import ZooForm, ZooKeys, decrypt_zoo_bytes, decrypt_zoo_model
from wardian.learning.shared.columns import Kind
from wardian.learning.shared.csv_table import csv_batches
from wardian.serving.sealed_content import (
    Ended,
    Told,
    decode_asked,
    decode_ended,
    encode_asked,
    encode_ended,
)
from wardian.tee.ra_tls import build_certificate, generate_key

DATA = Path(__file__).parents[3] / "shared" / "data" / "quotes"
EXAMPLES = 12
_ROOMS = ("wardian.attestation.", "wardian.broker.", "wardian.crypto.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser: accepts bytes or raises a `WardianError`."""

    name: str
    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    cost: int = 1
    """It gets so many times fewer inputs than others: each is a run of its own."""


def targets() -> tuple[Target, ...]:
    """Return all targets; their seeds are made anew at each call."""
    serving = (Target(**each._asdict()) for each in parsers())
    models = (Target(name=name, parse=parse, seeds=seeds) for name, parse, seeds in model_parsers())
    zoo = (Target(name=name, parse=parse, seeds=seeds) for name, parse, seeds in zoo_parsers())
    roles = (Target(**each) for each in zoo_replies())
    found = (*_attestation(), *_broker(), *_crypto(), *_messages(), *serving, *models)
    return (*found, *zoo, *roles)


def message_kinds() -> list[type[wire.Message]]:
    """Return every kind of message in the three rooms, by name."""
    for room in (wardian.attestation, wardian.broker, wardian.crypto):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            import_module(module.name)
    found = {each for each in _subclasses(wire.Message) if each.__module__.startswith(_ROOMS)}
    return sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))


def _subclasses(kind: type) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def _messages() -> Iterator[Target]:
    rng = random.Random(7)
    for kind in message_kinds():
        yield Target(
            name=f"{kind.__module__.removeprefix('wardian.')}.{kind.__qualname__}",
            parse=partial(_decode, kind=kind),
            seeds=tuple(example(kind, rng) for _ in range(EXAMPLES)),
        )


def _decode(raw: bytes, *, kind: type[wire.Message]) -> None:
    """Decode, and encode what came out: that reads every field."""
    wire.encode(wire.decode(raw, kind, what=kind.__name__))


def _attestation() -> Iterator[Target]:
    evidence = ToyMesh().attest("worker")(bytes(64))
    real = [path for path in sorted(DATA.glob("*quote*")) if path.suffix == ""]
    collateral = (evidence.collateral, *(each.read_bytes() for each in DATA.glob("*.json")))
    key = TlsKey.generate()
    claims = build_claims(key.spki, nonce=bytes(32))
    quotes = (evidence.quote, *(path.read_bytes() for path in real))
    tagged = build_tagged_evidence(TaggedEvidence(quote=evidence.quote, claims=claims))
    yield Target(name="quote", parse=parse_quote, seeds=quotes)
    yield Target(
        name="collateral",
        parse=lambda raw: read_statements(parse_collateral(raw)),
        seeds=collateral,
    )
    yield Target(
        name="signed collateral",
        parse=lambda raw: verify_collateral(raw, root_sha256=PLATFORM.root_sha256),
        seeds=collateral[:1],
    )
    yield Target(name="RA-TLS certificate", parse=_judge_certificate, seeds=_ra_tls_certificates())
    yield Target(name="DICE claims", parse=parse_claims, seeds=(claims,))
    yield Target(name="DICE evidence", parse=parse_tagged_evidence, seeds=(tagged,))
    yield Target(name="policy", parse=load_policy, seeds=_POLICIES)
    yield Target(name="EAR key", parse=parse_ear_key, seeds=(b'{"issuer":"a","spki":""}',))


def _judge_certificate(der: bytes) -> None:
    policy = AppraisalPolicy(roots=frozenset({PLATFORM.root_sha256}), rule=NotDebug())
    verify_certificate(der, policy=policy, collateral=b"", now=NOW)


def _ra_tls_certificates() -> tuple[bytes, ...]:
    """Return a certificate of each layout and of both."""
    enclave = SimpleNamespace(evidence=ToyMesh().attest("worker"))
    times = {"not_before": NOW - 100, "not_after": NOW + 100}
    return tuple(
        build_certificate(enclave, generate_key(), layouts=layouts, **times)  # type: ignore[arg-type]
        for layouts in ({Layout.LEGACY}, {Layout.DICE}, set(Layout))
    )


_POLICIES = (
    b'measurements = ["' + b"ab" * 32 + b'"]\nany_platform = "risk accepted"\n',
    b'signer = "' + b"cd" * 32 + b'"\nproduct_id = 1\nmin_svn = 2\nplatforms = ["' + b"0" * 32
    + b'"]\ntcb_statuses = ["UpToDate", "SWHardeningNeeded"]\nadvisories = ["INTEL-SA-00615"]\n',
)  # fmt: skip


def _broker() -> Iterator[Target]:
    mesh, key = ToyMesh(), TlsKey.generate()
    first = reduce(or_, DESKS)
    rng = random.Random(3)
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(ToyBroker(mesh, Path(directory) / "broker.db")) as broker,
    ):
        admission = broker.admit(mesh.workload(), mesh.attest("worker"))
        lines = broker.store.audit_lines()
        ca, issuer = broker.authority.ca.certificate, broker.authority.issuer.certificate
    leaf = ssl.PEM_cert_to_DER_cert(_first_pem(admission.certificate_chain_pem))
    identity = MeshIdentity(role="worker", measurement=bytes(32), manifest_digest=bytes(32))
    yield Target(
        name="first message",
        parse=lambda raw: wire.decode(raw, first, what="first message"),
        seeds=tuple(example(kind, rng) for kind in DESKS for _ in range(4)),
    )
    yield Target(
        name="manifest",
        parse=lambda raw: parse_manifest(SignedManifest(manifest=raw, signatures=())),
        seeds=(mesh.signed().manifest,),
    )
    csr = build_csr(key, names=("a.b", "127.0.0.1"))
    yield Target(name="certificate request", parse=parse_csr, seeds=(csr,))
    yield Target(name="CA certificate", parse=verify_ca_certificate, seeds=(ca, issuer, leaf))
    yield Target(
        name="issuing certificate",
        parse=partial(
            verify_issuing_certificate, ca_spki=spki_of(ca), manifest_digest=bytes(32), now=NOW
        ),
        seeds=(ca, issuer, leaf),
    )
    yield Target(name="identity", parse=MeshIdentity.from_der, seeds=(identity.to_der(),))
    yield Target(name="certificate", parse=read_identity, seeds=(leaf, issuer))
    yield Target(name="audit line", parse=decode_line, seeds=lines)
    for name, decode, kind in (
        ("release", decode_release, "_ReleaseRecord"),
        ("owner's goods", decode_goods, "_GoodsRecord"),
        ("standby's keys", decode_keys, "_KeysRecord"),
        ("recovery contribution", decode_contribution, "_ContributionRecord"),
    ):
        yield Target(name=name, parse=decode, seeds=_examples_of(kind, rng))
    yield from _jobs()
    commits = tuple(_packed(Commit, seed) for seed in _examples_of("Commit", rng))
    yield Target(name="commit", parse=decode_commit, seeds=commits)
    pieces = tuple(_packed(Piece, seed) for seed in _examples_of("Piece", rng))
    yield Target(name="piece of a snapshot", parse=decode_piece, seeds=pieces)
    yield from _kbs()


def _jobs() -> Iterator[Target]:
    policies, jobs = toy_jobs.toml(toy_jobs.policy_table()), toy_jobs.toml(toy_jobs.job_table())
    said, plan = canonical(load_data_policy(policies)), encode_plan(load_plan(jobs))
    yield Target(name="data policy", parse=load_data_policy, seeds=(policies,))
    yield Target(name="job plan", parse=load_plan, seeds=(jobs,))
    yield Target(name="canonical job plan", parse=parse_plan, seeds=(plan,))
    yield Target(name="CSV table", parse=_table, seeds=_CSV)
    yield Target(
        name="canonical data policy",
        parse=lambda raw: parse_data_policy(SignedPolicy(policy=raw, signature="00" * 64)),
        seeds=(said,),
    )


_CSV = (b'\xef\xbb\xbfname,age\r\n"a,""b\nc",1.5e3\r\nNA,-.5\n', b"age,other,name\n1,,x\n")


def _table(raw: bytes) -> None:
    for _ in csv_batches(io.BytesIO(raw), {"age": Kind.NUMBER, "name": Kind.TEXT}):
        pass


def _first_pem(chain: bytes) -> str:
    end = b"-----END CERTIFICATE-----\n"
    return (chain.partition(end)[0] + end).decode()


def _examples_of(name: str, rng: random.Random) -> tuple[bytes, ...]:
    """Return examples of the record called `name`, which a plaintext holds."""
    (kind,) = (each for each in message_kinds() if each.__name__ == name)
    return tuple(example(kind, rng) for _ in range(EXAMPLES))


def _packed(kind: type, seed: bytes) -> bytes:
    """Return an example in MessagePack."""
    return msgspec.msgpack.encode(msgspec.json.decode(seed, type=kind))


def _kbs() -> Iterator[Target]:
    yield Target(
        name="KBS request",
        parse=parse_request,
        seeds=(b'{"version":"0.4.0","tee":"sgx","extra-params":{}}',),
    )
    yield Target(name="KBS attestation", parse=parse_attestation, seeds=(_KBS_ATTESTATION,))
    yield Target(
        name="KBS resource",
        parse=lambda raw: parse_resource(raw.decode("latin-1")),
        seeds=(b"default/secret/name", b"a/b/c", b"../../etc", b"%2e/a/b"),
    )
    yield Target(
        name="result request",
        parse=parse_result_request,
        seeds=(b'{"audience":"https://a.b","nonce":"AAAA"}',),
    )


_KBS_ATTESTATION = (
    b'{"runtime-data":{"nonce":"AAAA","tee-pubkey":{"kty":"EC","crv":"P-256",'
    b'"alg":"ECDH-ES+A256KW","x":"AAAA","y":"AAAA"}},"tee-evidence":{"primary_evidence":'
    b'{"quote":"AAAA"},"additional_evidence":""},"init-data":null}'
)


def _crypto() -> Iterator[Target]:
    key = BrokerKey(Secret.random())
    target = BytesIO()
    pin = seal_stream(
        BytesIO(b"model" * 100),
        target,
        recipients=[key],
        media_type="application/onnx",
        name="digits",
        version=1,
        total_bytes=500,
    )
    sealed = target.getvalue()
    sender = QueueSender(
        queue_key=Secret.random(), model="digits", epoch=5, certificate_digest=bytes(32)
    )
    header = RequestHeader(version=3, deadline_ms=1_800_000_000_000, request_ids=(7, 8))
    message, _ = sender.seal_request(b"input", header=header)
    hpke, tls = HpkePrivateKey.generate(), TlsKey.generate()
    jws = b"eyJhbGciOiJFUzI1NiJ9.e30." + b"A" * 86
    yield Target(
        name="sealed header",
        parse=lambda raw: parse_header(read_signed(BytesIO(raw))),
        seeds=(sealed,),
    )
    yield Target(
        name="sealed file",
        parse=lambda raw: open_bytes(
            BytesIO(raw),
            identities=[key],
            pin=pin,
            media_type="application/onnx",
            name="digits",
            version=1,
            max_bytes=10_000,
        ),
        seeds=(sealed,),
    )
    yield Target(name="message header", parse=parse_message_header, seeds=(message,))
    yield Target(
        name="HPKE",
        parse=partial(hpke.open, info=b""),
        seeds=(hpke_seal(hpke.public, b"x", info=b""),),
    )
    yield from _zoo()
    yield from _sealed_requests()
    yield Target(
        name="JWS",
        parse=lambda raw: verify_jws(raw.decode("latin-1"), spki=tls.spki, typ=None, kid=None),
        seeds=(jws,),
    )
    yield Target(
        name="owner's key",
        parse=lambda raw: decode_owner_key(Secret(raw or b"\0")),
        seeds=tuple(
            encode_owner_key(SigningKey.generate(), passphrase=each).reveal()
            for each in (None, Secret(b"passphrase"))
        ),
    )
    yield Target(
        name="wardian.toml",
        parse=lambda raw: parse(raw, Agreed, name="wardian.toml"),
        seeds=(ToyMesh().agreed_toml,),
    )
    yield Target(
        name="operator.toml",
        parse=lambda raw: parse(raw, Operator, name="operator.toml"),
        seeds=(b'[broker]\nport = 1\n[collateral]\npccs = "https://a"\n[worker]\nreplicas = 2\n',),
    )
    yield Target(
        name="config.yaml of Cluster Serving",
        parse=lambda raw: parse_config(raw, name="config.yaml", report=Report()),
        seeds=(FLAT.encode(), NESTED.encode()),
    )
    yield Target(
        name="servables.yaml of Cluster Serving",
        parse=lambda raw: parse_servables(raw, name="servables.yaml", report=Report()),
        seeds=(SERVED.encode(),),
    )


def _zoo() -> Iterator[Target]:
    """What Analytics Zoo encrypted: the seeds are models and strings of the frozen vectors."""
    keys = ZooKeys(Secret(b"analytics-zoo"), b"intel-analytics")
    vectors = Path(__file__).parents[1] / "vectors" / "zoo-encryption" / "vectors.json"
    cases = json.loads(vectors.read_text(encoding="utf-8"))["cases"]
    for form in ZooForm:
        seeds = tuple(case["sealed"].encode() for case in cases if case["form"] == form.value)
        yield Target(
            name=f"Analytics Zoo's model, {form.value}",
            parse=partial(decrypt_zoo_model, keys=keys, form=form),
            seeds=seeds,
        )
        yield Target(
            name=f"Analytics Zoo's bytes, {form.value}",
            parse=partial(decrypt_zoo_bytes, keys=keys, form=form),
            seeds=tuple(base64.b64decode(each) for each in seeds if len(each) % 4 == 0),
        )


def _sealed_requests() -> Iterator[Target]:
    """What clients seal past a front end: outside, and inside, where a worker reads it."""
    place = RequestPlace("test", "digits", bytes(32), 5)
    opener = RequestOpener(Secret.random(), place=place)
    tensors = {"image": np.ones((2, 4), "<f4"), "texts": np.array([b"a", b"bc"], object)}
    asked = encode_asked(tensors, version=1, outputs=("a",), pad=True)
    sent = seal_request(opener.public, asked, place=place)
    answer = encode_ended(Ended(told=Told.ANSWERED, version=1, outputs=tensors))
    refused = encode_ended(Ended(told=Told.BAD_INPUT, version=1, outputs={}, text="expected"))
    sealed_answer = opener.open(sent.body).seal_answer(answer)
    key = RequestKey(
        mesh="test",
        model="digits",
        manifest="ab" * 32,
        manifest_version=1,
        epoch=5,
        not_after=NOW,
        public=opener.public,
        signature=bytes(70),
    )
    yield Target(name="sealed request", parse=opener.open, seeds=(sent.body,))
    yield Target(name="sealed answer", parse=sent.open_answer, seeds=(sealed_answer,))
    bare = encode_asked(tensors, version=0, outputs=None, pad=False)
    yield Target(name="inside a sealed request", parse=decode_asked, seeds=(asked, bare))
    yield Target(name="inside a sealed answer", parse=decode_ended, seeds=(answer, refused))
    yield Target(name="request key", parse=parse_request_key, seeds=(wire.encode(key),))
