"""The JSON of the KBS protocol 0.4.0, and what its evidence is bound to.

Sources: Confidential Containers, trustee `kbs/docs/kbs_attestation_protocol.md`; `kbs-types` for
the names; guest-components' `kbs_protocol` for what its clients really send.

The binding is theirs: SHA-384 over canonical JSON, padded with zeros to 64 bytes. It has no label,
which is why secrets leave this way only where their owner agreed to it (TRUST T24), and it never
fits our own release, whose 64 bytes are SHA-512 over labelled fields; see `attestation.evidence`.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.attestation.claims import TeeKind
from wardian.attestation.evidence import REPORT_DATA_BYTES
from wardian.attestation.results.ear_key import NAME_PATTERN
from wardian.crypto.jose import ECDH_ES_A256KW, PublicJwk, parse_jwk
from wardian.crypto.strict_text import from_b64url, parse_json
from wardian.errors import FormatError, PeerProtocolError, RequestError

T = TypeVar("T")

PROTOCOL_VERSION: Final = "0.4.0"
"""The one version spoken; Trustee's broker too accepts none but its own."""
NONCE_BYTES: Final = 32
HASH_ALGORITHM: Final = "sha384"
"""What clients use where the challenge names no other."""
MAX_QUOTE_BYTES: Final = 16 * 1024

