"""Where the broker keeps secrets that workloads get by name, and under which id it speaks of them.

A value is kept under its owner, its source and its name: a line that another owner signs over the
same name finds nothing, and a secret that is said to be made here is never one that was given.

Each value has an id of 16 random bytes, drawn when it is kept. It names the value in audit lines,
which anybody may read. It is drawn and not derived, because a secret that an owner gives may be
short: whoever reads an id that follows from it could try passwords until one fits.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from wardian.broker.mesh.lines import SecretLine
from wardian.broker.state.store import Place, Store
from wardian.crypto.secret import Secret
from wardian.errors import SealError

PLACE: Final = "secret"
"""The store's table; the key is `SecretLine.kept`."""
ID_BYTES: Final = 16
GENERATED_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSecret:
    """A named secret in the broker's memory.

    Attributes:
        key_id: 16 bytes that name this value.
        value: 1 byte to 64 KiB.
    """

    key_id: bytes
    value: Secret


def generate_secret() -> KeptSecret:
    """Return a fresh secret of 32 random bytes."""
    return name_value(Secret.random(GENERATED_BYTES))


def name_value(value: Secret) -> KeptSecret:
    """Return `value` under a fresh id."""
    return KeptSecret(key_id=secrets.token_bytes(ID_BYTES), value=value)


def keep(line: SecretLine, kept: KeptSecret) -> dict[Place, bytes | None]:
    """Return the change that keeps `kept` as what `line` names."""
    return {(PLACE, line.kept): kept.key_id + kept.value.reveal()}


def find(store: Store, line: SecretLine) -> KeptSecret | None:
    """Return what `line` names; None if its owner has not given it yet.

    Raises:
        SealError: what stands there is no secret.
    """
    raw = store.get(PLACE, line.kept)
    if raw is None:
        return None
    if len(raw) <= ID_BYTES:
        raise SealError("the broker's state has a named secret without a value")
    return KeptSecret(key_id=raw[:ID_BYTES], value=Secret(raw[ID_BYTES:]))
