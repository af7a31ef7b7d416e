"""`wardian up` in the owner's place: it makes the owner's key, seals, measures and signs.

On a laptop one person is owner and operator, and this file does what an owner does on a machine of
their own. Anywhere else these steps happen there, and the operator gets only what they produce.
"""

from dataclasses import dataclass
from pathlib import Path

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian._internal.files import replace_file
from wardian._internal.settings import parse
from wardian.attestation.claims import TcbStatus
from wardian.broker.mesh.lines import ModelLine, sign_model_line
from wardian.broker.mesh.manifest import (
    MeshManifest,
    SignedManifest,
    manifest_digest,
    parse_manifest,
    sign_manifest,
)
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest_for
from wardian.cli.owner.keys import read_owner_key, write_owner_key
from wardian.cli.state import StateDir
from wardian.cli.up.example import Source
from wardian.cli.up.screen import Screen
from wardian.cli.up.sealed import leave_sealed
from wardian.crypto.owner_key import encode_owner_key
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.errors import ConfigError, FormatError
from wardian.tee import open_platform
from wardian.tee.manifest.builder import Builder

ROLES = ("broker", "frontend", "worker")


def roles_of(agreed: Agreed) -> tuple[str, ...]:
    """Return the roles of a mesh: those that all have, and those of its dialects."""
    return (*ROLES, "zoo") if agreed.dialects.unprotected else ROLES


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedModel:
    """A model sealed under a fresh key, and its owner's line for the manifest."""

    line: ModelLine
    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What an owner has before any process starts; measurements are 32 bytes, by role."""

    owner: SigningKey
    agreed_toml: bytes
    agreed: Agreed
    measurements: dict[str, bytes]
    simulation_root_sha256: bytes
    models: tuple[SealedModel, ...]

    @property
    def keys(self) -> tuple[BrokerKey, ...]:
        """The keys that open the models, for the broker."""
        return tuple(BrokerKey(model.key) for model in self.models)


def prepare(source: Source, state: StateDir, screen: Screen) -> Prepared:
    """Do all that an owner does before any process starts: agree, measure, seal."""
    owner = open_owner_key(state)
    raw = source.render_agreed(owner.public)
    agreed = parse(raw, Agreed, name="wardian.toml")
    replace_file(state.agreed, raw)
    screen.step("owner", "played", f"by this command; public key {owner.public.hex()[:16]}…")
    root = open_platform(state.simulation).root_sha256
    measurements = build_roles(raw, state, screen, roles=roles_of(agreed))
    models = seal_models(
        source, state, agreed=agreed, owner=owner, worker=measurements["worker"], screen=screen
    )
    return Prepared(
        owner=owner,
        agreed_toml=raw,
        agreed=agreed,
        measurements=measurements,
        simulation_root_sha256=root,
        models=tuple(models),
    )


def build_roles(
    agreed: bytes, state: StateDir, screen: Screen, *, roles: tuple[str, ...] = ROLES
) -> dict[str, bytes]:
    """Build the manifests of `roles` and return the measurements, 32 bytes each, by role."""
    builder = Builder(state.enclave, deployment=agreed)
    measurements = {}
    for role in roles:
        built = builder.build(role)
        measurements[role] = built.mr_enclave
        screen.step(
            role,
            "measured",
            f"mr_enclave {built.mr_enclave.hex()[:16]}…  {built.files:,} files, "
            f"{built.total_bytes / 1e6:.0f} MB",
        )
    return measurements


def open_owner_key(state: StateDir) -> SigningKey:
    """Return the owner's signing key of this state directory, made at the first call."""
    if state.owner_key.exists():
        return read_owner_key(state.owner_key)
    key = SigningKey.generate()
    write_owner_key(state.owner_key, encode_owner_key(key))
    return key


