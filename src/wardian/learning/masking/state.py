"""What a party keeps of a masked round, from step to step and over its own end."""

import enum
from typing import Final

import msgspec

from wardian._internal.settings import Name
from wardian.crypto.secret import Secret
from wardian.errors import SealError
from wardian.learning.masking.messages import Bytes32, Keys, Names, Record

_SECRET_BYTES: Final = 32


class Stage(enum.IntEnum):
    """How far a party is."""

    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    SIGNED = 4
    REVEALED = 5


class Held(Record, frozen=True, kw_only=True):
    """The shares that a party has of one party's secrets; None: of no use, or not any more."""

    party: Name
    key: Secret | None
    seed: Secret | None

    def only_asked_for(self, survivors: tuple[str, ...]) -> "Held":
        """Return this without the share that a list of survivors does not ask for."""
        if self.party in survivors:
            return Held(party=self.party, key=None, seed=self.seed)
        return Held(party=self.party, key=self.key, seed=None)


class State(Record, frozen=True, kw_only=True):
    """All that a party knows. What it has no more use for is not in it."""

    scope: Bytes32
    party: Name
    stage: Stage
    mask_key: Secret | None
    """The three secrets of its own, until its vector is masked: then the others have shares."""
    share_key: Secret | None
    seed: Secret | None
    keys: Keys | None = None
    """Message 2, until its vector is masked."""
    keys_digest: Bytes32 = bytes(_SECRET_BYTES)
    sharing: bytes = b""
    """Message 3, until its vector is masked."""
    held: tuple[Held, ...] = ()
    survivors: Names = ()
    """The one list that it signed."""


def encode_state(state: State) -> Secret:
    """Return `state` as bytes, as secret as what is in it."""
    return Secret(msgspec.msgpack.encode(state, enc_hook=_bare))


def decode_state(kept: Secret) -> State:
    """Return the state in `kept`.

    Raises:
        SealError: it is none.
    """
    try:
        return msgspec.msgpack.decode(kept.reveal(), type=State, dec_hook=_secret)
    except msgspec.DecodeError as err:
        raise SealError("masking: what was kept is damaged") from err


def _bare(value: object) -> bytes:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError


def _secret(_: type, value: object) -> Secret:
    if isinstance(value, bytes) and len(value) == _SECRET_BYTES:
        return Secret(value)
    raise ValueError("a secret of 32 bytes")
