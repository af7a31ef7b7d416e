"""Witnesses: somebody else saw this log, and it went on from what they had seen before.

A broker that runs twice on one state shows each party a log of its own, each consistent in itself
(TRUST T22). A witness has one memory. It signs a head only if the log goes on from the one that it
signed before, so of two logs it signs one. Who demands the signatures of `threshold` witnesses over
a head not more than so many lines back is shown a log that forked no further back than that.

Seconds bound no fork: who can run two brokers on one state can leave a third where they parted, and
have that one countersigned anew as long as the two do not outgrow the lines. They bound how long a
mesh goes on whose witnesses stay away.

A witness signs what it verified: how many lines, under which root, of whose log; and its own time.
"""

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.mesh.fields import Hex32, Owner
from wardian.broker.state.audit import AuditHead, Count
from wardian.broker.state.merkle import HASH_BYTES, verify_consistency
from wardian.broker.transparency.heads import Seconds, SignedHead, verify_head
from wardian.crypto.signing import SIGNATURE_BYTES, SigningKey, verify_signature
from wardian.errors import AuthenticationFailed, ConfigError, PolicyDenied

LABEL: Final = "wardian audit cosignature v1"
MAX_WITNESSES: Final = 16
MAX_SKEW_S: Final = 300
"""How far a witness's clock may be ahead of the reader's."""

Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
Path = Annotated[tuple[Hash, ...], msgspec.Meta(max_length=128)]
"""A Merkle proof: of a tree below 2**53 lines, at most 54 hashes."""


class Cosignature(wire.Message, frozen=True, tag_field="format", tag=LABEL):
    """A witness saw the log with `count` lines under `root`, and nothing that contradicts it."""

    witness: Owner
    """Its public key."""
    count: Count
    root: Hex32
    time: Seconds
    """By the witness's clock."""
    signature: Annotated[
        bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)
    ]
    """Over `cosigned_bytes`."""


class Cosigned(wire.Message, frozen=True):
    """A cosignature, and the proof that the log beside which it is shown goes on from there."""

    cosignature: Cosignature
    consistency: Path


class WitnessedHead(
    wire.Message, frozen=True, tag_field="format", tag="wardian audit witnessed head v1"
):
    """The newest head, and the newest that each witness signed. Untrusted until verified."""

    head: SignedHead
    cosigned: Annotated[tuple[Cosigned, ...], msgspec.Meta(max_length=MAX_WITNESSES)] = ()


def cosigned_bytes(cosignature: Cosignature, *, mesh: str, log: str) -> bytes:
    """Return what the witness signs: the log of one CA of one mesh, and what it saw of it."""
    return wire.fields(
        LABEL,
        mesh.encode(),
        bytes.fromhex(log),
        cosignature.count.to_bytes(8, "big"),
        bytes.fromhex(cosignature.root),
        cosignature.time.to_bytes(8, "big"),
    )


def cosign(key: SigningKey, head: SignedHead, *, now: int) -> Cosignature:
    """Return the cosignature of `key` over `head`, which its holder has verified and remembered.

    Args:
        key: the witness's.
        head: verified, and the continuation of what this witness signed before.
        now: Unix seconds by the witness's clock.
    """
    unsigned = Cosignature(
        witness=key.public.hex(),
        count=head.audit.count,
        root=head.audit.root,
        time=now,
        signature=bytes(SIGNATURE_BYTES),
    )
    signature = key.sign(cosigned_bytes(unsigned, mesh=head.mesh, log=head.log))
    return msgspec.structs.replace(unsigned, signature=signature)


def verify_cosignature(cosignature: Cosignature, *, mesh: str, log: str) -> None:
    """Return if the witness whose key stands in `cosignature` signed it for this log.

    Says nothing about whose key it is.

    Raises:
        AuthenticationFailed: it did not.
    """
    signed = cosigned_bytes(cosignature, mesh=mesh, log=log)
    try:
        verify_signature(bytes.fromhex(cosignature.witness), cosignature.signature, signed)
    except AuthenticationFailed as err:
        raise AuthenticationFailed("a cosignature is not this witness's, for this log") from err


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """How far witnesses vouch for a log.

    Attributes:
        audit: where the log ends.
        witnesses: the public keys, in hex, of those who count.
        lines_behind: how many lines came since the last head that enough of them signed.
        seconds_ago: how long ago that was, by their clocks.
    """

    audit: AuditHead
    witnesses: tuple[str, ...]
    lines_behind: int
    seconds_ago: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadDemand:
    """What it takes for a head to count.

    Attributes:
        witnesses: public keys in hex of those whose word counts.
        threshold: how many of them have to have signed, 1 or more.
        max_lines: how many lines the log may have gone on since.
        max_age_s: how long ago, in seconds, that may be by the witnesses' clocks.
    """

    witnesses: frozenset[str]
    threshold: int
    max_lines: int
    max_age_s: int

    def __post_init__(self) -> None:
        """Refuse a demand that nothing, or everything, meets."""
        if not 1 <= self.threshold <= len(self.witnesses):
            raise ConfigError(
                f"{self.threshold} witnesses are demanded of {len(self.witnesses)}: name at least "
                "one, and no more than there are"
            )
        if min(self.max_lines, self.max_age_s) < 0:
            raise ConfigError("a head cannot be less than no lines or seconds behind")

    def verify(
        self, shown: WitnessedHead, *, ca_spki: bytes, mesh: str | None = None, now: int
    ) -> Vouched:
        """Return how far enough witnesses vouch for the log of this CA.

        Args:
            shown: untrusted.
            ca_spki: the mesh CA's key (DER), which evidence bound.
            mesh: its name, where the caller knows it.
            now: Unix seconds.

        Raises:
            AuthenticationFailed: the head or a cosignature is not genuine, or a witness saw
                another log than this one: it forked.
            PolicyDenied: too few witnesses saw it, or too long ago (rule `head-witnessed`).
        """
        audit = verify_head(shown.head, ca_spki=ca_spki, mesh=mesh)
        seen: dict[str, tuple[int, int]] = {}
        for each in shown.cosigned:
            if each.cosignature.witness not in self.witnesses:
                continue
            verify_cosigned(each, shown.head)
            behind, ago = audit.count - each.cosignature.count, now - each.cosignature.time
            if behind <= self.max_lines and -MAX_SKEW_S <= ago <= self.max_age_s:
                seen[each.cosignature.witness] = behind, max(0, ago)
        if len(seen) < self.threshold:
            raise PolicyDenied(
                f"{len(seen)} of the {self.threshold} witnesses that are demanded have seen this "
                f"audit log within the last {self.max_lines} lines and {self.max_age_s} seconds",
                rule="head-witnessed",
            )
        return Vouched(
            audit=audit,
            witnesses=tuple(sorted(seen)),
            lines_behind=sorted(behind for behind, _ in seen.values())[self.threshold - 1],
            seconds_ago=sorted(ago for _, ago in seen.values())[self.threshold - 1],
        )


def verify_cosigned(cosigned: Cosigned, head: SignedHead) -> None:
    """Return if the witness signed, and the log of `head` goes on from what it signed.

    Args:
        cosigned: untrusted.
        head: verified.

    Raises:
        AuthenticationFailed: the cosignature is not genuine, or the log forked.
    """
    cosignature = cosigned.cosignature
    verify_cosignature(cosignature, mesh=head.mesh, log=head.log)
    verify_consistency(
        first=cosignature.count,
        first_root=bytes.fromhex(cosignature.root),
        second=head.audit.count,
        second_root=bytes.fromhex(head.audit.root),
        proof=cosigned.consistency,
    )
