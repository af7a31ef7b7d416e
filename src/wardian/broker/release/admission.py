"""What a workload holds once the broker has admitted it to the mesh."""

from collections import Counter
from dataclasses import dataclass

from wardian.broker.certificates import (
    MeshIdentity,
    certificate_digest,
    chain_pem,
    spki_of,
    valid_until,
    verify_ca_certificate,
    verify_issuing_certificate,
    verify_peer_certificate,
)
from wardian.broker.infrastructure.grant import QueueGrant, verify_grant
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.release.protocol import Release, ReleasedSecret, queue_key_id
from wardian.broker.release.request_keys import (
    OPENERS,
    RequestKey,
    public_of,
    request_key_id,
    verify_request_key,
)
from wardian.broker.state.audit import AuditHead
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.broker.transparency.following import follow_log
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import LocalProtocolError, PeerProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A certificate of the mesh and the secrets that go with it.

    Attributes:
        certificate_chain_pem: the process's own certificate, then the issuing CA's.
        certificate_digest: SHA-256 (32 bytes) of the own certificate's DER form.
        valid_until: the last second (Unix) at which the own certificate is valid.
        identity: what the own certificate says of this process.
        tls_key: the certificate's private key, made in this process.
        mesh_ca: the mesh CA's certificate, DER.
        mesh_ca_pem: the same as PEM.
        mesh_ca_spki: the mesh CA's key (DER), for `verify_issuing_certificate`.
        issuing_ca: the certificate of the CA that issues under this manifest, DER.
        issuer_spki: its key (DER), for `verify_peer_certificate`.
        manifest: what the broker showed and its evidence bound; `manifest.signed` is what a front
            end shows its clients.
        secrets: what was released, each checked against the manifest and what was asked for.
        request_keys: for a front end, what the broker states of its models' request keys.
        witnessed: the audit log with the release's own lines: what a front end shows its clients.
        queue_access: access to Redis, if that was asked for; its certificate is for `tls_key`.
    """

    certificate_chain_pem: bytes
    certificate_digest: bytes
    valid_until: int
    identity: MeshIdentity
    tls_key: TlsKey
    mesh_ca: bytes
    mesh_ca_pem: bytes
    mesh_ca_spki: bytes
    issuing_ca: bytes
    issuer_spki: bytes
    manifest: VerifiedManifest
    secrets: tuple[ReleasedSecret, ...]
    witnessed: WitnessedHead
    request_keys: tuple[RequestKey, ...] = ()
    queue_access: QueueGrant | None = None

    def queue_key(self, model: str) -> tuple[Secret, int]:
        """Return the queue key of `model` (32 bytes) and its epoch."""
        for secret in self.secrets:
            if secret.kind == "queue" and secret.model == model and secret.epoch is not None:
                return secret.key, secret.epoch
        raise LocalProtocolError(f"no queue key of model {model} was released")

    def request_key(self, model: str) -> tuple[Secret, int]:
        """Return the private request key of `model` (32 bytes) and its epoch; a worker has one."""
        for secret in self.secrets:
            if secret.kind == "request" and secret.model == model and secret.epoch is not None:
                return secret.key, secret.epoch
        raise LocalProtocolError(f"no request key of model {model} was released")

    @property
    def epoch(self) -> int:
        """The epoch of the queue keys: one for all of a mesh."""
        return max(secret.epoch or 0 for secret in self.secrets)

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose queue keys were released."""
        return tuple(secret.model for secret in self.secrets if secret.kind == "queue")

    def model_key(self, model: str, version: int) -> Secret:
        """Return the key (32 bytes) that opens the sealed file of `model` at `version`."""
        for secret in self.secrets:
            if (secret.kind, secret.model, secret.version) == ("model", model, version):
                return secret.key
        raise LocalProtocolError(f"no key of model {model} version {version} was released")

    def named_secret(self, name: str) -> Secret:
        """Return the secret that the manifest calls `name`, 1 byte to 64 KiB."""
        for secret in self.secrets:
            if (secret.kind, secret.name) == ("secret", name):
                return secret.key
        raise LocalProtocolError(f"no secret {name} was released")

    def wipe(self) -> None:
        """Overwrite the secrets: no key can be taken out any more."""
        for secret in self.secrets:
            secret.key.wipe()
        if self.queue_access is not None:
            self.queue_access.password.wipe()


