"""The keys of a policy file, and the form of their values; `docs/reference/policy-file.md`.

What is here is form alone: which keys go together, and which rules they make, `policy_file` says.
No list may be empty where it would list what is accepted: nobody shall take it for "anything".
"""

from typing import Annotated, Final, Literal

import msgspec

from wardian._internal import settings
from wardian.attestation.claims import TcbStatus, TeeKind

# `\A...\Z`, because `$` also matches before a final newline: one form per value.
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{64}\Z")]
"""32 bytes in hex: a measurement, a signer, the SHA-256 of a certificate."""
Hex16 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{32}\Z")]
"""16 bytes in hex: a PPID, TEE_TCB_SVN."""
Fmspc = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{12}\Z")]
"""An FMSPC, 6 bytes in hex."""
Register = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{96}\Z")]
"""A register of a trust domain, 48 bytes in hex."""
ConfigId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{128}\Z")]
"""CONFIGID, 64 bytes in hex."""
Advisory = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z0-9]+(-[A-Z0-9]+)+\Z", max_length=64)]
"""An advisory as its vendor spells it: a lower-case one would deny nothing and nobody would see."""

U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
SgxTypeName = Literal["Standard", "Scalable", "ScalableWithIntegrity"]

_Some = msgspec.Meta(min_length=1)
Measurements = Annotated[frozenset[Digest], _Some]
Registers = Annotated[frozenset[Register], _Some]

DEFAULT_TCB_STATUSES: Final = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED})
"""Many processors never get better than `SWHardeningNeeded`, and then name their advisories: each
of them has to be accepted by its name."""


class BitsTable(settings.Settings, frozen=True, kw_only=True):
    """`{ mask = 0x..., value = 0x... }`: which bits of a field count, and what they have to be."""

    mask: Annotated[int, msgspec.Meta(ge=1)]
    value: Annotated[int, msgspec.Meta(ge=0)]


class SgxTable(settings.Settings, frozen=True, kw_only=True):
    """`[sgx]`: what else an enclave has to be."""

    config_ids: Annotated[frozenset[ConfigId], _Some] | None = None
    flags: BitsTable | None = None
    xfrm: BitsTable | None = None
    misc_select: BitsTable | None = None


class TdxTable(settings.Settings, frozen=True, kw_only=True):
    """`[tdx]`: the registers of a trust domain, and what else it has to be."""

    mr_td: Registers | None = None
    rtmr0: Registers | None = None
    rtmr1: Registers | None = None
    rtmr2: Registers | None = None
    rtmr3: Registers | None = None
    mr_config_id: Registers | None = None
    mr_owner: Registers | None = None
    mr_owner_config: Registers | None = None
    mr_seam: Registers | None = None
    min_tee_tcb_svn: Hex16 | None = None
    td_attributes: BitsTable | None = None
    xfam: BitsTable | None = None


class PolicyFile(settings.Settings, frozen=True, kw_only=True):
    """The keys of a policy file."""

    measurements: Measurements | None = None
    signer: Digest | None = None
    product_id: U16 | None = None
    min_svn: U16 | None = None
    kinds: Annotated[frozenset[TeeKind], _Some] | None = None
    simulation_root_sha256: Digest | None = None
    platforms: Annotated[frozenset[Hex16], _Some] | None = None
    any_platform: str | None = None
    tcb_statuses: Annotated[frozenset[TcbStatus], _Some] = DEFAULT_TCB_STATUSES
    out_of_date_grace_s: Positive | None = None
    advisories: frozenset[Advisory] = frozenset()
    denied_advisories: Annotated[frozenset[Advisory], _Some] | None = None
    min_tcb_evaluation_number: Positive | None = None
    max_collateral_age_s: Positive | None = None
    fmspcs: Annotated[frozenset[Fmspc], _Some] | None = None
    sgx_types: Annotated[frozenset[SgxTypeName], _Some] | None = None
    refuse_dynamic_platform: bool = False
    refuse_cached_keys: bool = False
    refuse_smt: bool = False
    sgx: SgxTable | None = None
    tdx: TdxTable | None = None
