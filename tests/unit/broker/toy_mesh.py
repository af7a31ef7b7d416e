"""A mesh in one process: owners, models, measurements and evidence, without a socket.

Evidence is complete SGX evidence of a simulated platform (`tee.launch.simulation`), so what the tests
attack is the verifier that also serves hardware.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wardian._internal.agreed import Agreed
from wardian._internal.counter import MonotonicCounter
from wardian._internal.settings import parse
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.authority import Authority
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.lines import ModelLine, SecretLine, sign_line, sign_model_line
from wardian.broker.mesh.manifest import (
    MeshManifest,
    SignedManifest,
    manifest_digest,
    parse_manifest,
    sign_manifest,
)
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest_for
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.offers import Offers
from wardian.broker.owners.orders import Orders
from wardian.broker.owners.protocol import OrderKind, Receipt
from wardian.broker.owners.provisioning import OpenedOrder, OpenedProvision
from wardian.broker.release.admission import Admission
from wardian.broker.release.broker_session import BrokerSession
from wardian.broker.release.policy import refuse_impossible
from wardian.broker.release.protocol import Request
from wardian.broker.release.releases import Releases
from wardian.broker.release.workload_session import WorkloadSession
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import Pin
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform

NOW = 1_790_000_000
PLATFORM = generate_platform(clock=lambda: NOW)
OTHER_PLATFORM = generate_platform(clock=lambda: NOW)
MASTER_KEY = MasterKey(mesh=Secret(bytes(range(32))), seed=Secret(bytes(range(32, 64))))


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Counter:
    """A monotonic counter that a test can read, set back, and make fail."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self.fails = False

    def read(self) -> int:
        return self.value

    def advance(self, to: int) -> None:
        if self.fails:
            raise OSError("killed before the counter was written")
        if not self.value < to < 2**63:
            raise ValueError("a counter only goes up")
        self.value = to

    @property
    def seam(self) -> MonotonicCounter:
        return MonotonicCounter(read=self.read, advance=self.advance)


@dataclass
class ToyMesh:
    """The owners' side: keys, `wardian.toml`, measurements, model lines."""

    name: str = "test"
    owners: list[SigningKey] = field(default_factory=lambda: [SigningKey.generate()])
    threshold: int = 1
    models: tuple[str, ...] = ("digits", "faces")
    measurements: dict[str, bytes] = field(
        default_factory=lambda: {role: digest(role) for role in ("broker", "frontend", "worker")}
    )
    keys: dict[str, BrokerKey] = field(default_factory=dict)
    witnesses: list[SigningKey] = field(default_factory=list)
    head_threshold: int = 0
    chain: dict[int, str] = field(default_factory=dict)
    """Digests of the manifests that came into force, by version: each names the one before."""

    def __post_init__(self) -> None:
        for model in self.models:
            self.keys.setdefault(model, BrokerKey(Secret.random()))

    @property
    def agreed_toml(self) -> bytes:
        owners = ", ".join(f'"{owner.public.hex()}"' for owner in self.owners)
        models = "\n".join(f"[models.{model}]\nmax_model_bytes = 100000" for model in self.models)
        return (
            f'[mesh]\nname = "{self.name}"\nowners = [{owners}]\n'
            f"threshold = {self.threshold}\n{self._witnesses_toml}{models}\n"
        ).encode()

    @property
    def _witnesses_toml(self) -> str:
        if not self.witnesses:
            return ""
        keys = ", ".join(f'"{key.public.hex()}"' for key in self.witnesses)
        return f"witnesses = [{keys}]\nhead_threshold = {self.head_threshold}\n"

    @property
    def agreed(self) -> Agreed:
        return parse(self.agreed_toml, Agreed, name="wardian.toml")

    def line(self, model: str = "digits", **changes: object) -> ModelLine:
        terms: dict[str, object] = {
            "mesh": self.name,
            "owner": self.owners[0],
            "name": model,
            "version": 1,
            "serial": 1,
            "media_type": "application/onnx",
            "pin": Pin(header_digest=digest(f"header of {model}"), last_tag=bytes(16)),
            "key_id": self.keys[model].key_id if model in self.keys else bytes(16),
            "total_bytes": 1000,
            "measurements": [self.measurements["worker"]],
        }
        return sign_model_line(**(terms | changes))  # type: ignore[arg-type]

    def secret(self, name: str = "license", **changes: object) -> SecretLine:
        """Return a secret's line, signed by the first owner or by `owner`, for `mesh`."""
        owner, mesh = changes.pop("owner", self.owners[0]), changes.pop("mesh", self.name)
        fields: dict[str, object] = {
            "name": name,
            "serial": 1,
            "source": "generated",
            "measurements": (self.measurements["worker"].hex(),),
            "owner": "00" * 32,
        }
        line = SecretLine(**(fields | changes))  # type: ignore[arg-type]
        return sign_line(line, mesh=mesh, owner=owner)  # type: ignore[arg-type]

    def in_force(self, signed: SignedManifest) -> None:
        """Let `signed` be what the manifests of higher versions follow."""
        self.chain[parse_manifest(signed).version] = manifest_digest(signed).hex()

    def manifest(self, **changes: object) -> MeshManifest:
        version = changes.get("version", 1)
        before = [each for each in self.chain if each < version]  # type: ignore[operator]
        fields: dict[str, object] = {
            "mesh": self.name,
            "version": 1,
            "previous": self.chain[max(before)] if before else None,
            "change_threshold": self.threshold,
            "trust": TrustAnchor(
                simulation_root_sha256=PLATFORM.root_sha256.hex(),
                tcb_statuses=("UpToDate",),
                advisories=(),
            ),
            "roles": {
                role: RoleReference(measurements=(measurement.hex(),))
                for role, measurement in self.measurements.items()
            },
            "models": tuple(self.line(model) for model in self.models),
        }
        return MeshManifest(**(fields | changes))  # type: ignore[arg-type]

    def signed(self, **changes: object) -> SignedManifest:
        return sign_manifest(self.manifest(**changes), self.owners[: max(1, self.threshold)])

    def verified(self, **changes: object) -> VerifiedManifest:
        return verify_manifest_for(self.signed(**changes), agreed=self.agreed)

    def attest(
        self,
        role: str,
        *,
        platform: SimulatedPlatform = PLATFORM,
        debug: bool = False,
        measurement: bytes | None = None,
    ) -> Callable[[bytes], Evidence]:
        """Return what a process of `role` makes its evidence with."""
        mr_enclave = measurement or self.measurements[role]
        return lambda report_data: platform.evidence(
            mr_enclave=mr_enclave, report_data=report_data, debug=debug
        )

    def workload(
        self, role: str = "worker", models: tuple[str, ...] = ("digits",), **more: object
    ) -> WorkloadSession:
        return WorkloadSession(
            role=role,
            models=models,
            agreed=self.agreed,
            nonce=secrets.token_bytes(32),
            **more,  # type: ignore[arg-type]
        )


