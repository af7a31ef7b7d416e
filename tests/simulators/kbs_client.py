"""Clients of the KBS protocol 0.4.0, as guest-components' `kbs_protocol` crate behaves.

`RcarClient` attests and keeps a cookie; `TokenClient` shows a token. What they send, what they look
at in an answer and when they try again is theirs, including what a standard would not do: they
authenticate a sealed answer with a header that they write anew from the one that they read. It is
written against that crate and shares no code with the broker.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

PROTOCOL_VERSION = "0.4.0"
RCAR_MAX_ATTEMPT = 5
GET_RESOURCE_MAX_ATTEMPT = 3

Headers = list[tuple[str, str]]
Transport = Callable[[str, str, dict[str, str], bytes], tuple[int, Headers, bytes]]
"""Method, path, headers and body; status, headers and body."""


class KbsError(Exception):
    """What the crate's `Error` says: the broker's status and words."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(status, error)
        self.status, self.type, self.detail = status, error["type"], error["detail"]


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _error(status: int, body: bytes) -> KbsError:
    """`ErrorInformation` has exactly these two, and the crate fails where one is missing."""
    return KbsError(status, json.loads(body))


class TeeKeyPair:
    """`TeeKeyPair::new()`: a P-256 key, for ECDH-ES+A256KW."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())

    def public(self) -> dict[str, str]:
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "alg": "ECDH-ES+A256KW",
            "x": _b64(numbers.x.to_bytes(32, "big")),
            "y": _b64(numbers.y.to_bytes(32, "big")),
        }

    def decrypt_response(self, body: bytes) -> bytes:
        response = json.loads(body)
        header = json.loads(_unb64(response["protected"]))
        assert header["alg"] == "ECDH-ES+A256KW", header["alg"]
        epk = header["epk"]
        assert epk["crv"] == "P-256", epk["crv"]
        point = ec.EllipticCurvePublicNumbers(
            int.from_bytes(_unb64(epk["x"]), "big"),
            int.from_bytes(_unb64(epk["y"]), "big"),
            ec.SECP256R1(),
        ).public_key()
        shared = self.private.exchange(ec.ECDH(), point)
        alg = b"ECDH-ES+A256KW"
        round_1 = b"\0\0\0\1" + shared + len(alg).to_bytes(4, "big") + alg + bytes(8)
        wrapping = hashlib.sha256(round_1 + (256).to_bytes(4, "big")).digest()
        content_key = aes_key_unwrap(wrapping, _unb64(response["encrypted_key"]))
        sealed = _unb64(response["ciphertext"]) + _unb64(response["tag"])
        return AESGCM(content_key).decrypt(_unb64(response["iv"]), sealed, _aad(header))


def _aad(header: dict[str, Any]) -> bytes:
    """`ProtectedHeader::generate_aad`: `alg`, `enc`, then the others, in serde's sorted maps."""
    others = {name: header[name] for name in sorted(header) if name not in ("alg", "enc")}
    fields = {"alg": header["alg"], "enc": header["enc"]} | {
        name: dict(sorted(value.items())) if isinstance(value, dict) else value
        for name, value in others.items()
    }
    return _b64(json.dumps(fields, separators=(",", ":")).encode()).encode()


@dataclass
class RcarClient:
    """`KbsClient<Box<dyn EvidenceProvider>>`: request, challenge, attestation, response.

    Attributes:
        transport: to the broker.
        quote: an attester's: 64 bytes of report data to a quote.
        tee: what it says to be.
        evidence: further members of the primary evidence.
        cookies: of the HTTP client's jar.
        handshakes: how many were begun.
    """

    transport: Transport
    quote: Callable[[bytes], bytes]
    tee: str = "sgx"
    evidence: dict[str, Any] = field(default_factory=dict)
    key: TeeKeyPair = field(default_factory=TeeKeyPair)
    cookies: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    handshakes: int = 0

    def call(self, method: str, path: str, value: object = None) -> tuple[int, bytes]:
        headers = {"user-agent": "attestation-agent-kbs-client/0.1.0"}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={text}" for name, text in self.cookies.items())
        body = b""
        if value is not None:
            headers["content-type"] = "application/json"
            body = json.dumps(value).encode()
        status, answered, content = self.transport(method, path, headers, body)
        for name, text in answered:
            if name.lower() == "set-cookie":
                cookie, _, given = text.split(";")[0].partition("=")
                self.cookies[cookie] = given
        return status, content

    def request(self) -> dict[str, Any]:
        return {
            "version": PROTOCOL_VERSION,
            "tee": self.tee,
            "extra-params": {
                "supported-hash-algorithms": ["sha256", "sha384", "sha512"],
                "tee-metadata": {"primary_tee": {"tee": self.tee}, "additional_tees": []},
            },
        }

    def attestation(self, nonce: str) -> dict[str, Any]:
        runtime_data = {"nonce": nonce, "tee-pubkey": self.key.public()}
        bound = runtime_data | {"additional-evidence": ""}
        digest = hashlib.sha384(_canonical(bound)).digest()
        quote = self.quote(digest + bytes(64 - len(digest)))  # the attester pads
        return {
            "init-data": None,
            "runtime-data": runtime_data,
            "tee-evidence": {
                "primary_evidence": {"quote": base64.b64encode(quote).decode()} | self.evidence,
                "additional_evidence": "",
            },
        }

    def challenge(self) -> str:
        self.handshakes += 1
        status, body = self.call("POST", "/kbs/v0/auth", self.request())
        if status != 200:
            raise _error(status, body)
        challenge = json.loads(body)
        assert challenge["extra-params"] == ""  # so the hash is the default, SHA-384
        return challenge["nonce"]

    def attest(self, attestation: dict[str, Any]) -> str:
        status, body = self.call("POST", "/kbs/v0/attest", attestation)
        if status != 200:
            raise _error(status, body)
        self.token = json.loads(body)["token"]
        claims = json.loads(_unb64(self.token.split(".")[1]))  # `Token::new` reads these two
        assert isinstance(claims["exp"], int)
        assert isinstance(claims.get("nbf", 0), int)
        return self.token

    def handshake(self) -> str:
        return self.attest(self.attestation(self.challenge()))

    def get_token(self) -> str:
        for attempt in range(1, RCAR_MAX_ATTEMPT + 1):
            try:
                return self.handshake()
            except KbsError:
                if attempt == RCAR_MAX_ATTEMPT:
                    raise
        raise AssertionError

    def get_resource(self, name: str) -> bytes:
        error = None
        for _ in range(GET_RESOURCE_MAX_ATTEMPT):
            status, body = self.call("GET", f"/kbs/v0/resource/{name}")
            if status == 200:
                return self.key.decrypt_response(body)
            error = _error(status, body)
            if status != 401:
                raise error
            self.handshake()
        raise error


@dataclass
class TokenClient:
    """`KbsClient<Box<dyn TokenProvider>>`: it has a token and the key that the token vouches for."""

    transport: Transport
    token: str
    key: TeeKeyPair

    def get_resource(self, name: str) -> bytes:
        headers = {"authorization": f"Bearer {self.token}"}
        status, _, body = self.transport("GET", f"/kbs/v0/resource/{name}", headers, b"")
        if status != 200:
            raise _error(status, body)
        return self.key.decrypt_response(body)
