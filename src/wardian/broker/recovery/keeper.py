"""The active broker keeps the package by which its owners can recover it up to date.

A new package is due with a new manifest, a recovery key that an owner gave, another number of
owners that it takes, or keys of owners' secrets that changed. It stands in the state, for standbys
and backups of a running broker, and in a file beside the state, for backups of a stopped one.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from wardian._internal import wire
from wardian.broker.authority import Authority
from wardian.broker.recovery.dealing import deal_package
from wardian.broker.recovery.package import OwnerPart, RecoveryPackage
from wardian.broker.state.contents import Place
from wardian.broker.state.sealer import KEY_ID_BYTES, owner_key_id
from wardian.crypto.hpke import refuse_unusable
from wardian.errors import FormatError

PACKAGE: Final[Place] = ("recovery", "package")
FORMER: Final = "recovery-former"
"""Packages of before, whose owners have keys of secrets that are still locked; by set id."""
PUBLIC: Final = "recovery-public"
"""Owners' recovery keys, by owner; who gives them is `owners.offers`."""


def current_package(authority: Authority) -> RecoveryPackage | None:
    """Return the package in the state, None if there is none yet."""
    raw = authority.store.get(*PACKAGE)
    return None if raw is None else wire.decode(raw, RecoveryPackage, what="recovery package")


def refresh(authority: Authority) -> RecoveryPackage | None:
    """Return the package for what is in force now, made and committed if it is due.

    None where there is no manifest yet, or fewer owners gave a recovery key than it takes.

    Raises:
        SealError: it cannot be made durable.
    """
    package, publics = current_package(authority), _publics(authority)
    if authority.in_force is None or len(publics) < authority.quorum:
        return package
    if package is not None and not _due(authority, package, publics):
        return package
    fresh = deal_package(
        authority.store.master_key,
        mesh=authority.mesh,
        mesh_ca=authority.ca.certificate,
        manifest=authority.manifest.signed,
        publics=publics,
        threshold=authority.quorum,
        sign=authority.ca.sign,
    )
    changes: dict[Place, bytes | None] = {PACKAGE: wire.encode(fresh)}
    if package is not None and _locks_something(authority, package):
        changes[FORMER, package.set_id.hex()] = wire.encode(package)
    entry = authority.entry(
        event="recovery", outcome="granted", rule="shares-dealt", count=len(publics)
    )
    authority.record([entry], changes)
    return fresh


def former_part(authority: Authority, owner: str) -> RecoveryPackage | None:
    """Return the package whose part of `owner` opens what is locked of that owner's secrets."""
    ids = {raw[:KEY_ID_BYTES].hex() for raw in authority.store.locked(owner).values()}
    for package in _formers(authority):
        part = _part_of(package, owner)
        if part is not None and part.key_id in ids:
            return package
    return None


def _publics(authority: Authority) -> dict[str, bytes]:
    """Return the recovery keys of those who are owners now.

    One that nothing can be sealed to is none: else it would end this broker, and the next one on
    this state, for all.
    """
    found = {owner: authority.store.get(PUBLIC, owner) for owner in authority.store.keys(PUBLIC)}
    return {
        owner: key
        for owner, key in found.items()
        if key and owner in authority.owners and _usable(key)
    }


@lru_cache(maxsize=256)  # asked about the same few, once a second
def _usable(public: bytes) -> bool:
    try:
        refuse_unusable(public)
    except FormatError:
        return False
    return True


def _due(authority: Authority, package: RecoveryPackage, publics: dict[str, bytes]) -> bool:
    """Return whether `package` is not the one for what is in force now."""
    master_key = authority.store.master_key
    wanted = {
        (owner, public, owner_key_id(master_key.owner_key(owner)).hex())
        for owner, public in publics.items()
    }
    there = {(part.owner, part.recovery_public, part.key_id) for part in package.owners}
    return (
        there != wanted
        or package.threshold != authority.quorum
        or package.signed_manifest.manifest != authority.manifest.signed.manifest
        or package.mesh_ca != authority.ca.certificate
    )


def _locks_something(authority: Authority, package: RecoveryPackage) -> bool:
    """Return whether an owner's secrets are locked that the owner's part of `package` opens."""
    for part in package.owners:
        locked = authority.store.locked(part.owner).values()
        if any(raw[:KEY_ID_BYTES].hex() == part.key_id for raw in locked):
            return True
    return False


def _formers(authority: Authority) -> Iterator[RecoveryPackage]:
    """Yield the packages in the state, the current one first."""
    current = current_package(authority)
    if current is not None:
        yield current
    for key in authority.store.keys(FORMER):
        raw = authority.store.get(FORMER, key) or b""
        yield wire.decode(raw, RecoveryPackage, what="recovery package")


def _part_of(package: RecoveryPackage, owner: str) -> OwnerPart | None:
    return next((part for part in package.owners if part.owner == owner), None)
