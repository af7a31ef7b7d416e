"""What is asked of a PCCS or of Intel's own service, and what the answers mean. No socket is here.

Source: "Intel SGX and Intel TDX Provisioning Certification Service API", version 4; a PCCS (caching
service, in SGXDataCenterAttestationPrimitives) answers the same questions:

    /sgx/certification/v4/pckcrl?ca=CA&encoding=der      a list, DER
    /TEE/certification/v4/tcb?fmspc=HEX&update=UPDATE    {"tcbInfo": {...}, "signature": "HEX"}
    /TEE/certification/v4/qe/identity?update=UPDATE      {"enclaveIdentity": {...}, "signature": .}
    /sgx/certification/v4/rootcacrl                      a list, hex; of a PCCS alone

The certificates of the signer stand in a header, PEM, percent-encoded. Intel's own service has the
root's list at another host.

Whoever answers needs no trust: what is built here is unverified, and `verify_collateral` finds out
whose it is. What was signed is taken out of an answer byte for byte, never written anew.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from wardian._internal import wire
from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.attestation.collateral.platform_model import PlatformModel
from wardian.attestation.collateral.term import Part
from wardian.errors import ConfigError, FormatError

Update: TypeAlias = Literal["standard", "early"]
"""Which TCB info and QE identity: "early" ones come on the day when a vulnerability is disclosed,
"standard" ones weeks to months later, when platforms had time to be updated (PCS API v4, "Get TCB
Info", parameter `update`)."""

INTEL_PCS: Final = "api.trustedservices.intel.com"
"""Intel's own service. Nothing asks it unless it is configured."""
_INTEL_ROOT_CRL: Final = ("certificates.trustedservices.intel.com", "/IntelSGXRootCA.der")

_PORTS: Final = {"https": 443, "http": 80}
_HOST: Final = re.compile(
    r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,31}|[0-9A-Fa-f.]{0,39}:[0-9A-Fa-f:.]{1,39}"
)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_API: Final = re.compile(r"/(?:sgx|tdx)/certification/v4\Z")

