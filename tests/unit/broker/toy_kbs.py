"""A broker that speaks the KBS protocol, in one process, without a socket.

Evidence is complete evidence of simulated platforms, verified by the verifier that also serves
hardware; clients are those of `simulators.kbs_client`.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from simulators.kbs_client import RcarClient, TokenClient, Transport
from simulators.td_quotes import TdxPlatform, td_body

from wardian.attestation.appraisal.policy import AnyOf, AppraisalPolicy, MeasurementIn
from wardian.attestation.evidence import Evidence
from wardian.attestation.results.ear_token import EarSigner
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.kbs.answers import KbsRequest, KbsResponse
from wardian.broker.kbs.desk import KbsDesk
from wardian.broker.kbs.errands import Errand, Outcome, carry_out
from wardian.broker.kbs.messages import ResourcePath, secret_name
from wardian.broker.kbs.sessions import KbsLimits
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import PolicyDenied
from wardian.tee.launch.simulation import generate_platform

NOW = 1_790_000_000
PLATFORM = generate_platform(clock=lambda: NOW)
TDX = TdxPlatform(now=NOW)
WORKER = hashlib.sha256(b"worker").digest()
STRANGER = hashlib.sha256(b"stranger").digest()
MANIFEST = bytes(range(32))
ISSUER, AUDIENCE = "wardian:mesh:test", "wardian:broker:test"
CA = TlsKey.generate()
NAME = "default/secret/model-1"
SECRET = b"the key of a sealed model"


def sgx_quote(measurement: bytes = WORKER) -> Callable[[bytes], bytes]:
    return lambda report_data: PLATFORM.quote(mr_enclave=measurement, report_data=report_data)


def td_quote(report_data: bytes) -> bytes:
    return TDX.quote(td_body(report_data=report_data))


@dataclass
class ToyKbs:
    """A desk, and a composer that does its errands at once."""

    limits: KbsLimits = field(default_factory=KbsLimits)
    now: float = NOW
    released: list[ResourcePath] = field(default_factory=list)
    audited: list[bytes] = field(default_factory=list)
    errands: list[Errand] = field(default_factory=list)
    policy: AppraisalPolicy | None = None

    def __post_init__(self) -> None:
        self.signer = EarSigner(TlsKey.generate(), issuer=ISSUER, audience=AUDIENCE)
        self.desk = KbsDesk(
            signer=self.signer,
            statement=self.statement(),
            policy_id="manifest-1",
            limits=self.limits,
        )
        if self.policy is None:
            guest = td_quote(bytes(64))
            found = MeasurementIn(frozenset({WORKER, STRANGER, measurement_of(guest)}))
            self.policy = AppraisalPolicy(
                roots=frozenset({PLATFORM.root_sha256, TDX.root_sha256}), rule=AnyOf(found)
            )

    def statement(self):
        return self.signer.certify(CA.sign, manifest_digest=MANIFEST, now=NOW)

    async def appraise(self, evidence: Evidence, report_data: bytes) -> AttestationResult:
        assert evidence.collateral == b""
        tdx = evidence.quote[4] == 0x81
        collateral = TDX.collateral() if tdx else PLATFORM.collateral()
        return verify_evidence(
            Evidence(quote=evidence.quote, collateral=collateral),
            policy=self.policy,
            report_data=report_data,
            now=NOW,
        )

    def release(self, result: AttestationResult, resource: ResourcePath, evidence: bytes) -> Secret:
        if secret_name(resource, mesh="test") != NAME.rpartition("/")[2]:
            raise PolicyDenied("no owner gives a secret of this name", rule="interop-secret")
        if result.claims.measurement == STRANGER:
            raise PolicyDenied("the secret's owner does not name this measurement", rule="measured")
        self.released.append(resource)
        self.audited.append(evidence)
        return Secret(SECRET)

    def carry_out(self, errand: Errand) -> Outcome:
        self.errands.append(errand)
        return asyncio.run(carry_out(errand, appraise=self.appraise, release=self.release))

    def respond(self, request: KbsRequest, *, peer: str = "192.0.2.1") -> KbsResponse:
        step = self.desk.accept(request, peer=peer, now=self.now)
        if isinstance(step, KbsResponse):
            return step
        return self.desk.conclude(step, self.carry_out(step), now=self.now)

    def transport(self, peer: str = "192.0.2.1") -> Transport:
        def call(method, path, headers, body):
            request = KbsRequest(
                method=method.encode(),
                target=path.encode(),
                headers={name.encode(): value.encode() for name, value in headers.items()},
                body=body,
            )
            answer = self.respond(request, peer=peer)
            lines = [line.partition(b": ") for line in answer.headers.split(b"\r\n") if line]
            return answer.status, [(n.decode(), v.decode()) for n, _, v in lines], answer.body

        return call

    def client(self, **more) -> RcarClient:
        return RcarClient(transport=self.transport(), **({"quote": sgx_quote()} | more))

    def token_client(self, client: RcarClient) -> TokenClient:
        return TokenClient(transport=self.transport(), token=client.token, key=client.key)


def measurement_of(quote: bytes) -> bytes:
    """Return the measurement of a guest, as the verifier finds it."""
    from wardian.attestation.appraisal.policy import AnyMeasurement

    found = verify_evidence(
        Evidence(quote=quote, collateral=TDX.collateral()),
        policy=AppraisalPolicy(roots=frozenset({TDX.root_sha256}), rule=AnyMeasurement()),
        report_data=bytes(64),
        now=NOW,
    )
    return found.claims.measurement
