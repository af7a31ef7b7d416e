"""A role's directory for tests, and a `wardian.toml` that is as small as it may be."""

from pathlib import Path

from wardian.tee.manifest.builder import Builder, BuiltRole
from wardian.tee.role_table import RoleSpec

AGREED = b"""\
[mesh]
name = "probe"
owners = ["0000000000000000000000000000000000000000000000000000000000000000"]
[models.m]
max_model_bytes = 1000000
"""
SPEC = RoleSpec(
    entry="wardian.errors",
    modules=("wardian.errors", "wardian._internal", "wardian.tee.bootstrap"),
    distributions=("msgspec",),
    product_id=77,
)
TINY = {"tiny": SPEC}


def build(directory: Path, role: str = "tiny", *, agreed: bytes = AGREED, **options) -> BuiltRole:
    options.setdefault("roles", TINY)
    return Builder(directory, deployment=agreed, **options).build(role)