_TEES: Final = {"sgx": TeeKind.SGX, "tdx": TeeKind.TDX}
_SEGMENT: Final = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"
_RESOURCE: Final = re.compile(rf"\A({_SEGMENT})/({_SEGMENT})/({_SEGMENT})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePath:
    """Which secret is asked for, in the protocol's three names."""

    repository: str
    type: str
    tag: str

    @override
    def __str__(self) -> str:
        return f"{self.repository}/{self.type}/{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What an attester answers to a challenge, with nothing believed yet.

    Attributes:
        nonce: the challenge's, it says.
        key: whom secrets are to be sealed to, it says.
        quote: the SGX or TDX quote that has to be bound to both.
    """

    nonce: str
    key: PublicJwk
    quote: bytes


class _TeeInfo(wire.Message, frozen=True):
    tee: str
    metadata: Any = None  # the attester's own word, which no decision is taken on


class _TeeMetadata(wire.Message, frozen=True):
    primary_tee: _TeeInfo
    additional_tees: tuple[_TeeInfo, ...]


class _ExtraParams(wire.Message, frozen=True, rename="kebab"):
    supported_hash_algorithms: tuple[str, ...] = (HASH_ALGORITHM,)
    tee_metadata: _TeeMetadata | None = None
    attestation_policy_selector: str | None = None


class _Request(wire.Message, frozen=True, rename="kebab"):
    version: str
    tee: str
    extra_params: _ExtraParams | str | None = None


class _RuntimeData(wire.Message, frozen=True, rename="kebab"):
    nonce: str
    tee_pubkey: dict[str, Any]


class _Primary(wire.Message, frozen=True):
    """An SGX quote, or a TDX quote and logs of events that its registers already sum up."""

    quote: str
    cc_eventlog: str | None = None
    aa_eventlog: str | None = None


class _TeeEvidence(wire.Message, frozen=True):
    primary_evidence: _Primary
    additional_evidence: str


class _Attestation(wire.Message, frozen=True, rename="kebab"):
    runtime_data: _RuntimeData
    tee_evidence: _TeeEvidence
    init_data: Any = None


class _ResultRequest(wire.Message, frozen=True):
    audience: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    nonce: str


def parse_request(body: bytes | bytearray) -> TeeKind:
    """Return which kind of TEE wants to attest, in a version and a way that are spoken here.

    Raises:
        FormatError: not a `Request`.
        PeerProtocolError: another version, TEE or hash than is spoken here, a second TEE, or a
            policy of the asker's choice.
    """
    request = _decode(body, _Request, what="Request")
    if request.version != PROTOCOL_VERSION:
        raise PeerProtocolError(f"this broker speaks version {PROTOCOL_VERSION} of the protocol")
    if request.tee not in _TEES:
        raise PeerProtocolError(f"evidence is verified for these TEEs: {', '.join(_TEES)}")
    params = request.extra_params
    if isinstance(params, str):
        if params:
            raise FormatError("Request: extra-params is an object, or empty")
    elif params is not None:
        _accept_params(params, tee=request.tee)
    return _TEES[request.tee]


def _accept_params(params: _ExtraParams, *, tee: str) -> None:
    if HASH_ALGORITHM not in params.supported_hash_algorithms:
        raise PeerProtocolError(f"runtime data is hashed with {HASH_ALGORITHM}")
    if params.attestation_policy_selector is not None:
        raise PeerProtocolError("the owners' policy applies: none can be selected")
    tees = params.tee_metadata
    if tees is None:
        return
    if tees.primary_tee.tee != tee:
        raise PeerProtocolError("tee-metadata names another primary TEE than the request")
    if tees.additional_tees:
        raise PeerProtocolError("evidence of additional TEEs is not verified here")


def parse_attestation(body: bytes | bytearray) -> Attestation:
    """Return what the attester answers.

    Raises:
        FormatError: not an `Attestation`, a key that is not one, or for another algorithm than
            ECDH-ES+A256KW on P-256.
        PeerProtocolError: with init-data or additional evidence, which are not verified here.
    """
    found = _decode(body, _Attestation, what="Attestation")
    if found.init_data is not None:
        raise PeerProtocolError("init-data is not verified here: what counts is the measurement")
    if found.tee_evidence.additional_evidence:
        raise PeerProtocolError("evidence of additional TEEs is not verified here")
    try:
        quote = base64.b64decode(found.tee_evidence.primary_evidence.quote, validate=True)
    except (binascii.Error, ValueError) as err:
        raise FormatError("Attestation: the quote is not in base64") from err
    if not 1 <= len(quote) <= MAX_QUOTE_BYTES:
        raise FormatError(f"Attestation: the quote has 1 to {MAX_QUOTE_BYTES} bytes")
    return Attestation(
        nonce=found.runtime_data.nonce,
        key=parse_jwk(found.runtime_data.tee_pubkey, alg=ECDH_ES_A256KW),
        quote=quote,
    )


def parse_resource(path: str) -> ResourcePath:
    """Return the resource that `path`, the part behind `/kbs/v0/resource/`, names.

    Names start with a letter, a digit, `_` or `-`; later also dots. So none is `.` or `..`, and
    nothing is percent-encoded.

    Raises:
        FormatError: not three such names of 1 to 128 characters.
    """
    match = _RESOURCE.match(path)
    if match is None:
        raise FormatError("a resource is named by repository, type and tag")
    repository, kind, tag = match.groups()
    return ResourcePath(repository=repository, type=kind, tag=tag)


def secret_name(resource: ResourcePath, *, mesh: str) -> str:
    """Return the name of the mesh's secret that is asked for: `REPOSITORY/secret/NAME`.

    Args:
        resource: as asked for. Its repository is the mesh's name or `default`, which clients put
            where their URI has none.
        mesh: the mesh's name.

    Raises:
        RequestError: 404: no secret of the mesh is named so.
    """
    if resource.repository not in {mesh, "default"} or resource.type != "secret":
        raise RequestError(f"secrets are named default/secret/NAME, not {resource}", status=404)
    return resource.tag


def parse_result_request(body: bytes | bytearray) -> tuple[str, bytes]:
    """Return for which relying party a result is asked for, and its nonce.

    Raises:
        FormatError: anything else.
    """
    found = _decode(body, _ResultRequest, what="request for a result")
    return found.audience, from_b64url(found.nonce, what="nonce")


def runtime_data(nonce: str, key: PublicJwk) -> dict[str, Any]:
    """Return what evidence of this protocol vouches for: `nonce`, and the key to seal to."""
    return {"nonce": nonce, "tee-pubkey": key.members | {"alg": ECDH_ES_A256KW}}


def report_data(nonce: str, key: PublicJwk) -> bytes:
    """Return the 64 bytes of report data that evidence of this protocol carries.

    SHA-384 over the runtime data and the (absent) additional evidence in canonical JSON (RFC 8785:
    all is ASCII here, and sorted), then 16 zero bytes.
    """
    bound = runtime_data(nonce, key) | {"additional-evidence": ""}
    canonical = json.dumps(bound, separators=(",", ":"), sort_keys=True)
    return hashlib.sha384(canonical.encode()).digest().ljust(REPORT_DATA_BYTES, b"\0")


def _decode(body: bytes | bytearray, kind: type[T], *, what: str) -> T:
    """Return `body` as `kind`, no name twice and none unknown."""
    try:
        return msgspec.convert(parse_json(body, what=what), kind)
    except msgspec.ValidationError as err:
        raise FormatError(f"{what}: {wire.printable(str(err))[:200]}") from err
