"""What owners bring to a broker that waits for its keys, until there is enough of it. Pure."""

from dataclasses import dataclass, field

from wardian._internal.agreed import Mesh
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.recovery.package import RecoveryPackage, unwrap, verify_package
from wardian.broker.recovery.protocol import Contribution
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.replica import Replica
from wardian.broker.transparency.heads import verify_head
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import Share, combine
from wardian.errors import AuthenticationFailed, PolicyDenied, StateRolledBack


@dataclass(slots=True)
class Gathering:
    """The shares that came for one package.

    Attributes:
        package: from the host. Owners sign sessions that name it, each after having verified it;
            so once there are enough of them, it is theirs.
        mesh: `[mesh]` of the measured `wardian.toml`.
        came: what each owner brought.
    """

    package: RecoveryPackage
    mesh: Mesh
    came: dict[str, Contribution] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a package that cannot be this mesh's, or takes fewer owners than it should.

        Raises:
            PolicyDenied: the rule `recovery-mesh` or `recovery-threshold`.
            AuthenticationFailed: it is not signed by the CA that it shows.
        """
        package = self.package
        spki = verify_ca_certificate(package.mesh_ca)
        verify_package(package, mesh=self.mesh.name, ca_spki=spki)
        if package.threshold < self.mesh.threshold:
            raise PolicyDenied(
                "the recovery package takes fewer owners than wardian.toml lets decide",
                rule="recovery-threshold",
            )

    @property
    def complete(self) -> bool:
        """Whether enough owners came."""
        return len(self.came) >= self.package.threshold

    def refuse_impossible(self, owner: str) -> None:
        """Return if `owner` may bring a share now; decided before any quote.

        Raises:
            PolicyDenied: not an owner of `wardian.toml`, or one without a share (rule
                `recovery-owner`), or one that came already (`recovery-owner-once`).
        """
        if owner not in self.mesh.owners:
            raise PolicyDenied("this is not an owner in wardian.toml", rule="recovery-owner")
        self.package.index_of(owner)
        if owner in self.came:
            raise PolicyDenied("this owner's share came already", rule="recovery-owner-once")

    def add(self, owner: str, contribution: Contribution) -> None:
        """Take what `owner` brought, in a session that it signed.

        Raises:
            PolicyDenied: see `refuse_impossible`; or it is no share (rule `recovery-share`).
            AuthenticationFailed: it is not the share that this owner was dealt, or the head is not
                one that this mesh's broker signed: a made-up one would refuse every backup.
        """
        self.refuse_impossible(owner)
        share_of(self.package, owner, contribution)
        if contribution.head is not None:
            spki = verify_ca_certificate(self.package.mesh_ca)
            verify_head(contribution.head, ca_spki=spki, mesh=self.mesh.name)
        self.came[owner] = contribution

    def master_key(self) -> MasterKey:
        """Return the keys of the state: the mesh's, and those of the owners who came.

        Raises:
            PolicyDenied: too few came (rule `share-threshold`).
            AuthenticationFailed: they do not give the key of this package.
        """
        package = self.package
        shares = [share_of(package, owner, each) for owner, each in self.came.items()]
        return MasterKey(
            mesh=unwrap(package, combine(shares, package.share_set)),
            seed=Secret.random(),
            given={owner: each.owner_key for owner, each in self.came.items()},
        )

    def verify_state(self, state: Replica) -> None:
        """Return if `state`, whole and under the key, is this mesh's and no older than owners know.

        No counter tells on a new machine which copy is the newest. Owners do, as far as they know:
        the log has to hold each of the heads that they named.

        Raises:
            PolicyDenied: it is of another mesh CA than the package (rule `recovery-mesh`).
            StateRolledBack: an owner knows more of the audit log than it holds, or something else.
        """
        if state.get("ca", "certificate") != self.package.mesh_ca:
            raise PolicyDenied(
                "the state and the recovery package are of two meshes", rule="recovery-mesh"
            )
        tree = state.audit_tree()
        for owner, each in self.came.items():
            if each.head is None:
                continue
            head = each.head.audit
            if head.count > tree.size or tree.root(head.count).hex() != head.root:
                raise StateRolledBack(
                    f"this backup is older than owner {owner[:16]} knows: that owner saw "
                    f"{head.count} audit lines, the backup has {tree.size}, or others "
                    "in their place. Restore a newer one"
                )


def share_of(package: RecoveryPackage, owner: str, contribution: Contribution) -> Share:
    """Return the share in `contribution`, which is the one that `owner` was dealt.

    Raises:
        PolicyDenied: there is none (rule `recovery-share`).
        AuthenticationFailed: it is another one.
    """
    if contribution.value is None:
        raise PolicyDenied("the owner brought no share", rule="recovery-share")
    index = package.index_of(owner)
    share = Share(set_id=package.set_id, index=index, value=contribution.value)
    try:
        package.share_set.verify(share)
    except AuthenticationFailed as err:
        raise AuthenticationFailed(
            f"the share of owner {owner[:16]} is not the one that it was dealt"
        ) from err
    return share
