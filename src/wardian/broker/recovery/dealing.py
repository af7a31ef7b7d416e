"""How the broker makes a recovery package: a fresh recovery key, a share of it for each owner."""

from collections.abc import Callable, Mapping

import msgspec

from wardian._internal import wire
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.recovery.package import (
    Context,
    OwnerPart,
    PartRecord,
    RecoveryPackage,
    package_signed_bytes,
    wrap,
)
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.sealer import owner_key_id
from wardian.crypto.hpke import hpke_seal
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import SET_ID_BYTES, Share, ShareSet, commitment, split


def deal_package(
    master_key: MasterKey,
    *,
    mesh: str,
    mesh_ca: bytes,
    manifest: SignedManifest,
    publics: Mapping[str, bytes],
    threshold: int,
    sign: Callable[[bytes], bytes],
) -> RecoveryPackage:
    """Return a package with a fresh recovery key.

    Args:
        master_key: of the state.
        mesh: its name.
        mesh_ca: the mesh CA's certificate, DER.
        manifest: in force.
        publics: the X25519 key (32 bytes) of each owner who gets a share.
        threshold: how many of them it takes.
        sign: signs with the mesh CA's key.

    Raises:
        FormatError: a recovery key is no usable key.
    """
    recovery_key = Secret.random()
    share_set, shares = _share(recovery_key, threshold=threshold, shares=len(publics))
    context = Context(mesh=mesh, ca_spki=verify_ca_certificate(mesh_ca), set_id=share_set.set_id)
    owners = tuple(
        _deal_part(master_key, context, owner=owner, public=public, share=share)
        for (owner, public), share in zip(sorted(publics.items()), shares, strict=True)
    )
    package = RecoveryPackage(
        mesh=mesh,
        mesh_ca=mesh_ca,
        signed_manifest=manifest,
        set_id=share_set.set_id,
        threshold=threshold,
        owners=tuple(
            msgspec.structs.replace(part, commitment=each)
            for part, each in zip(owners, share_set.commitments, strict=True)
        ),
        wrapped=wrap(master_key.mesh, recovery_key, context),
        signature=b"",
    )
    return msgspec.structs.replace(package, signature=sign(package_signed_bytes(package)))


def _share(
    recovery_key: Secret, *, threshold: int, shares: int
) -> tuple[ShareSet, tuple[Share, ...]]:
    """Return the key shared; where one owner is enough, each share is the key itself."""
    if threshold > 1:
        return split(recovery_key, threshold=threshold, shares=shares)
    set_id = Secret.random(SET_ID_BYTES).reveal()
    dealt = tuple(
        Share(set_id=set_id, index=index, value=recovery_key) for index in range(1, shares + 1)
    )
    commitments = tuple(commitment(share, threshold=1) for share in dealt)
    return ShareSet(set_id=set_id, threshold=1, commitments=commitments), dealt


def _deal_part(
    master_key: MasterKey, context: Context, *, owner: str, public: bytes, share: Share
) -> OwnerPart:
    owner_key = master_key.owner_key(owner)
    record = PartRecord(value=share.value.reveal(), owner_key=owner_key.reveal())
    return OwnerPart(
        owner=owner,
        recovery_public=public,
        key_id=owner_key_id(owner_key).hex(),
        commitment=bytes(32),
        sealed=hpke_seal(public, wire.encode(record), info=context.info(owner)),
    )