def next_manifest_version(state: StateDir) -> int:
    """Return a version above that of the last manifest that was signed here."""
    if not state.manifest.exists():
        return 1
    try:
        signed = wire.decode(state.manifest.read_bytes(), SignedManifest, what="manifest")
        return parse_manifest(signed).version + 1
    except FormatError as err:
        raise ConfigError(
            f"{state.manifest}: not a manifest of this release ({err}); remove the state directory "
            "to begin anew"
        ) from err


def seal_models(
    source: Source,
    state: StateDir,
    *,
    agreed: Agreed,
    owner: SigningKey,
    worker: bytes,
    screen: Screen,
) -> list[SealedModel]:
    """Return every model of the example, sealed under a key that `worker` alone may have.

    The key is a fresh one, or that of a file which is sealed already. `worker` is the measurement
    of the worker role, 32 bytes.
    """
    sealed = []
    serial = next_manifest_version(state)
    for name, model in source.example.models.items():
        left = leave_sealed(
            model,
            state.sealed_model(name, model.version),
            directory=source.directory,
            media_type=agreed.models[name].media_type,
            name=name,
        )
        screen.step(
            "model",
            "sealed" if model.key_file is None else "was sealed",
            f"{name} version {model.version}, {left.total_bytes:,} bytes, AES-256-GCM",
        )
        line = sign_model_line(
            mesh=agreed.mesh.name,
            owner=owner,
            name=name,
            version=model.version,
            serial=serial,
            media_type=agreed.models[name].media_type,
            pin=left.pin,
            key_id=left.key.key_id,
            total_bytes=left.total_bytes,
            measurements=[worker],
        )
        sealed.append(SealedModel(line=line, key=left.key.key))
    return sealed


def sign_mesh(
    state: StateDir, prepared: Prepared, *, after: VerifiedManifest | None, screen: Screen
) -> VerifiedManifest:
    """Return the mesh manifest for what was measured and sealed, signed; it is kept here, too.

    Args:
        state: gets the manifest, and the policy for clients that pins it.
        prepared: what the manifest is about.
        after: the manifest in force at the broker, which this one follows; None if there is none.
        screen: is told.
    """
    version = max(next_manifest_version(state), after.manifest.version + 1 if after else 1)
    manifest = MeshManifest(
        mesh=prepared.agreed.mesh.name,
        version=version,
        previous=after.digest.hex() if after else None,
        change_threshold=prepared.agreed.mesh.threshold,
        trust=TrustAnchor(
            simulation_root_sha256=prepared.simulation_root_sha256.hex(),
            tcb_statuses=(TcbStatus.UP_TO_DATE.value,),
            advisories=(),
        ),
        roles={
            role: RoleReference(measurements=(measurement.hex(),))
            for role, measurement in prepared.measurements.items()
        },
        models=tuple(model.line for model in prepared.models),
    )
    signed = sign_manifest(manifest, [prepared.owner])
    verified = verify_manifest_for(signed, agreed=prepared.agreed)
    replace_file(state.manifest, wire.encode(signed))
    screen.step("manifest", "signed", f"version {version}")
    write_client_policy(
        state.client_policy,
        signed=signed,
        frontend=prepared.measurements["frontend"],
        simulation_root_sha256=prepared.simulation_root_sha256,
    )
    return verified


def write_client_policy(
    path: Path, *, signed: SignedManifest, frontend: bytes, simulation_root_sha256: bytes
) -> None:
    """Write what a client of this mesh demands of the front end that it speaks to."""
    manifest = parse_manifest(signed)
    text = f"""\
# What `wardian.connect` demands of a front end of mesh "{manifest.mesh}". Written by `wardian up`
# in the owner's place; a client elsewhere gets it from the owner, not from the operator.

[evidence]
# SIMULATED: this root is no hardware's. Who accepts it trusts the machine's administrator.
simulation_root_sha256 = "{simulation_root_sha256.hex()}"
measurements = ["{frontend.hex()}"]

[mesh]
# The manifest names every process that sees data, by measurement. Version {manifest.version}.
manifest_digest = "{manifest_digest(signed).hex()}"
"""
    replace_file(path, text.encode())
