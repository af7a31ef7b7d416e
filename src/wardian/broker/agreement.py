"""What the owners of a mesh agreed on: the measured `wardian.toml`, and the manifest in force."""

import hashlib

from typing_extensions import override

from wardian._internal.agreed import Agreed
from wardian._internal.settings import parse
from wardian.broker.certificates import NO_MANIFEST
from wardian.broker.joint.kept import has_key
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest_for
from wardian.broker.recording import Recorder
from wardian.broker.state import named_secrets
from wardian.errors import TransportError


class Agreement(Recorder):
    """What is agreed on now, and what of it the owners have yet to give."""

    __slots__ = ("_agreed", "_manifest", "agreed_digest")

    agreed_digest: bytes
    """SHA-256 of the measured `wardian.toml`."""

    def __init__(self, agreed_toml: bytes) -> None:
        """Go by `agreed_toml`, exact bytes, and by no manifest yet."""
        self.agreed_digest = hashlib.sha256(agreed_toml).digest()
        self._agreed = parse(agreed_toml, Agreed, name="wardian.toml")
        self._manifest: VerifiedManifest | None = None

    @property
    def mesh(self) -> str:
        """The mesh's name."""
        return self._agreed.mesh.name

    @property
    def owners(self) -> frozenset[str]:
        """The public keys of the mesh's owners, in hex."""
        return frozenset(self._agreed.mesh.owners)

    @property
    def quorum(self) -> int:
        """How many owners it takes now to change the mesh, and to move its time."""
        least = self._agreed.mesh.threshold
        if self._manifest is None:
            return least
        return max(least, self._manifest.manifest.change_threshold)

    @property
    def in_force(self) -> VerifiedManifest | None:
        """The manifest in force, if there is one; see `manifest`."""
        return self._manifest

    @property
    def manifest(self) -> VerifiedManifest:
        """The manifest in force.

        Raises:
            TransportError: none has been provided yet (retryable).
        """
        if self._manifest is None:
            raise TransportError("the broker has no mesh manifest yet: the owners provide it")
        return self._manifest

    @property
    def manifest_version(self) -> int:
        """Version of the manifest in force, 0 if there is none."""
        return 0 if self._manifest is None else self._manifest.manifest.version

    @property
    @override
    def manifest_digest(self) -> bytes:
        """SHA-256 of the manifest in force, empty if there is none."""
        return b"" if self._manifest is None else self._manifest.digest

    @property
    def named_keys(self) -> frozenset[str]:
        """The ids of the models' keys that the manifest in force names; none without one."""
        lines = () if self._manifest is None else self._manifest.manifest.models
        return frozenset(line.key_id for line in lines)

    @property
    def lease_s(self) -> int:
        """How long a certificate is valid, seconds; see `[mesh] lease_s`."""
        return self._agreed.mesh.lease_s

    @property
    def epoch_s(self) -> int:
        """After how many seconds an epoch is turned; see `[mesh] epoch_s`."""
        return self._agreed.mesh.epoch_s

    def verify(self, signed: SignedManifest) -> VerifiedManifest:
        """Return `signed` if enough owners signed it and `wardian.toml` allows what it says."""
        return verify_manifest_for(signed, agreed=self._agreed)

    def missing(self) -> tuple[str, ...]:
        """Return the models and secrets that have not been given, as people read them."""
        if self._manifest is None:
            return ()
        given, kept = set(self.store.keys("model-key")), set(self.store.keys(named_secrets.PLACE))
        manifest = self._manifest.manifest
        models = (
            f"{line.name} version {line.version}"
            for line in manifest.models
            if f"{line.owner}/{line.key_id}" not in given and not has_key(self.store, line.key_id)
        )
        return (*models, *(line.said for line in manifest.secrets if line.kept not in kept))

    @property
    def _named(self) -> bytes:
        """The digest that the certificates of now name."""
        return self.manifest_digest or NO_MANIFEST
