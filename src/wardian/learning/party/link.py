"""A party's connection to a coordinator that it verified; before that it says its name alone."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from wardian._internal import wire
from wardian._internal.clock import UnixTime
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import spki_of
from wardian.broker.frames import ATTESTATION_FRAME_BYTES, FIRST_FRAME_BYTES, FrameStream, connect
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.refusal import Refusal, decode_or_raise, error_of
from wardian.crypto.signing import Signer
from wardian.errors import FormatError
from wardian.learning.content import content_bytes, frames, rebuild
from wardian.learning.messages import (
    CHUNK_BYTES,
    HEADER_BYTES,
    Ask,
    Challenge,
    Claim,
    FromCoordinator,
    FromParty,
    Over,
    PartyHello,
    Proof,
    claim_signed_bytes,
    coordinator_report_data,
    encode,
    from_coordinator,
)
from wardian.learning.records import RecordDict

Complete = Callable[[Evidence, frozenset[bytes], int], Evidence]
"""Adds collateral to evidence that brings none; see `CollateralSource.complete`."""

DIAL_S: Final = 10.0
CHUNK_S: Final = 30.0
SILENT_S: Final = 60.0
_JSON: Final = b"{"
_NOTHING: Final = RecordDict()


class CoordinatorLink:
    """A verified connection. Only `open` makes one."""

    def __init__(self, stream: FrameStream, *, max_bytes: int) -> None:
        """Speak on `stream`, at whose other end the verified coordinator is."""
        self._stream, self._max_bytes = stream, max_bytes
        self._turn = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        *,
        party: str,
        key: Signer,
        policy: AppraisalPolicy,
        complete: Complete,
        now: UnixTime,
        max_bytes: int,
    ) -> "CoordinatorLink":
        """Return a connection to the coordinator at `address`, which `policy` accepts.

        Args:
            address: an IP address, or a name, and a port. A lie costs service and nothing else.
            party: the name of this party in the consortium.
            key: the key that the consortium names.
            policy: what the coordinator's evidence has to satisfy: its measurement stands for the
                code and for all that the parties agreed to.
            complete: adds collateral.
            now: Unix seconds.
            max_bytes: the largest content that is taken.

        Raises:
            TransportError: nobody answers, or not in time.
            PolicyDenied, AttestationError, FormatError: it is not what it has to be, or it refuses.
        """
        stream = await connect(address, timeout_s=DIAL_S)
        try:
            spki = spki_of(stream.peer_certificate())
            hello = wire.encode(PartyHello(party=party, nonce=secrets.token_bytes(NONCE_BYTES)))
            await stream.send(hello)
            challenge = await stream.receive(most=FIRST_FRAME_BYTES)
            decode_or_raise(challenge, Challenge, what="party challenge")
            signed = claim_signed_bytes(spki=spki, hello=hello, challenge=challenge)
            await stream.send(wire.encode(Claim(signature=key.sign(signed))))
            raw = await stream.receive(most=ATTESTATION_FRAME_BYTES)
            proof = decode_or_raise(raw, Proof, what="coordinator proof")
            at = now()
            verify_evidence(
                complete(proof.evidence, policy.roots, at),
                policy=policy,
                report_data=coordinator_report_data(spki=spki, hello=hello, challenge=challenge),
                now=at,
            )
        except BaseException:
            stream.abort()
            raise
        return cls(stream, max_bytes=max_bytes)

    async def say(self, message: FromParty, content: RecordDict | None = None) -> None:
        """Say `message`, and then `content`.

        Raises:
            TransportError: the coordinator is gone, or does not read.
        """
        async with self._turn:
            for group in frames(encode(message), content):
                await self._stream.send(*group, timeout_s=CHUNK_S)

    async def hear(self) -> tuple[FromCoordinator, RecordDict]:
        """Return what the coordinator says next, with its content.

        Raises:
            TransportError: it is gone, or says nothing for too long.
            FormatError: what it says is none of its messages, or too large.
            PolicyDenied: it refuses this party.
        """
        raw = await self._stream.receive(most=HEADER_BYTES, timeout_s=SILENT_S)
        if raw.startswith(_JSON):
            raise error_of(wire.decode(raw, Refusal, what="refusal"))
        said = from_coordinator(raw)
        if not isinstance(said, Ask | Over):
            return said, _NOTHING
        size = content_bytes(said.records)
        if size > self._max_bytes:
            raise FormatError("content: larger than the consortium agreed to")
        content = memoryview(bytearray(size))
        for at in range(0, size, CHUNK_BYTES):
            await self._stream.receive_into(content[at : at + CHUNK_BYTES], timeout_s=CHUNK_S)
        return said, rebuild(said.records, content)

    def abort(self) -> None:
        """Cut the connection."""
        self._stream.abort()

    async def close(self) -> None:
        """Close the connection."""
        await self._stream.close()
