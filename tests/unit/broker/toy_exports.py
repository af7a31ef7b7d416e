"""A mesh of hospitals whose job makes a model that a worker serves, and a broker that is told."""

import secrets
from pathlib import Path
from typing import Any

import toy_jobs
from toy_jobs import allow
from toy_mesh import NOW, ToyMesh, digest
from toy_tables import JOB, TABLE_KEYS, A, Ask, B, TableBroker

from wardian._internal import wire
from wardian.attestation.evidence import Purpose, bind
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.exports.broker_session import BrokerExportSession
from wardian.broker.exports.exported import Exported
from wardian.broker.exports.exports import Exports
from wardian.broker.exports.job_session import ExportSession
from wardian.broker.exports.protocol import ExportRequest, Recorded
from wardian.broker.exports.statement import ExportedTable, ExportStatement, Told
from wardian.broker.jobs.plan import JobPlan, encode_plan
from wardian.broker.joint.masked import MaskedKey, mask_key
from wardian.broker.joint.record import ModelFile
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.lines import ModelLine, sign_model_line
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.session.shown import KnownBroker
from wardian.broker.tables.asked import read_asked
from wardian.broker.tables.granted import GrantedTables
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import Pin
from wardian.crypto.secret import Secret

WORKER, OTHER_WORKER = digest("worker"), digest("worker 2")
MODEL = "readmission-2026.model"
MODEL_KEY = BrokerKey(Secret(b"key of the joint model".ljust(32)))
PIN = Pin(header_digest=digest("joint header"), last_tag=bytes(16))
NAMES = {toy_jobs.KEYS[each].public.hex(): each for each in (A, B)}
APPROVER = toy_jobs.KEYS[B].public.hex()
FILE = ModelFile(
    name=MODEL,
    version=1,
    media_type="application/onnx",
    pin=str(PIN),
    key_id=MODEL_KEY.key_id.hex(),
    total_bytes=1000,
)


class ServingMesh(ToyMesh):
    """The mesh of hospitals a and b, whose `wardian.toml` names the model that the job makes."""

    @property
    def agreed_toml(self) -> bytes:
        return super().agreed_toml + f'[models."{MODEL}"]\nmax_model_bytes = 100000\n'.encode()

    def joint_line(self, owner: str = A, **changes: Any) -> ModelLine:
        terms: dict[str, Any] = {
            "mesh": self.name,
            "owner": toy_jobs.KEYS[owner],
            "name": MODEL,
            "version": 1,
            "serial": 1,
            "media_type": "application/onnx",
            "pin": PIN,
            "key_id": MODEL_KEY.key_id,
            "total_bytes": 1000,
            "measurements": [WORKER],
        }
        return sign_model_line(**(terms | changes))


def serving_hospitals(**changes: bytes) -> ServingMesh:
    mesh = ServingMesh(
        name=toy_jobs.MESH, owners=[toy_jobs.KEYS[A], toy_jobs.KEYS[B]], models=("digits",)
    )
    mesh.measurements = {**mesh.measurements, "job": JOB, **changes}
    return mesh


def plan(**changes: Any) -> JobPlan:
    """Return the toy job, whose model goes to the toy worker as well."""
    outputs = {"model": [A], "metrics": [B], "serving": [WORKER.hex()]}
    return toy_jobs.job(**({"outputs": outputs} | changes))


