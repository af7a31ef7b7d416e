"""The reference values of a mesh's roles: what their enclaves measure, and where that was seen.

The file is TOML, `docs/reference/reference-values.md`. Owners read it and put its measurements into
the mesh manifest that they sign; nothing believes this file by itself. A mesh is all hardware or
all simulated, and so is a file.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from wardian._internal import settings
from wardian.errors import ConfigError

FORMAT: Final = "wardian reference values v1"

Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""32 bytes in lower-case hex."""
Digests = Annotated[tuple[Hex32, ...], msgspec.Meta(max_length=64)]
Measurements = Annotated[tuple[Hex32, ...], msgspec.Meta(min_length=1, max_length=64)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Day = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class SimulatedRole(settings.Settings, frozen=True, kw_only=True, tag_field="tee", tag="simulated"):
    """A role whose enclaves are simulated: digests of its manifests, the newest first."""

    measurements: Measurements
    manifest_sha256: Digests = ()
    """Of the manifest files that were measured."""


class SgxRole(settings.Settings, frozen=True, kw_only=True, tag_field="tee", tag="sgx"):
    """A role on hardware, from the SIGSTRUCTs of its enclaves, all of one signer and product."""

    measurements: Measurements
    """MRENCLAVE, the newest first."""
    signer: Hex32
    """MRSIGNER."""
    product_id: U16
    svn: U16
    """The lowest of the measurements' security versions."""
    date: Day
    """When the newest was signed, as its signer says."""
    manifest_sha256: Digests = ()
    """Of the `.manifest.sgx` files that lay beside the signatures: nothing proves that these were
    signed. A note for people, and nothing may be decided by it."""


RoleValues: TypeAlias = SimulatedRole | SgxRole


class _File(settings.Settings, frozen=True, kw_only=True):
    """The whole file."""

    format: Literal["wardian reference values v1"]
    roles: Annotated[dict[settings.Name, RoleValues], msgspec.Meta(min_length=1, max_length=32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """Reference values that do not contradict each other.

    Attributes:
        roles: by name, sorted.
    """

    roles: Mapping[str, RoleValues]

    def __post_init__(self) -> None:
        _demand_one_kind(self.roles)
        _demand_distinct(self.roles)

    @property
    def simulated(self) -> bool:
        """Whether all of it is simulated; otherwise all of it is hardware."""
        return all(isinstance(values, SimulatedRole) for values in self.roles.values())

    def to_roles(self) -> dict[str, tuple[str, ...]]:
        """Return each role's measurements in hex, as the mesh manifest takes them."""
        return {role: values.measurements for role, values in self.roles.items()}

    def describe(self) -> dict[str, object]:
        """Return the file's content as JSON takes it."""
        roles = {role: msgspec.to_builtins(values) for role, values in self.roles.items()}
        return {"format": FORMAT, "roles": roles}

    def render(self) -> str:
        """Return the file: the same text for the same values."""
        lines = [f"format = {json.dumps(FORMAT)}"]
        for role, values in self.roles.items():
            name = role if _BARE_KEY.fullmatch(role) else json.dumps(role)
            lines += ["", f"[roles.{name}]"]
            lines += [f"{key} = {_toml(part)}" for key, part in msgspec.to_builtins(values).items()]
        return "".join(f"{line}\n" for line in lines)


def parse_reference_values(raw: bytes, *, name: str) -> ReferenceValues:
    """Return the reference values in `raw`.

    Args:
        raw: TOML, at most 1 MiB.
        name: the file's name for messages.

    Raises:
        ConfigError: not TOML, an unknown key, a wrong value, hardware and simulation in one file,
            a measurement that stands twice, or two roles that one signer calls one product.
    """
    file = settings.parse(raw, _File, name=name)
    try:
        return ReferenceValues(roles=dict(sorted(file.roles.items())))
    except ConfigError as err:
        raise ConfigError(f"{name}: {err}") from err


def load_reference_values(path: Path) -> ReferenceValues:
    """Return the reference values in the file `path`; see `parse_reference_values`."""
    return parse_reference_values(settings.read(path), name=str(path))


def combine(
    measured: Iterable[tuple[str, RoleValues]], *, kept: ReferenceValues | None = None
) -> ReferenceValues:
    """Return the reference values of what was measured.

    Args:
        measured: role and values; a role may come twice with the same values, but not with others.
        kept: earlier reference values, all of which stay: for the time in which enclaves of an old
            and of a new version run beside each other.

    Raises:
        ConfigError: the values contradict each other, or what is kept.
    """
    roles: dict[str, RoleValues] = {}
    for role, values in measured:
        if roles.setdefault(role, values) != values:
            raise ConfigError(
                f"role {role} is measured twice, with different values; name one file for it, and "
                "keep the reference values that list the other"
            )
    for role, earlier in kept.roles.items() if kept else ():
        roles[role] = _extended(role, roles.get(role, earlier), earlier)
    combined = ReferenceValues(roles=dict(sorted(roles.items())))
    # Read back: what no reader would accept is never written.
    return parse_reference_values(combined.render().encode(), name="reference values")


def _extended(role: str, values: RoleValues, earlier: RoleValues) -> RoleValues:
    """Return `values` with the measurements of `earlier` behind its own."""
    measurements = tuple(dict.fromkeys(values.measurements + earlier.measurements))
    manifests = tuple(dict.fromkeys(values.manifest_sha256 + earlier.manifest_sha256))
    if isinstance(values, SgxRole) and isinstance(earlier, SgxRole):
        if (values.signer, values.product_id) != (earlier.signer, earlier.product_id):
            raise ConfigError(f"role {role} has another signer or product id than what is kept")
        values = msgspec.structs.replace(values, svn=min(values.svn, earlier.svn))
    elif type(values) is not type(earlier):
        raise ConfigError(f"role {role}: {_MIXED}")
    return msgspec.structs.replace(values, measurements=measurements, manifest_sha256=manifests)


_MIXED = "hardware and simulation in one file; a mesh is all of the one or all of the other"


def _demand_one_kind(roles: Mapping[str, RoleValues]) -> None:
    """Refuse simulated roles beside roles on hardware (TRUST T11), and a file without roles."""
    if not roles:
        raise ConfigError("no role has reference values")
    if len({type(values) for values in roles.values()}) > 1:
        simulated = [role for role, values in roles.items() if isinstance(values, SimulatedRole)]
        raise ConfigError(f"{_MIXED}; simulated are {', '.join(simulated)}")


def _demand_distinct(roles: Mapping[str, RoleValues]) -> None:
    """Refuse two roles that an enclave could confuse, or pass for both of.

    A measurement in two roles lets a workload choose which one it is. One product id under one
    signer gives two roles the same signer key: one unseals what the other sealed (TRUST T6).
    """
    seen = Counter(value for values in roles.values() for value in values.measurements)
    twice = next((value for value, count in seen.items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"measurement {twice} stands twice; each role is code of its own")
    products: dict[tuple[str, int], str] = {}
    for role, values in roles.items():
        if not isinstance(values, SgxRole):
            continue
        other = products.setdefault((values.signer, values.product_id), role)
        if other != role:
            raise ConfigError(
                f"roles {other} and {role} are one product id of one signer; each role has its own"
            )


def _toml(value: object) -> str:
    """Return a string, a number or a list of strings as TOML."""
    if isinstance(value, list | tuple):
        return (
            "[" + "".join(f"\n  {json.dumps(part)}," for part in value) + "\n]" if value else "[]"
        )
    return json.dumps(value)