_CHAIN_HEADERS: Final = {
    Part.PCK_CRL: ("sgx-pck-crl-issuer-chain",),
    Part.TCB_INFO: ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"),  # the latter: version 3
    Part.QE_IDENTITY: ("sgx-enclave-identity-issuer-chain",),
}
_PERCENT_ENCODED: Final = re.compile(r"(?:[A-Za-z0-9+/=._~ -]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One GET request: to which service, for which path and query."""

    secure: bool
    host: str
    port: int
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back with status 200, unverified: each header line as it came, and the body."""

    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pccs:
    """A service that is asked for collateral. `parse_pccs` makes it.

    Attributes:
        secure: whether it speaks TLS.
        host: a DNS name or an IP address.
        port: 1 to 65535.
        prefix: the path before `/sgx/certification/v4`, usually empty.
        update: which TCB info is asked for.
    """

    secure: bool
    host: str
    port: int
    prefix: str
    update: Update

    def questions(self, model: PlatformModel) -> dict[Part, Question]:
        """Return what is asked to get the collateral of `model`, in the order of `Part`."""
        tee = model.kind.value.lower()
        fmspc = model.fmspc.hex().upper()
        root_crl = self._ask("sgx", "rootcacrl")
        if self.host.lower() == INTEL_PCS:
            host, target = _INTEL_ROOT_CRL
            root_crl = Question(secure=True, host=host, port=_PORTS["https"], target=target)
        return {
            Part.PCK_CRL: self._ask("sgx", f"pckcrl?ca={model.ca.value}&encoding=der"),
            Part.ROOT_CA_CRL: root_crl,
            Part.TCB_INFO: self._ask(tee, f"tcb?fmspc={fmspc}&update={self.update}"),
            Part.QE_IDENTITY: self._ask(tee, f"qe/identity?update={self.update}"),
        }

    def hosts(self) -> tuple[tuple[str, int], ...]:
        """Return every host and port that questions go to."""
        places = [(self.host, self.port)]
        if self.host.lower() == INTEL_PCS:
            places.append((_INTEL_ROOT_CRL[0], _PORTS["https"]))
        return tuple(places)

    def _ask(self, tee: str, what: str) -> Question:
        target = f"{self.prefix}/{tee}/certification/v4/{what}"
        return Question(secure=self.secure, host=self.host, port=self.port, target=target)


def parse_pccs(url: str, *, update: Update = "standard") -> Pccs:
    """Return the service at `url`, `http[s]://HOST[:PORT][/PREFIX]`.

    `/sgx/certification/v4` at the end is left out: other tools want it there.

    Raises:
        ConfigError: anything else, such as a file, a user's name or a query.
    """
    shown = "the address of the PCCS" if "@" in url else repr(url)  # it may hold a password
    expected = f"{shown}: expected http[s]://HOST[:PORT] of a PCCS"
    if not url.isascii() or not url.isprintable():  # urlsplit drops line ends without a word
        raise ConfigError(expected)
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError as err:
        raise ConfigError(expected) from err
    prefix = _API.sub("", parts.path.rstrip("/"))
    if "certification" in prefix:
        raise ConfigError(f"{shown}: only version 4 of the API is spoken")
    well_formed = (
        port
        and not set("?#@") & set(url)
        and _HOST.fullmatch(parts.hostname or "")
        and _PREFIX.fullmatch(prefix)
    )
    if not well_formed or parts.hostname is None:
        raise ConfigError(expected)
    return Pccs(
        secure=parts.scheme == "https",
        host=parts.hostname,
        port=port,
        prefix=prefix,
        update=update,
    )


class _TcbInfo(msgspec.Struct, frozen=True):
    signed: msgspec.Raw = msgspec.field(name="tcbInfo")
    signature: str


class _QeIdentity(msgspec.Struct, frozen=True):
    signed: msgspec.Raw = msgspec.field(name="enclaveIdentity")
    signature: str


def build_collateral(answers: Mapping[Part, Answer]) -> bytes:
    """Return what `answers` say as the JSON that `verify_collateral` reads, unverified.

    Args:
        answers: to each of `Pccs.questions`, untrusted.

    Raises:
        FormatError: an answer has another form than the API's.
    """
    tcb_info = answers[Part.TCB_INFO].body
    qe_identity = answers[Part.QE_IDENTITY].body
    tcb = wire.decode(tcb_info, _TcbInfo, what="PCCS: TCB info")
    qe = wire.decode(qe_identity, _QeIdentity, what="PCCS: QE identity")
    return wire.encode(
        {
            "pck_crl_issuer_chain": _issuers(answers, Part.PCK_CRL),
            "root_ca_crl": _crl(answers, Part.ROOT_CA_CRL),
            "pck_crl": _crl(answers, Part.PCK_CRL),
            "tcb_info_issuer_chain": _issuers(answers, Part.TCB_INFO),
            "tcb_info": _text(tcb.signed, Part.TCB_INFO),
            "tcb_info_signature": tcb.signature,
            "qe_identity_issuer_chain": _issuers(answers, Part.QE_IDENTITY),
            "qe_identity": _text(qe.signed, Part.QE_IDENTITY),
            "qe_identity_signature": qe.signature,
        }
    )


def _issuers(answers: Mapping[Part, Answer], part: Part) -> str:
    """Return the PEM text in the one header that names the signer of `part`.

    Two such headers are refused: which one counts would be a matter of who reads them.
    """
    names = _CHAIN_HEADERS[part]
    found = [value for name, value in answers[part].headers if name.lower() in names]
    if len(found) != 1:
        raise FormatError(f"PCCS: {part.value} came with {len(found)} issuer chains, 1 expected")
    value = found[0].strip()
    if not _PERCENT_ENCODED.fullmatch(value):
        raise FormatError(f"PCCS: the issuer chain of {part.value} is not percent-encoded PEM")
    try:
        pem = unquote_to_bytes(value).decode("ascii")
    except UnicodeDecodeError as err:
        raise FormatError(f"PCCS: the issuer chain of {part.value} is not ASCII") from err
    return pem if pem.endswith("\n") else pem + "\n"


def _crl(answers: Mapping[Part, Answer], part: Part) -> str:
    """Return a revocation list in hex, from the forms that services use: DER, its hex, or PEM.

    A PCCS answers for the root's list in hex, "to keep backward compatibility", and one that does
    not know `encoding` answers for the other in PEM.
    """
    body = answers[part].body
    text = body.strip()
    try:
        if text.startswith(b"-----BEGIN"):
            return x509.load_pem_x509_crl(text).public_bytes(Encoding.DER).hex()
        der = bytes.fromhex(text.decode("ascii")) if text.startswith(b"30") else body
        return x509.load_der_x509_crl(der).public_bytes(Encoding.DER).hex()
    except X509_ERRORS as err:  # what is not hex or ASCII is a ValueError too
        raise FormatError(f"PCCS: {part.value} is no revocation list in DER, hex or PEM") from err


def _text(raw: msgspec.Raw, part: Part) -> str:
    """Return exactly the bytes of a JSON object, as text."""
    content = bytes(raw)
    if not content.startswith(b"{"):
        raise FormatError(f"PCCS: {part.value} is no JSON object")
    try:
        return content.decode()
    except UnicodeDecodeError as err:
        raise FormatError(f"PCCS: {part.value} is not UTF-8") from err
