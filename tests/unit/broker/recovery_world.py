"""A mesh of three owners, two of whom decide, with recovery keys, and what is left of its broker."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from toy_mesh import NOW, Counter, ToyBroker, ToyMesh

from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.verify import verify_manifest_for
from wardian.broker.recovery.gathering import Gathering
from wardian.broker.recovery.keeper import refresh
from wardian.broker.recovery.package import RecoveryPackage
from wardian.broker.recovery.protocol import RecoveryHello
from wardian.broker.recovery.sessions import BrokerVisit, OwnerMeans, OwnerVisit
from wardian.broker.state.audit import AuditEntry, AuditHead
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.new_life import begin_life
from wardian.broker.state.replica import Replica
from wardian.broker.state.store import Store
from wardian.broker.transparency.heads import SignedHead, sign_head
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.signing import SigningKey


class RecoveryWorld:
    """The owners, their broker, and the backup that was made of it."""

    def __init__(self, directory: Path, *, owners: int = 3, threshold: int = 2) -> None:
        self.directory = directory
        keys = [SigningKey.generate() for _ in range(owners)]
        self.mesh = ToyMesh(owners=keys, threshold=threshold)
        self.recovery_keys = [HpkePrivateKey.generate() for _ in keys]
        self.broker = ToyBroker(self.mesh, directory / "broker.db", provisioned=False)
        last = keys[-1]
        models = (self.mesh.line("digits"), self.mesh.line("faces", owner=last))
        self.signed = self.mesh.signed(models=models)
        self.give(0, "digits")
        for number in range(1, owners - 1):
            self.give(number)
        if owners > 1:
            self.give(owners - 1, "faces")
        package = refresh(self.broker.authority)
        assert package is not None
        self.package: RecoveryPackage = package
        self.backup = directory / "backup.db"
        self.back_up()

    def give(self, owner: int, *models: str) -> None:
        """Let an owner bring the manifest, its recovery key and keys of its models."""
        self.broker.provision(
            self.signed,
            owner=owner,
            keys=tuple(self.mesh.keys[model] for model in models),
            recovery_public=self.recovery_keys[owner].public.hex(),
        )

    def back_up(self) -> None:
        shutil.copy(self.broker.path, self.backup)
        self.head: SignedHead | None = self.sign(self.broker.store.audit_head)

    def sign(self, head: AuditHead) -> SignedHead:
        """Sign `head` as the mesh's broker does."""
        authority = self.broker.authority
        return sign_head(
            head,
            mesh=self.mesh.name,
            manifest_digest=authority.manifest_digest,
            ca_spki=authority.ca.spki,
            sign=authority.ca.sign,
            now=NOW,
        )

    def public(self, owner: int) -> str:
        return self.mesh.owners[owner].public.hex()

    def policy(self, package: RecoveryPackage) -> AppraisalPolicy:
        verified = verify_manifest_for(package.signed_manifest, agreed=self.mesh.agreed)
        return appraisal_policy(verified.manifest, "broker")

    def means(self, owner: int, /, **changes: object) -> OwnerMeans:
        fields: dict[str, object] = {
            "owner": self.mesh.owners[owner],
            "recovery_key": self.recovery_keys[owner],
            "ca_spki": self.broker.authority.ca.spki,
            "agreed_toml": self.mesh.agreed_toml,
            "mesh": self.mesh.name,
            "policy": self.policy,
            "head": self.head,
        }
        return OwnerMeans(**(fields | changes))  # type: ignore[arg-type]

    def gathering(self, package: RecoveryPackage | None = None) -> Gathering:
        return Gathering(package or self.package, self.mesh.agreed.mesh)

    def visit(
        self,
        owner: int,
        /,
        *,
        package: RecoveryPackage | None = None,
        waits: bool = True,
        **changes,
    ) -> "Visit":
        return Visit(self, self.means(owner, **changes), package or self.package, waits=waits)

    def bring(self, gathering: Gathering, *owners: int) -> None:
        for owner in owners:
            visit = self.visit(owner, package=gathering.package)
            gathering.add(self.public(owner), visit.broker.receive(visit.share()))

    def recover(
        self, gathering: Gathering, counter: Counter, path: Path | None = None
    ) -> MasterKey:
        """Do what `roles.broker_home` does with what was gathered."""
        key, path = gathering.master_key(), path or self.backup
        with contextlib.closing(Replica(path, master_key=key)) as state:
            gathering.verify_state(state)
        begin_life(
            path,
            master_key=key,
            counter=counter.seam,
            changes={},
            audit=[
                AuditEntry(event="recovery", outcome="granted", owner=owner, rule="recovered")
                for owner in sorted(gathering.came)
            ],
            now=NOW,
        )
        return key

    @contextlib.contextmanager
    def recovered(self, *owners: int) -> Iterator[Store]:
        """Yield the state of the backup, as these owners brought it back."""
        gathering, counter = self.gathering(), Counter()
        self.bring(gathering, *owners)
        key = self.recover(gathering, counter)
        with contextlib.closing(Store(self.backup, master_key=key, counter=counter.seam)) as store:
            yield store

    def close(self) -> None:
        self.broker.close()


class Visit:
    """One owner at the broker that waits, message by message."""

    def __init__(
        self, world: RecoveryWorld, means: OwnerMeans, package: RecoveryPackage, *, waits: bool
    ) -> None:
        from wardian._internal import wire

        self.world, self.owner = world, OwnerVisit(means)
        self.broker = BrokerVisit(
            self.owner.hello(),
            wire.decode(self.owner.hello(), RecoveryHello, what="hello"),
            package=package,
            agreed_digest=world.broker.authority.agreed_digest,
            waits=waits,
        )

    def challenge(self, attest=None) -> bytes:
        attest = attest or self.world.mesh.attest("broker")
        return self.broker.challenge(attest(self.broker.report_data()))

    def share(self, attest=None) -> bytes:
        raw, _ = self.owner.share(self.challenge(attest), now=NOW)
        return raw
