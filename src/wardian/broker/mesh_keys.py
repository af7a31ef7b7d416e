"""The keys that a mesh has in the broker's state: of its CAs, and of an epoch.

Functions return changes of the state; whoever calls them commits these, and acts then.
"""

from collections.abc import Iterable
from typing import Final

from wardian.broker.ca import IssuingCa, MeshCa
from wardian.broker.state.store import Place, Store
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import SealError

Changes = dict[Place, bytes | None]

_CA: Final = "ca"
_ISSUER: Final = "issuing-ca"
_OF_EPOCH: Final = ("queue-key", "request-key")
"""The store's tables of keys that an epoch has, by model."""


def find_ca(store: Store) -> MeshCa | None:
    """Return the mesh CA in `store`, None if there is none yet."""
    key, certificate = store.get(_CA, "key"), store.get(_CA, "certificate")
    if key is None or certificate is None:
        return None
    return MeshCa(key=TlsKey.from_secret(Secret(key)), certificate=certificate)


def keep_ca(ca: MeshCa) -> Changes:
    """Return the changes that keep `ca`, the mesh's one and only."""
    return {(_CA, "key"): ca.to_secret().reveal(), (_CA, "certificate"): ca.certificate}


def has_issuer(store: Store) -> bool:
    """Return whether there is an issuing CA in `store`."""
    return bool(store.keys(_ISSUER))


def open_issuer(store: Store, ca: MeshCa, *, manifest_digest: bytes) -> IssuingCa:
    """Return the issuing CA in `store`, of the manifest with this SHA-256 (32 bytes).

    Raises:
        SealError: there is none.
        PolicyDenied: it is of another manifest: that was not recorded together with it.
    """
    key, certificate = store.get(_ISSUER, "key"), store.get(_ISSUER, "certificate")
    if key is None or certificate is None:
        raise SealError("the broker's state has no issuing CA")
    return ca.open_issuing(
        key=TlsKey.from_secret(Secret(key)),
        certificate=certificate,
        manifest_digest=manifest_digest,
    )


def keep_issuer(issuer: IssuingCa) -> Changes:
    """Return the changes that put `issuer` in place of the issuing CA that was before."""
    return {
        (_ISSUER, "key"): issuer.key.to_secret().reveal(),
        (_ISSUER, "certificate"): issuer.certificate,
    }


def begin_epoch(store: Store, models: Iterable[str], *, epoch: int, now: int) -> Changes:
    """Return the changes that begin `epoch`: new keys for each of `models`, and no old ones.

    A model has a queue key, and an X25519 private key for requests that clients seal. Whoever
    holds keys of an older epoch, a worker whose platform was withdrawn for example, opens
    nothing that is sealed from then on, whatever its clock says (TRUST T21).

    Args:
        store: with the keys of the epoch before.
        models: those of the manifest.
        epoch: its number.
        now: Unix seconds.
    """
    changes: Changes = {(place, key): None for place in _OF_EPOCH for key in store.keys(place)}
    changes |= {
        (place, model): Secret.random().reveal() for model in set(models) for place in _OF_EPOCH
    }
    changes["epoch", "current"] = epoch.to_bytes(8, "big")
    changes["epoch", "began"] = now.to_bytes(8, "big")
    return changes


def lacking_request_keys(store: Store) -> Changes:
    """Return the changes that complete an epoch of a version of ours that had no such keys."""
    lacking = set(store.keys("queue-key")) - set(store.keys("request-key"))
    return {("request-key", model): Secret.random().reveal() for model in lacking}


def number_in(store: Store, name: str) -> int:
    """Return what `store` says of the epoch, 0 before the first: `current`, or when it `began`."""
    return int.from_bytes(store.get("epoch", name) or b"", "big")
