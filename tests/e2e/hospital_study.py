"""Three hospitals own a mesh; of each a small sealed table, its policy, and jobs over them.

Every study has tables of its own, so that on one broker each counts its uses from the first.
"""

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

import toy_jobs
from toy_jobs import KEYS, MESH, NAMES
from toy_mesh import ToyMesh

from wardian._internal.clock import unix_time
from wardian.broker.jobs.policy import load_policy
from wardian.broker.jobs.signing import SignedPolicy, sign_policy
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.manifest import MeshManifest
from wardian.broker.mesh.trust import TrustAnchor
from wardian.broker.owners.client import consent
from wardian.broker.owners.goods import Goods, goods_of
from wardian.broker.owners.protocol import PolicyInForce
from wardian.broker.owners.session import Demands
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.owner_key import encode_owner_key
from wardian.crypto.recipients import BrokerKey, HpkeIdentity
from wardian.crypto.sealed_file import Pin, open_bytes
from wardian.crypto.sealed_stream import seal_stream
from wardian.crypto.secret import Secret
from wardian.errors import CryptoError
from wardian.learning.shared.approvals import sign_approval
from wardian.tee.launch.simulation import SimulatedPlatform

A, B, C = NAMES
FAR = 4_000_000_000
"""Unix seconds; rules are not over before."""
PRIVATE = {
    name: HpkePrivateKey.from_secret(Secret(name.encode().rjust(32))) for name in (*NAMES, "eve")
}
ROWS = 48


class HospitalMesh(ToyMesh):
    """The hospitals' mesh, on a platform whose clock is the machine's."""

    def __init__(self, platform: SimulatedPlatform, measurements: Mapping[str, bytes]) -> None:
        super().__init__(name=MESH, owners=[KEYS[name] for name in NAMES], models=("digits",))
        self.platform, self.measurements = platform, dict(measurements)

    def attest(self, role: str, **how: Any) -> Any:
        return super().attest(role, **{"platform": self.platform, **how})

    def manifest(self, **changes: Any) -> MeshManifest:
        trust = TrustAnchor(
            simulation_root_sha256=self.platform.root_sha256.hex(),
            tcb_statuses=("UpToDate",),
            advisories=(),
        )
        return super().manifest(**{"trust": trust, "models": (), **changes})

    @property
    def demands(self) -> Demands:
        policy = appraisal_policy(self.manifest(), "broker")
        return Demands(agreed_toml=self.agreed_toml, policy=policy)


def records(seed: int = 0) -> dict[str, dict[str, list[Any]]]:
    """Return the columns of each hospital's table: most patients of B are A's, none of C's is."""
    tossed = np.random.default_rng(seed)
    sick = [row % 2 for row in range(ROWS)]

    def near(wanted: list[int]) -> list[float]:
        return [float(each + tossed.normal()) for each in wanted]

    def patients(first: int) -> list[str]:
        return [f"p{first + row:04}" for row in range(ROWS)]

    return {
        A: {"patient": patients(0), "age": near(sick), "bmi": near(sick), "readmitted": sick},
        B: {"patient": patients(8), "cost": near(sick)},
        C: {
            "patient": patients(500),
            **{name: near(sick) for name in ("age", "bmi", "cost")},
            "readmitted": sick,
        },
    }


def csv_of(columns: Mapping[str, list[Any]]) -> bytes:
    lines = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    return ("\n".join(lines) + "\n").encode()


