"""What a workload holds once the broker has admitted it to the mesh."""

from collections import Counter
from dataclasses import dataclass

from wardian.broker.certificates import (
    certificate_digest,
    chain_pem,
    spki_of,
    verify_ca_certificate,
    verify_peer_certificate,
)
from wardian.broker.manifest import VerifiedManifest
from wardian.broker.protocol import Release, ReleasedSecret, queue_key_id
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import LocalProtocolError, PeerProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A certificate of the mesh and the secrets that go with it.

    Attributes:
        certificate_chain_pem: the process's own certificate, then the mesh CA's.
        certificate_digest: SHA-256 (32 bytes) of the own certificate's DER form.
        tls_key: the certificate's private key, made in this process.
        mesh_ca: the mesh CA's certificate, DER.
        mesh_ca_pem: the same as PEM.
        mesh_ca_spki: the CA's key (DER), for `verify_peer_certificate`.
        manifest: what the broker showed and its evidence bound; `manifest.signed` is what a front
            end shows its clients.
        secrets: what was released, each checked against the manifest and what was asked for.
    """

    certificate_chain_pem: bytes
    certificate_digest: bytes
    tls_key: TlsKey
    mesh_ca: bytes
    mesh_ca_pem: bytes
    mesh_ca_spki: bytes
    manifest: VerifiedManifest
    secrets: tuple[ReleasedSecret, ...]

    def queue_key(self, model: str) -> tuple[Secret, int]:
        """Return the queue key of `model` (32 bytes) and its epoch."""
        for secret in self.secrets:
            if secret.kind == "queue" and secret.model == model and secret.epoch is not None:
                return secret.key, secret.epoch
        raise LocalProtocolError(f"no queue key of model {model} was asked for")

    def model_key(self, model: str, version: int) -> Secret:
        """Return the key (32 bytes) that opens the sealed file of `model` at `version`."""
        for secret in self.secrets:
            if (secret.kind, secret.model, secret.version) == ("model", model, version):
                return secret.key
        raise LocalProtocolError(f"no key of model {model} version {version} was released")


def verify_release(
    release: Release,
    *,
    role: str,
    models: tuple[str, ...],
    manifest: VerifiedManifest,
    mesh_ca: bytes,
    tls_key: TlsKey,
    now: int,
) -> Admission:
    """Return the release as an admission: for us, for what we asked, under the shown manifest.

    The signature already says that an attested broker sent it. This catches a broker that is
    wrong, before a wrong key or certificate is used.

    Args:
        release: message 4, opened and authentic.
        role: what this process is.
        models: what it asked for.
        manifest: what message 2 showed.
        mesh_ca: the CA certificate of message 2, DER.
        tls_key: the key of the certificate request.
        now: Unix seconds.

    Raises:
        PeerProtocolError: the release is not what was asked for.
        FormatError, AuthenticationFailed, EvidenceStale, PolicyDenied: the certificate is not
            what it should be; see `verify_peer_certificate`.
    """
    ca_spki = verify_ca_certificate(mesh_ca)
    leaf = release.certificate_chain[0]
    verify_peer_certificate(
        leaf, ca_spki=ca_spki, role=role, manifest_digest=manifest.digest, now=now
    )
    if spki_of(leaf) != tls_key.spki or release.certificate_chain[1:] != (mesh_ca,):
        raise PeerProtocolError("the released certificate is not for the key that asked for it")
    if release.manifest_version != manifest.manifest.version:
        raise PeerProtocolError("the release is under another manifest than the one shown")
    for secret in release.secrets:
        _verify_secret(secret, models=models, manifest=manifest)
    found = Counter((each.kind, each.model, each.version) for each in release.secrets)
    queues = {model for kind, model, _ in found if kind == "queue"}
    if max(found.values(), default=1) > 1 or queues != set(models):
        raise PeerProtocolError("the released secrets are not one of each that was asked for")
    return Admission(
        certificate_chain_pem=chain_pem(release.certificate_chain),
        certificate_digest=certificate_digest(leaf),
        tls_key=tls_key,
        mesh_ca=mesh_ca,
        mesh_ca_pem=chain_pem((mesh_ca,)),
        mesh_ca_spki=ca_spki,
        manifest=manifest,
        secrets=release.secrets,
    )


def _verify_secret(
    secret: ReleasedSecret, *, models: tuple[str, ...], manifest: VerifiedManifest
) -> None:
    """Refuse a secret for another model, or whose id is not that of the key beside it."""
    if secret.model not in models:
        raise PeerProtocolError("a secret of a model was released that was not asked for")
    if secret.kind == "queue":
        fits = secret.version is None and secret.epoch is not None
        key_id = queue_key_id(secret.key)
    else:
        lines = manifest.manifest.lines(secret.model)
        named = {(line.version, line.key_id) for line in lines}
        fits = secret.epoch is None and (secret.version, secret.key_id) in named
        key_id = BrokerKey(secret.key).key_id
    if not fits or key_id.hex() != secret.key_id:
        raise PeerProtocolError("a released secret is not the one that the manifest names")
