"""The keys that open a broker's state: the mesh's, and one for each owner's own secrets.

Whoever has the mesh's key reads the state and can carry on as the mesh's broker. What owners gave
for themselves (`OWNED`) lies under a second key, each owner's own, so that the mesh's key alone,
put together by a quorum without that owner, does not open it (TRUST T7).

An owner's key comes from a seed that stays with code of one measurement. A broker that got the
state in another way, by a handover or from the owners, has a seed of its own, and of the earlier
keys those that it was given; what lies under the others stays locked until their owners come.
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret

KEY_BYTES: Final = 32
OWNER_KEY_LABEL: Final = "wardian owner state key v1"
OWNED: Final = frozenset({"model-key", "secret", "table-key", "joint-part", "job-part"})
"""Places whose keys begin with `OWNER/`, the owner whose secret, or part of one, it is."""

_Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
_Owner = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64,66}\Z")]


class _Record(wire.Message, frozen=True, tag_field="format", tag="wardian master key v1"):
    """A `MasterKey` as it is sealed, to an enclave or to a session, and nowhere else."""

    mesh: _Key
    seed: _Key | None
    given: Annotated[dict[_Owner, _Key], msgspec.Meta(max_length=64)]

    @override
    def __repr__(self) -> str:
        return "_Record(wardian master key v1)"  # never the keys


class MasterKey:
    """The keys of one broker's state."""

    __slots__ = ("_given", "_seed", "mesh")

    mesh: Secret
    """32 bytes; opens the state."""

    def __init__(
        self, *, mesh: Secret, seed: Secret, given: Mapping[str, Secret] | None = None
    ) -> None:
        """Hold these keys.

        Args:
            mesh: 32 bytes.
            seed: 32 bytes, from which each owner's key is derived that is not in `given`.
            given: keys of 32 bytes by owner (public key in hex) that come from another seed.
        """
        self.mesh, self._seed, self._given = mesh, seed, dict(given or {})

    @classmethod
    def random(cls) -> "MasterKey":
        """Return fresh keys, for a state that begins."""
        return cls(mesh=Secret.random(), seed=Secret.random())

    def owner_key(self, owner: str) -> Secret:
        """Return the key (32 bytes) of what `owner` gave for itself."""
        given = self._given.get(owner)
        if given is not None:
            return given
        return hkdf(self._seed, salt=b"", info=wire.fields(OWNER_KEY_LABEL, owner.encode()))

    def to_secret(self) -> Secret:
        """Return all of it, for code of the same measurement alone."""
        return self._encode(seed=self._seed, given=self._given)

    def share_with(self, owners: frozenset[str]) -> Secret:
        """Return the mesh's key and those of `owners`, for other code that these accept."""
        return self._encode(seed=None, given={owner: self.owner_key(owner) for owner in owners})

    @classmethod
    def from_secret(cls, secret: Secret) -> "MasterKey":
        """Return the keys in `secret`, with a fresh seed where it holds none.

        Raises:
            FormatError: it holds no such keys.
        """
        record = wire.decode(secret.reveal(), _Record, what="master key")
        return cls(
            mesh=Secret(record.mesh),
            seed=Secret.random() if record.seed is None else Secret(record.seed),
            given={owner: Secret(key) for owner, key in record.given.items()},
        )

    def _encode(self, *, seed: Secret | None, given: Mapping[str, Secret]) -> Secret:
        record = _Record(
            mesh=self.mesh.reveal(),
            seed=None if seed is None else seed.reveal(),
            given={owner: key.reveal() for owner, key in given.items()},
        )
        return Secret(wire.encode(record))