class Study:
    """Tables of the hospitals, sealed under keys of their own, and what is said of them."""

    def __init__(
        self,
        place: Path,
        mesh: HospitalMesh,
        *,
        name: str = "s",
        columns: Mapping[str, Mapping[str, list[Any]]] | None = None,
        **sealing: Any,
    ) -> None:
        """Seal the `columns` of hospitals below `place`, which is made; `sealing` as `seal` has."""
        self.mesh, self.name, self.place = mesh, name, place
        self.columns = records() | dict(columns or {})
        self.tables = {owner: f"{toy_jobs.TABLES[owner]}-{name}" for owner in NAMES}
        self.keys = {owner: Secret.random() for owner in NAMES}
        self.paths = {owner: place / f"{self.tables[owner]}.sealed" for owner in NAMES}
        place.mkdir(parents=True, mode=0o700)
        self.pins = {
            owner: self.seal(self.paths[owner], csv_of(self.columns[owner]), owner, **sealing)
            for owner in NAMES
        }

    def seal(self, path: Path, content: bytes, owner: str, **changes: Any) -> Pin:
        given = {"media_type": "text/csv", "name": self.tables[owner], "version": 1, **changes}
        with path.open("wb") as file:
            return seal_stream(
                io.BytesIO(content),
                file,
                total_bytes=len(content),
                recipients=[BrokerKey(self.keys[owner])],
                **given,
            )

    def allow(self, owner: str, **changes: Any) -> dict[str, Any]:
        """Return a rule that allows `plan()`; `output` changes within."""
        output = {
            **{name: [A, B] for name in ("model", "metrics", "aggregates")},
            "smallest_join": 10,
            "smallest_cohort": 2,
            "without_noise": "risk accepted",
            **changes.pop("output", {}),
        }
        return {
            "name": "study",
            "purposes": ["readmission"],
            "parties": [A, B],
            "columns": list(self.columns[owner]),
            "algorithms": {
                toy_jobs.TRAINED: {"l2": {"min": 0.1}, "max_iterations": {"min": 1, "max": 200}},
                "statistics": {"largest": {"min": 0.1}},
            },
            "expires": FAR,
            "output": {key: value for key, value in output.items() if value is not None},
            **changes,
        }

    def policy(self, owner: str, *, rule: Mapping[str, Any] | None = None, **changes: Any) -> Any:
        """Return the signed policy of `owner`; `rule` changes its one rule."""
        code = {
            "measurements": [self.mesh.measurements["job"].hex()],
            "simulation_root_sha256": self.mesh.platform.root_sha256.hex(),
        }
        table = toy_jobs.policy_table(
            owner,
            **{
                "table": self.tables[owner],
                "pin": str(self.pins[owner]),
                "max_beacon_age_s": None,
                "code": code,
                "allow": [self.allow(owner, **(rule or {}))],
                **changes,
            },
        )
        return sign_policy(load_policy(toy_jobs.toml(table)), KEYS[owner])

    def plan(self, *owners: str, **changes: Any) -> bytes:
        """Return `job.toml` of a job over the tables of `owners`: by default A's and B's."""
        inputs = []
        for owner in owners or (A, B):
            learnt = [name for name in self.columns[owner] if name not in {"patient", "readmitted"}]
            inputs.append({"table": self.tables[owner], "owner": owner, "columns": learnt})
        if len(inputs) > 1:
            for each in inputs:
                each["identifier"] = "patient"
        inputs[0]["label"] = "readmitted"
        given = {
            "name": f"study-{self.name}",
            "inputs": inputs,
            "join": {"kind": "inner"} if len(inputs) > 1 else None,
            "outputs": {"model": [A], "metrics": [A, B]},
            "privacy": None,
            **changes,
        }
        return toy_jobs.toml(toy_jobs.job_table(**given))

    def counting(self, **changes: Any) -> bytes:
        """Return `job.toml` of a job that learns nothing and counts: it needs no library."""
        inputs = [
            {
                "table": self.tables[owner],
                "owner": owner,
                "columns": columns,
                "identifier": "patient",
            }
            for owner, columns in ((A, ["age", "bmi"]), (B, ["cost"]))
        ]
        given = {
            "train": {"algorithm": "statistics"},
            "outputs": {"aggregates": [A, B]},
            "inputs": inputs,
            **changes,
        }
        return self.plan(**given)

    def by_place(self, *owners: str) -> dict[str, Path]:
        """Return where the tables of `owners` lie, as `wardian job submit` is told."""
        return {f"{owner}/{self.tables[owner]}": self.paths[owner] for owner in owners or (A, B)}

    async def give(
        self,
        address: tuple[str, int],
        owner: str,
        policy: SignedPolicy | None = None,
        *,
        with_key: bool = True,
    ) -> PolicyInForce:
        """Put the policy of `owner` in force, as it would; return what the broker counted."""
        done = await consent(
            address,
            owner=KEYS[owner],
            demands=self.mesh.demands,
            policy=policy or self.policy(owner),
            key=goods_of((BrokerKey(self.keys[owner]),)) if with_key else Goods(),
            now=unix_time,
        )
        assert done.receipt.policy is not None
        return done.receipt.policy


def approval(out: Path, who: str, **changes: Any) -> bytes:
    """Return the approval of `who` of what the job that shows `out` holds."""
    from wardian._internal import wire

    export = bytes.fromhex(changes.pop("export", status(out)["export_digest"]))
    return wire.encode(sign_approval(export, KEYS[who], mesh=changes.pop("mesh", MESH)))


def status(out: Path) -> dict[str, Any]:
    """Return what a job said last in its directory `out`."""
    found: dict[str, Any] = json.loads((out / "status.json").read_text())
    return found


def outputs(out: Path) -> set[str]:
    """Return the names of what left."""
    return {path.name for path in out.glob("*.sealed")}


def opened(out: Path, file: str, identity: HpkePrivateKey) -> bytes | None:
    """Return what `identity` reads of a job's output, found by its report; None: it cannot."""
    report = json.loads((out / "report.json").read_text())
    (entry,) = (each for each in report["outputs"] if each["file"] == file)
    try:
        return bytes(
            open_bytes(
                io.BytesIO((out / file).read_bytes()),
                identities=[HpkeIdentity(identity)],
                pin=Pin.parse(entry["pin"]),
                media_type=entry["media_type"],
                name=entry["name"],
                version=1,
                max_bytes=2**24,
            )
        )
    except CryptoError:
        return None


def key_file(place: Path, name: str) -> Path:
    """Return a file of the key of hospital `name` as an owner, made below `place`."""
    path = place / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(encode_owner_key(KEYS[name]).reveal())
    return path


def identity_file(place: Path, name: str) -> Path:
    """Return a file of the private key that what `name` is given is sealed to."""
    path = place / f"{name}.identity"
    path.touch(mode=0o600)
    path.write_text(PRIVATE[name].to_secret().reveal().hex() + "\n")
    return path