JOBS = '[dialects.zoo_redis.jobs]\nserving_stream = { model = "digits" }\n'


@dataclass
class ZooMesh(ToyMesh):
    """A mesh that lists a role `zoo`, and says so in `wardian.toml` unless a test takes it away."""

    dialect: str = JOBS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.measurements = {**self.measurements, "zoo": digest("zoo")}

    @property
    def agreed_toml(self) -> bytes:
        return super().agreed_toml + self.dialect.encode()


class ToyBroker:
    """A broker without a socket: the steps of `service`, one call each, time as an attribute.

    Its state is a file that stays open: whoever makes one closes it.
    """

    def __init__(self, mesh: ToyMesh, path: Path, *, provisioned: bool = True) -> None:
        self.mesh = mesh
        self.path = path
        self.counter = Counter()
        self.now = 100.0
        self.host_time = NOW
        self.start()
        if provisioned:
            self.provision(mesh.signed(), keys=tuple(mesh.keys.values()))

    def start(self) -> None:
        self.store = Store(self.path, master_key=MASTER_KEY, counter=self.counter.seam)
        self.authority = Authority(
            store=self.store,
            attest=self.attest,
            agreed_toml=self.mesh.agreed_toml,
            clock=lambda: self.host_time,
        )
        self.offers = Offers(self.authority)
        self.orders = Orders(self.authority)
        self.releases = Releases(self.authority)

    def close(self) -> None:
        self.store.close()

    def restart(self) -> None:
        self.close()
        self.start()

    def attest(self, report_data: bytes) -> Evidence:
        return self.mesh.attest("broker")(report_data)

    def provision(
        self,
        signed: SignedManifest,
        *,
        keys: tuple[BrokerKey, ...] = (),
        owner: int = 0,
        secrets: Mapping[str, Secret] | None = None,
        recovery_public: str | None = None,
    ) -> Receipt:
        """Put `signed` in force as the owner would, past the messages."""
        offer = OpenedProvision(
            owner=self.mesh.owners[owner].public.hex(),
            signed_manifest=signed,
            goods=goods_of(keys, secrets),
            recovery_public=recovery_public,
        )
        receipt = self.offers.accept(offer, offered=self.offers.verify_offer(signed))
        self.mesh.in_force(signed)
        return receipt

    def order(self, kind: OrderKind, *, time: int | None = None, owner: int = 0) -> Receipt:
        """Have done what the owner orders, past the messages."""
        public = self.mesh.owners[owner].public.hex()
        return self.orders.carry_out(OpenedOrder(owner=public, kind=kind, time=time))

    def open(self) -> BrokerSession:
        return BrokerSession(nonce=secrets.token_bytes(32), opened_at=self.now)

    def challenge(self, session: BrokerSession, raw: bytes) -> bytes:
        """Take message 1, return message 2."""
        request = decode_request(raw)
        manifest = self.authority.manifest
        if not request.renewal:
            refuse_impossible(manifest.manifest, role=request.role, models=request.models)
        report_data = session.begin(
            raw,
            request,
            manifest=manifest,
            ca_certificate=self.authority.ca.certificate,
            issuing_certificate=self.authority.issuer.certificate,
        )
        log = self.authority.transparency.show(request.seen)
        return session.challenge(self.attest(report_data), log=log)

    def respond(self, session: BrokerSession, raw: bytes) -> bytes:
        """Take message 3, return message 4."""
        proof = session.receive(raw, now=self.now)
        result = verify_evidence(
            proof.evidence,
            policy=appraisal_policy(session.manifest.manifest, session.request.role),
            report_data=proof.report_data,
            now=self.authority.clock(),
        )
        release = self.releases.release(
            proof,
            request=session.request,
            shown=session.manifest,
            logged=session.logged,
            result=result,
        )
        return session.respond(release, sign=self.authority.ca.sign, now=self.now)

    def admit(self, workload: WorkloadSession, attest: Callable[[bytes], Evidence]) -> Admission:
        """Carry out one whole release."""
        session = self.open()
        challenge = self.challenge(session, workload.request(tee="simulated"))
        evidence = attest(workload.receive_challenge(challenge, now=self.authority.clock()))
        response = self.respond(session, workload.attestation(evidence))
        return workload.receive_response(response, now=self.authority.clock())


def decode_request(raw: bytes) -> Request:
    from wardian._internal import wire

    return wire.decode(raw, Request, what="request")
