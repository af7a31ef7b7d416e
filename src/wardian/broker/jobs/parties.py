"""Parties as a file names them. A name is the file's own; what counts is the keys behind it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

from wardian._internal.settings import Settings
from wardian.broker.mesh.fields import Hex32, Name, Owner
from wardian.crypto.hpke import refuse_unusable
from wardian.errors import FormatError

MOST_PARTIES = 64


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Recipient:
    """Somebody who is given something, in hex: who, and the key that it is sealed to.

    Two files mean the same recipient where they have both alike, so that nobody is given a share
    under one party's name and another's key.
    """

    key: str
    seal_to: str


class Party(Settings, frozen=True, kw_only=True):
    """`[parties.NAME]`: the keys of one party."""

    key: Owner
    """Its public key as an owner, as `wardian owner keygen` prints it."""
    seal_to: Hex32 | None = None
    """Its X25519 public key, of `wardian keygen`: what it is given is sealed to that. Without one
    it is given nothing."""

    def __post_init__(self) -> None:
        """Refuse a key that nothing can be sealed to."""
        try:
            if self.seal_to is not None:
                refuse_unusable(bytes.fromhex(self.seal_to))
        except FormatError as err:
            raise ValueError("`seal_to` is no usable X25519 key") from err


Parties: TypeAlias = Annotated[
    dict[Name, Party], msgspec.Meta(min_length=1, max_length=MOST_PARTIES)
]
Names: TypeAlias = Annotated[frozenset[Name], msgspec.Meta(max_length=MOST_PARTIES)]


def refuse_shared_keys(parties: Mapping[str, Party]) -> None:
    """Return if no two of `parties` have a key in common; ValueError otherwise."""
    keys = [each.key[-64:] for each in parties.values()]  # a point of P-256 and its negative, too
    sealed_to = [each.seal_to for each in parties.values() if each.seal_to is not None]
    if len(set(keys)) < len(keys) or len(set(sealed_to)) < len(sealed_to):
        raise ValueError("`parties` gives two names one key")


def refuse_strangers(names: Iterable[str], parties: Mapping[str, Party], *, what: str) -> None:
    """Return if each of `names` is one of `parties`; ValueError that says `what` otherwise."""
    if strangers := sorted(set(names) - parties.keys()):
        raise ValueError(f"{what} names {strangers[0]}, which is none of `parties`")


def recipients(names: Iterable[str], parties: Mapping[str, Party]) -> frozenset[Recipient]:
    """Return those of `names`, all of them in `parties`, that something can be sealed to."""
    found = (parties[name] for name in names)
    return frozenset(
        Recipient(key=each.key, seal_to=each.seal_to) for each in found if each.seal_to is not None
    )


def refuse_keyless(names: Iterable[str], parties: Mapping[str, Party], *, what: str) -> None:
    """Return if something can be sealed to each of `names`; ValueError that says `what`."""
    refuse_strangers(names, parties, what=what)
    for name in sorted(names):
        if parties[name].seal_to is None:
            raise ValueError(f"{what} names {name}, which has no `seal_to`")