def verify_release(
    release: Release,
    *,
    role: str,
    models: tuple[str, ...],
    manifest: VerifiedManifest,
    mesh_ca: bytes,
    issuing_ca: bytes,
    tls_key: TlsKey,
    logged: AuditHead,
    now: int,
    renewal: bool = False,
    queue_access: bool = False,
) -> Admission:
    """Return the release as an admission: for us, for what we asked, under the shown manifest.

    The signature already says that an attested broker sent it. This catches a broker that is
    wrong, before a wrong key or certificate is used.

    Args:
        release: message 4, opened and authentic.
        role: what this process is.
        models: what it asked for.
        manifest: what message 2 showed.
        mesh_ca: the mesh CA's certificate of message 2, DER.
        issuing_ca: the issuing CA's, likewise.
        tls_key: the key of the certificate request.
        logged: where the audit log of message 2 ended.
        now: Unix seconds.
        renewal: whether a certificate and the epoch's keys were asked for, and nothing else.
        queue_access: whether access to Redis was asked for, too.

    Raises:
        PeerProtocolError: the release is not what was asked for, or not written down.
        FormatError, AuthenticationFailed, EvidenceStale, PolicyDenied: a certificate is not
            what it should be; see `verify_issuing_certificate` and `verify_peer_certificate`.
        RequestKeyInvalid: what a front end is to tell its clients is not what they would accept.
    """
    ca_spki = verify_ca_certificate(mesh_ca)
    issuer_spki = verify_issuing_certificate(
        issuing_ca, ca_spki=ca_spki, manifest_digest=manifest.digest, now=now
    )
    leaf = release.certificate_chain[0]
    identity = verify_peer_certificate(
        leaf, issuer_spki=issuer_spki, role=role, manifest_digest=manifest.digest, now=now
    )
    if spki_of(leaf) != tls_key.spki or release.certificate_chain[1:] != (issuing_ca, mesh_ca):
        raise PeerProtocolError("the released certificate is not for the key that asked for it")
    if release.manifest_version != manifest.manifest.version:
        raise PeerProtocolError("the release is under another manifest than the one shown")
    audit = follow_log(
        release.log,
        ca_spki=ca_spki,
        mesh=manifest.manifest.mesh,
        seen=logged,
        demand=None,  # message 2 was witnessed as demanded, and this goes on from there
        now=now,
    )
    if audit.count <= logged.count:
        raise PeerProtocolError("the broker released secrets that its audit log does not show")
    for secret in release.secrets:
        _verify_secret(secret, models=models, manifest=manifest)
    _verify_selection(release, role=role, models=models, manifest=manifest, renewal=renewal)
    for key in release.request_keys:
        verify_request_key(
            key,
            ca_spki=ca_spki,
            mesh=manifest.manifest.mesh,
            model=key.model,
            manifest_digest=manifest.digest,
            now=key.not_after,  # a broker that is late with an epoch still has its front ends
        )
    if (release.queue is not None) is not queue_access:
        raise PeerProtocolError("access to Redis was released unasked, or asked for in vain")
    if release.queue is not None:
        keys = frozenset({ca_spki, issuer_spki})
        verify_grant(release.queue, role=role, spki=tls_key.spki, mesh_keys=keys, now=now)
    return Admission(
        certificate_chain_pem=chain_pem((leaf, issuing_ca)),
        certificate_digest=certificate_digest(leaf),
        valid_until=valid_until(leaf),
        identity=identity,
        tls_key=tls_key,
        mesh_ca=mesh_ca,
        mesh_ca_pem=chain_pem((mesh_ca,)),
        mesh_ca_spki=ca_spki,
        issuing_ca=issuing_ca,
        issuer_spki=issuer_spki,
        manifest=manifest,
        secrets=release.secrets,
        witnessed=release.log.witnessed,
        request_keys=release.request_keys,
        queue_access=release.queue,
    )


def _verify_selection(
    release: Release,
    *,
    role: str,
    models: tuple[str, ...],
    manifest: VerifiedManifest,
    renewal: bool,
) -> None:
    """Refuse a secret that comes twice, a key too many or too few, more than a renewal has.

    There is one queue key for each model that was asked for and that the manifest has, and beside
    it a worker has the request key, anybody else what is stated of it (TRUST T13).
    """
    secrets = release.secrets
    found = Counter((each.kind, each.model, each.version, each.name) for each in secrets)
    queues = {model for kind, model, *_ in found if kind == "queue"}
    wanted = {model for model in models if manifest.manifest.lines(model)}
    if max(found.values(), default=1) > 1 or queues != wanted:
        raise PeerProtocolError("the released secrets are not one of each that was asked for")
    opened = {model for kind, model, *_ in found if kind == "request"}
    stated = [key.model for key in release.request_keys]
    opens = role in OPENERS
    if opened != (wanted if opens else set()) or sorted(stated) != (
        [] if opens else sorted(wanted)
    ):
        raise PeerProtocolError("the released request keys are not those of this role")
    if renewal and len(queues) + len(opened) != len(secrets):
        raise PeerProtocolError("more was released than a renewal asks for")


def _verify_secret(
    secret: ReleasedSecret, *, models: tuple[str, ...], manifest: VerifiedManifest
) -> None:
    """Refuse a secret that nobody asked for, or whose id is not that of the key beside it."""
    if secret.kind == "secret":
        if secret.name not in {line.name for line in manifest.manifest.secrets}:
            raise PeerProtocolError("a secret was released that the manifest does not name")
        return
    if secret.model not in models:
        raise PeerProtocolError("a secret of a model was released that was not asked for")
    if secret.kind in {"queue", "request"}:
        fits = secret.version is None and secret.epoch is not None
        request = secret.kind == "request"
        key_id = request_key_id(public_of(secret.key)) if request else queue_key_id(secret.key)
    else:
        lines = manifest.manifest.lines(secret.model)
        named = {(line.version, line.key_id) for line in lines}
        fits = secret.epoch is None and (secret.version, secret.key_id) in named
        key_id = BrokerKey(secret.key).key_id
    if not fits or key_id.hex() != secret.key_id:
        raise PeerProtocolError("a released secret is not the one that the manifest names")
