"""A mesh of hospitals with a job's code in its manifest, and a broker that keeps their tables."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import toy_jobs
from toy_mesh import PLATFORM, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.verifier import verify_evidence
from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.signing import SignedPolicy, sign_policy
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.owners.consents import Consents
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.protocol import Receipt
from wardian.broker.owners.provisioning import OpenedConsent
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.broker.tables.asked import read_asked
from wardian.broker.tables.broker_session import BrokerJobSession
from wardian.broker.tables.granted import GrantedTables
from wardian.broker.tables.job_session import JobSession
from wardian.broker.tables.protocol import JobRequest
from wardian.broker.tables.releases import TableReleases
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret

A, B = "hospital-a", "hospital-b"
JOB = digest("job")
TABLE_KEYS = {
    name: BrokerKey(Secret(f"table of {name}".encode().ljust(32))) for name in toy_jobs.NAMES
}
CODE = {
    "measurements": [JOB.hex()],
    "simulation_root_sha256": PLATFORM.root_sha256.hex(),
}
PLACES = {name: toy_jobs.policy(name).place for name in toy_jobs.NAMES}


def hospitals(**changes: Any) -> ToyMesh:
    """Return the mesh of hospitals a and b; c is nobody's owner."""
    mesh = ToyMesh(
        name=toy_jobs.MESH, owners=[toy_jobs.KEYS[A], toy_jobs.KEYS[B]], models=("digits",)
    )
    mesh.measurements = {**mesh.measurements, "job": JOB, **changes}
    return mesh


def signed_policy(owner: str = A, **changes: Any) -> SignedPolicy:
    """Return the policy of `owner` that allows `toy_jobs.job()` to the toy job's code."""
    given = {"code": CODE, "max_beacon_age_s": None, **changes}
    return sign_policy(toy_jobs.policy(owner, **given), toy_jobs.KEYS[owner])


class TableBroker(ToyBroker):
    """A toy broker with the two desks' means, one call each."""

    def __init__(self, mesh: ToyMesh, path: Path, *, given: bool = True) -> None:
        super().__init__(mesh, path)
        if given:
            self.consent(A)
            self.consent(B)

    def start(self) -> None:
        super().start()
        self.consents = Consents(self.authority)
        self.tables = TableReleases(self.authority, spend=self.spend)

    def spend(self, entries: Sequence[AuditEntry]) -> None:
        """Let any number of lines be written; the desks' own ration is tested at the desks."""

    def consent(
        self,
        owner: str = A,
        *,
        by: str | None = None,
        signed: SignedPolicy | None = None,
        keys: tuple[BrokerKey, ...] | None = None,
        **changes: Any,
    ) -> Receipt:
        """Put a policy in force as its owner would, past the messages."""
        return self.consents.accept(
            OpenedConsent(
                owner=toy_jobs.KEYS[by or owner].public.hex(),
                signed_policy=signed or signed_policy(owner, **changes),
                goods=goods_of((TABLE_KEYS[owner],) if keys is None else keys),
            )
        )

    def record(self, owner: str = A) -> Any:
        return self.tables._tables.record(PLACES[owner])

    def entries(self) -> list[AuditEntry]:
        lines = verify_chain(self.store.audit_lines(limit=1000), head=self.store.audit_head)
        return [line.entry for line in lines]


class Ask:
    """One job's four messages, step by step, with a hostile host on the wire."""

    def __init__(
        self,
        broker: TableBroker,
        plan: JobPlan | None = None,
        *,
        again: bytes | None = None,
        salt: bytes | None = None,
    ) -> None:
        self.broker, self.plan = broker, plan or toy_jobs.job()
        self.job = JobSession(
            self.plan,
            agreed=broker.mesh.agreed,
            nonce=secrets.token_bytes(32),
            salt=salt or secrets.token_bytes(16),
            again=again,
        )
        self.m1 = self.job.request(tee="simulated")

    def open(self, request: JobRequest) -> BrokerJobSession:
        asked = read_asked(request.plan, self.broker.authority)
        nonce = secrets.token_bytes(32)
        return BrokerJobSession(asked, nonce=nonce, opened_at=self.broker.now)

    def challenge(self, raw: bytes | None = None) -> bytes:
        raw = self.m1 if raw is None else raw
        authority = self.broker.authority
        request = wire.decode(raw, JobRequest, what="x")
        self.session = self.open(request)
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
        attest = self.broker.mesh.attest("job", **how)
        self.m3 = self.job.attestation(attest(report_data))
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
        release = broker.tables.release(
            proof.evidence,
            request=session.request,
            asked=session.asked,
            shown=session.manifest,
            logged=session.logged,
            result=result,
        )
        self.m4 = session.respond(release, sign=broker.authority.ca.sign, now=broker.now)
        return self.m4

    def receive(self, raw: bytes | None = None) -> GrantedTables:
        raw = self.m4 if raw is None else raw
        return self.job.receive_response(raw, now=self.broker.authority.clock())

    def whole(self, **how: Any) -> GrantedTables:
        """Carry out all of it."""
        self.challenge()
        self.attest(**how)
        self.respond()
        return self.receive()
