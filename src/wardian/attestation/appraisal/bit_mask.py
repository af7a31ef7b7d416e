"""A field of which some bits are compared: how policies speak of attributes."""

from dataclasses import dataclass

from wardian.attestation.appraisal.rule import NamedRule, Outcome
from wardian.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class BitMask:
    """Which bits of a field count, and what they have to be.

    Attributes:
        mask: the bits that count; at least one.
        value: what they have to be; no bit outside `mask`.
    """

    mask: int
    value: int

    def __post_init__(self) -> None:
        if self.mask <= 0:
            raise ConfigError("a mask without bits says nothing; leave it out")
        if self.value < 0 or self.value & ~self.mask:
            raise ConfigError("a value has bits that its mask leaves out: they would never count")

    def need_width(self, bits: int) -> None:
        """Raise `ConfigError` if the mask names a bit that a field of so many bits lacks."""
        if self.mask >= 2**bits:
            raise ConfigError(f"a mask has bits above the {bits} of the field that it is for")

    def fits(self, field: bytes) -> bool:
        """Return whether the bits of `field`, little endian, that count are as they have to be."""
        return int.from_bytes(field, "little") & self.mask == self.value


def match_bits(rule: NamedRule, bits: BitMask, field: bytes, what: str) -> Outcome:
    """Return the outcome of a rule that wants `bits` in `field`; `what` is the field's name."""
    accepted = bits.fits(field)
    verb = "accepted" if accepted else "not accepted"
    shown = f"0x{int.from_bytes(field, 'little'):0{len(field) * 2}x}"  # as manuals write it
    return rule.says(accepted=accepted, reason=f"{what} is {shown}: {verb}")
