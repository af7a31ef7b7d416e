"""What the broker remembers of owners' tables, and keeps: policies, keys, uses, what was spent.

A record stays for good: a policy that was replaced or withdrawn does not come back, and no policy
begins counts anew. Keys are kept by owner and id, under the owner's own key (TRUST T7).
"""

from fractions import Fraction
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.jobs.signing import SignedPolicy, VerifiedPolicy, verify_policy
from wardian.broker.jobs.standing import Spent, TableStanding
from wardian.broker.jobs.verified import VerifiedPolicies
from wardian.broker.mesh.fields import Hex16
from wardian.broker.state.audit import Count, Sequence
from wardian.broker.state.clock import FlooredClock
from wardian.broker.state.store import Place, Store
from wardian.broker.tables.protocol import JOB_ID_BYTES
from wardian.crypto.secret import Secret

RECORDS: Final = "table"
"""The store's table of records; the key is `DataPolicy.place`."""
POLICIES: Final = "table-policy"
"""Likewise, of the policy in force about each table, as it was signed."""
KEYS: Final = "table-key"
"""Likewise, of keys; the key is the owner's public key in hex, and the key's id."""
MARK_BYTES: Final = 40
Changes = dict[Place, bytes | None]
_Whole = Annotated[bytes, msgspec.Meta(min_length=1, max_length=1024)]


class Telling(wire.Message, frozen=True):
    """What a job told of what it gives out, and where that stands in the audit log."""

    statement: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    """Digest of the export's statement, which names the job."""
    first: Sequence
    """The number of the first of its lines."""


class TableRecord(wire.Message, frozen=True, tag_field="format", tag="wardian table record v1"):
    """What is remembered of one table."""

    newest: Annotated[bytes, msgspec.Meta(min_length=MARK_BYTES, max_length=MARK_BYTES)]
    """`policy_mark` of the newest policy that was ever seen, whether it is in force or not."""
    key_id: Hex16 | None = None
    """Of the key that opens the table of the policy in force."""
    uses: Count = 0
    epsilon: tuple[_Whole, _Whole] = (b"\0", b"\1")
    """What was spent, exactly: numerator and denominator, big endian."""
    delta: tuple[_Whole, _Whole] = (b"\0", b"\1")
    job: Annotated[bytes, msgspec.Meta(min_length=JOB_ID_BYTES, max_length=JOB_ID_BYTES)] | None = (
        None
    )
    """The id of the job that had it last."""
    told: Telling | None = None
    """What was told last of what was made of it: that, told again, needs no lines."""

    @property
    def spent(self) -> Spent:
        """What all runs over the table have spent."""
        return Spent(epsilon=_fraction(self.epsilon), delta=_fraction(self.delta))

    def after(self, *, uses: int, spent: Spent, job: bytes) -> "TableRecord":
        """Return the record once this much was had and spent in all, last by `job`."""
        return msgspec.structs.replace(
            self, uses=uses, epsilon=_whole(spent.epsilon), delta=_whole(spent.delta), job=job
        )


class Tables:
    """Looks up tables in the broker's store. One thread."""

    __slots__ = ("_clock", "_mesh", "_policies", "_store")

    def __init__(
        self, store: Store, clock: FlooredClock, *, mesh: str, policies: VerifiedPolicies
    ) -> None:
        """Look into `store`, of the mesh of this name, with the beacons that `clock` knows.

        What of it was verified stays in `policies`.
        """
        self._store, self._clock, self._mesh, self._policies = store, clock, mesh, policies

    @property
    def places(self) -> tuple[str, ...]:
        """The place of every table that is remembered."""
        return self._store.keys(RECORDS)

    def record(self, place: str) -> TableRecord | None:
        """Return what is remembered of the table at `place`, if anything is."""
        raw = self._store.get(RECORDS, place)
        return None if raw is None else wire.decode(raw, TableRecord, what="table record")

    def policy(self, place: str) -> VerifiedPolicy | None:
        """Return the policy in force about the table at `place`, if there is one.

        It is read and verified once: see `VerifiedPolicies`.

        Raises:
            FormatError, PolicyDenied, AuthenticationFailed: it is not what this code accepts.
        """
        row = self._store.row_digest(POLICIES, place)
        if (held := self._policies.find(place, row)) is not None:
            return held
        raw = self._store.get(POLICIES, place)
        if raw is None or row is None:
            return None
        verified = verify_policy(_signed(raw), mesh=self._mesh)
        self._policies.hold(place, row, verified)
        return verified

    def policy_bytes(self, place: str) -> int:
        """Return how long the policy in force about the table at `place` is; 0 without one."""
        raw = self._store.get(POLICIES, place)
        return 0 if raw is None else len(_signed(raw).policy)

    def key(self, place: str) -> Secret | None:
        """Return the key (32 bytes) that the owner of the table at `place` gave, if it is there.

        It is the one of the policy in force.
        """
        record = self.record(place)
        if record is None or record.key_id is None:
            return None
        raw = self._store.get(KEYS, f"{owner_of(place)}/{record.key_id}")
        return None if raw is None else Secret(raw)

    def standing(self, place: str) -> TableStanding:
        """Return what counts about the table at `place` when a job is decided about."""
        beacon = self._clock.beacon_of(owner_of(place))
        record = self.record(place)
        if record is None:
            return TableStanding(beacon=beacon)
        return TableStanding(
            uses=record.uses, spent=record.spent, newest=record.newest, beacon=beacon
        )


def _signed(raw: bytes) -> SignedPolicy:
    return wire.decode(raw, SignedPolicy, what="stored policy")


def owner_of(place: str) -> str:
    """Return whose table is at `place`: the owner's public key in hex."""
    return place.partition("/")[0]


def keep_record(place: str, record: TableRecord) -> Changes:
    """Return the change that makes `record` what is remembered of the table at `place`."""
    return {(RECORDS, place): wire.encode(record)}


def keep_policy(place: str, signed: SignedPolicy) -> Changes:
    """Return the change that puts `signed`, which was verified, in force at `place`."""
    return {(POLICIES, place): wire.encode(signed)}


def keep_key(owner: str, key_id: str, key: Secret | None) -> Changes:
    """Return the change that keeps `key` as what `owner` gave; None erases it."""
    return {(KEYS, f"{owner}/{key_id}"): None if key is None else key.reveal()}


def _whole(number: Fraction) -> tuple[bytes, bytes]:
    return _encoded(number.numerator), _encoded(number.denominator)


def _encoded(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8 or 1, "big")


def _fraction(pair: tuple[bytes, bytes]) -> Fraction:
    numerator, denominator = (int.from_bytes(each, "big") for each in pair)
    return Fraction(numerator, denominator)
