"""The key of a model that is served, as a job holds it and tells it: behind its tables' keys.

A job tells the broker that its tables came from, and a quorum of owners may have other code take
that broker over while the job runs, CA and log with it. So the key is told XOR a mask that comes of
the keys of all tables together. Those lie under their owners' own keys in the broker's state: code
that took it over without one of the owners has no mask, until that owner comes (TRUST T7).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wardian._internal import wire
from wardian.broker.jobs.rules import Rule
from wardian.crypto.kdf import hkdf
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied

LABEL: Final = "wardian export key mask v1"
MODEL_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedKey:
    """A key that nobody has by this alone.

    Attributes:
        key_id: `BrokerKey.key_id` of the key, in hex.
        masked: 32 bytes.
    """

    key_id: str
    masked: bytes = field(repr=False)


def mask_key(key: Secret, *, job_id: bytes, tables: Mapping[str, Secret]) -> MaskedKey:
    """Return `key` behind the keys of all tables of the job.

    Args:
        key: 32 random bytes, of one model: no other key ever has the same mask.
        job_id: 32 bytes, of the job's debit.
        tables: the key (32 bytes) of each table of its plan, by place.
    """
    key_id = BrokerKey(key).key_id.hex()
    return MaskedKey(key_id=key_id, masked=(key ^ _mask(key_id, job_id, tables)).reveal())


def unmask_key(told: MaskedKey, *, job_id: bytes, tables: Mapping[str, Secret]) -> Secret:
    """Return the key that `mask_key` was given.

    Args:
        told: what a job told.
        job_id: as there.
        tables: as there.

    Raises:
        PolicyDenied: the rule `export-key`: with these keys it is not the one that its id names.
    """
    key = Secret(told.masked) ^ _mask(told.key_id, job_id, tables)
    if BrokerKey(key).key_id.hex() != told.key_id:
        raise PolicyDenied(
            "the key of the model that is served is not the one that its id names, under the keys "
            "of its tables",
            rule=Rule.EXPORT_KEY,
        )
    return key


def _mask(key_id: str, job_id: bytes, tables: Mapping[str, Secret]) -> Secret:
    places = sorted(tables)
    keys = Secret(b"".join(tables[place].reveal() for place in places))  # 32 bytes each
    info = wire.fields(LABEL, job_id, bytes.fromhex(key_id), *(each.encode() for each in places))
    try:
        return hkdf(keys, salt=b"", info=info, length=MODEL_KEY_BYTES)
    finally:
        keys.wipe()
