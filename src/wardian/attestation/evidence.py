"""Evidence, and what it is bound to.

A quote carries 64 bytes that the attester chose. `bind` makes them: SHA-512 over a label that
says what the evidence is for, and everything that it vouches for. Evidence made for one use
therefore never passes for another.
"""

import enum
import hashlib

from wardian._internal import wire

REPORT_DATA_BYTES = 64
"""Length of REPORTDATA, of an SGX report (Intel SDM, volume 3D, table 38-21) and of a TD report."""


class Evidence(wire.Message, frozen=True, kw_only=True):
    """What an attester sends.

    Attributes:
        quote: an SGX quote, version 3, or a TDX quote, version 4 or 5; untrusted.
        collateral: what the vendor signed about the platform (PCK CRLs, TCB info, QE identity),
            as the JSON that `collateral.bundle` describes; untrusted, and empty where the
            attester cannot get it.
    """

    quote: bytes
    collateral: bytes


class Purpose(enum.StrEnum):
    """What evidence may be made for: one label per use, so that none passes for another."""

    RELEASE = "wardian attest v1"
    """A workload asks the broker for secrets."""
    BROKER = "wardian broker v1"
    """A broker shows itself to workloads and owners."""
    FRONTEND = "wardian frontend v1"
    """A front end shows itself to a client, on the TLS connection that they speak over."""
    STANDBY = "wardian standby v1"
    """Two brokers of one mesh show themselves to each other."""
    RECOVERY = "wardian recovery v1"
    """A broker without its keys shows itself to the owners who can give them back."""
    AGGREGATOR = "wardian aggregator v1"
    """A coordinator of federated learning shows itself to a party, on the TLS connection that they
    speak over."""
    KEEPER = "wardian keeper v1"
    """A keeper of counters shows itself to a broker, on the TLS connection that they speak over."""
    JOB = "wardian job v1"
    """A job asks the broker for the keys of owners' tables."""
    EXPORT = "wardian export v1"
    """A job tells the broker what it gives out."""


def bind(label: str, *parts: bytes) -> bytes:
    """Return the 64 bytes of report data that vouch for `parts` under `label`.

    The encoding is injective: no other label or list of parts gives the same input to the hash.

    Args:
        label: a `Purpose`.
        parts: nonces, public keys and digests, in the order that the protocol names.
    """
    return hashlib.sha512(wire.fields(label, *parts)).digest()
