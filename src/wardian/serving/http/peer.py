"""Who is at the other end of a connection: an address, and perhaps a certificate."""

import hashlib
import ssl
from typing import Self


class Peer(str):
    """The IP address at the other end of a connection on which a client proved a certificate.

    It is text, so that whoever needs no more than an address need not know of the certificate.

    Attributes:
        certificate: SHA-256 (32 bytes) of the certificate's DER form, whose key the handshake
            proved (RFC 8446, section 4.4.3).
    """

    __slots__ = ("certificate",)

    certificate: bytes

    def __new__(cls, address: str, *, certificate: bytes) -> Self:
        """Return `address` with the digest of `certificate`, which is DER."""
        peer = super().__new__(cls, address)
        peer.certificate = hashlib.sha256(certificate).digest()
        return peer


def peer_of(address: str, tls: ssl.SSLObject | None) -> str:
    """Return who is at `address`, by the handshake `tls`, which is over."""
    shown = None if tls is None else tls.getpeercert(binary_form=True)
    return Peer(address, certificate=shown) if shown else address


def certificate_of(peer: str) -> bytes:
    """Return SHA-256 of the certificate that `peer` proved, or b"" if it proved none."""
    return peer.certificate if isinstance(peer, Peer) else b""


def place_of(address: str) -> str:
    """Return what of `address` one caller cannot change at will: of IPv6 the first 64 bits.

    RFC 6177: a site has at least so many addresses.
    """
    if ":" not in address:
        return address
    head, gap, tail = address.partition("::")
    parts = head.split(":") if head else []
    if gap:
        behind = tail.split(":") if tail else []
        parts += ["0"] * (8 - len(parts) - len(behind)) + behind
    return ":".join(parts[:4])