def rule(owner: str = A, *, output: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a rule that allows `plan()`, with the approval of hospital b."""
    given = {
        "serving": [WORKER.hex(), OTHER_WORKER.hex()],
        "approvals": {"needed": 1, "of": [B]},
        **(output or {}),
    }
    return allow(owner, output=given, **({"expires": NOW + 100} | changes))


def policy_changes(owner: str, **changes: Any) -> dict[str, Any]:
    """Return what makes a toy policy one that lets the model be served."""
    return {"allow": [rule(owner)], **changes}


def statement(granted: GrantedTables, **changes: Any) -> ExportStatement:
    """Return what the job tells that had `granted`."""
    given: dict[str, Any] = {
        "job": granted.job_id.hex(),
        "export": digest("all that comes out").hex(),
        "report": digest("report").hex(),
        "tables": tuple(
            sorted(
                (
                    ExportedTable(owner=t.owner, table=t.table, serial=t.serial, rule=t.rule)
                    for t in granted.tables
                ),
                key=lambda each: each.place,
            )
        ),
        "approvers": (APPROVER,),
        "served": FILE,
    }
    return ExportStatement(**(given | changes))


def masked(key: Secret, told: ExportStatement) -> MaskedKey:
    """Return `key` as the job that tells `told` has it, of the toy tables."""
    owners = {each.place: NAMES.get(each.owner, A) for each in told.tables}
    tables = {place: TABLE_KEYS[owner].key for place, owner in owners.items()}
    return mask_key(key, job_id=bytes.fromhex(told.job), tables=tables)


class ExportBroker(TableBroker):
    """A toy broker that is told of exports."""

    mesh: ServingMesh

    def __init__(self, mesh: ServingMesh, path: Path) -> None:
        super().__init__(mesh, path, given=False)
        for owner in (A, B):
            self.consent(owner)

    def start(self) -> None:
        super().start()
        self.exports = Exports(self.authority, spend=self.spend)

    def consent(self, owner: str = A, **changes: Any) -> Any:
        """Put a policy in force that lets the model be served, unless `changes` say otherwise."""
        return super().consent(owner, **(policy_changes(owner) | changes))

    @property
    def known(self) -> KnownBroker:
        """What a job knows of it that had its tables just now."""
        authority = self.authority
        return KnownBroker(
            ca_spki=verify_ca_certificate(authority.ca.certificate),
            audit=authority.transparency.head().audit,
            version=authority.manifest_version,
        )

    def tell(
        self,
        told: ExportStatement,
        *,
        key: Secret | None = MODEL_KEY.key,
        plan: JobPlan | None = None,
        measurement: bytes = JOB,
        shown: VerifiedManifest | None = None,
    ) -> Recorded:
        """Have the broker judge and write down an export, past the messages."""
        report_data = bind(Purpose.EXPORT, b"past the messages")
        evidence = self.mesh.attest("job", measurement=measurement)(report_data)
        manifest = shown or self.authority.manifest
        result = verify_evidence(
            evidence,
            policy=appraisal_policy(manifest.manifest, "job"),
            report_data=report_data,
            now=self.authority.clock(),
        )
        return self.exports.record(
            evidence,
            told=Told(statement=told, key=None if key is None else masked(key, told).masked),
            asked=read_asked(encode_plan(plan or globals()["plan"]()), self.authority),
            tee="simulated",
            shown=manifest,
            logged=0,
            result=result,
        )

    def granted(self, **how: Any) -> GrantedTables:
        """Return what a job had of the tables of the plan."""
        return Ask(self, plan()).whole(**how)

    def serve(self, *lines: ModelLine, version: int = 2, **changes: Any) -> None:
        """Put a manifest in force with lines beside the one of digits."""
        models = (self.mesh.line("digits"), *lines)
        self.provision(self.mesh.signed(version=version, models=models, **changes))

    def served(self, **how: Any) -> bytes | None:
        """Return the key of the joint model that a worker is admitted with, if it is given it."""
        admission = self.admit(
            self.mesh.workload("worker", (MODEL,)), self.mesh.attest("worker", **how)
        )
        return next((each.key.reveal() for each in admission.secrets if each.kind == "model"), None)


class Tell:
    """One job's four messages, step by step, with a hostile host on the wire."""

    def __init__(
        self,
        broker: ExportBroker,
        told: ExportStatement,
        *,
        key: Secret | None = MODEL_KEY.key,
        of: JobPlan | None = None,
        known: KnownBroker | None = None,
    ) -> None:
        self.broker, self.told = broker, told
        self.job = ExportSession(
            of or plan(),
            told,
            key=None if key is None else masked(key, told),
            agreed=broker.mesh.agreed,
            nonce=secrets.token_bytes(32),
            known=known or broker.known,
        )
        self.m1 = self.job.request(tee="simulated")

    def challenge(self, raw: bytes | None = None) -> bytes:
        raw = self.m1 if raw is None else raw
        authority = self.broker.authority
        request = wire.decode(raw, ExportRequest, what="x")
        self.session = BrokerExportSession(
            read_asked(request.plan, authority),
            key=HpkePrivateKey.generate(),
            opened_at=self.broker.now,
        )
        report_data = self.session.begin(
            raw,
            request,
            manifest=authority.manifest,
            ca_certificate=authority.ca.certificate,
            issuing_certificate=authority.issuer.certificate,
        )
        log = authority.transparency.show(request.seen)
        self.m2 = self.session.challenge(self.broker.attest(report_data), log=log)
        return self.m2

    def attest(self, **how: Any) -> bytes:
        report_data = self.job.receive_challenge(self.m2, now=self.broker.authority.clock())
        self.m3 = self.job.attestation(self.broker.mesh.attest("job", **how)(report_data))
        return self.m3

    def respond(self, raw: bytes | None = None) -> bytes:
        broker, session = self.broker, self.session
        proof = session.receive(self.m3 if raw is None else raw, now=broker.now)
        result = verify_evidence(
            proof.evidence,
            policy=appraisal_policy(session.manifest.manifest, "job"),
            report_data=proof.report_data,
            now=broker.authority.clock(),
        )
        recorded = broker.exports.record(
            proof.evidence,
            told=session.told(proof),
            asked=session.asked,
            tee="simulated",
            shown=session.manifest,
            logged=session.logged,
            result=result,
        )
        self.m4 = session.respond(recorded, sign=broker.authority.ca.sign, now=broker.now)
        return self.m4

    def receive(self, raw: bytes | None = None) -> Exported:
        raw = self.m4 if raw is None else raw
        return self.job.receive_response(raw, now=self.broker.authority.clock())

    def whole(self, **how: Any) -> Exported:
        """Carry out all of it."""
        self.challenge()
        self.attest(**how)
        self.respond()
        return self.receive()
