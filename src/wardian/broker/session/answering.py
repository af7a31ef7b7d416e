"""The end that answers a session, as a pure state machine: bytes in, bytes out, or an error.

No socket, no clock, no thread: time and evidence come as arguments. What is decided between
messages 3 and 4 (is the evidence acceptable, what may be given) is not the session's business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.session.form import SessionForm, Vouching
from wardian.broker.session.turns import State, Turns
from wardian.crypto.hpke import hpke_seal
from wardian.errors import Timeout

SESSION_LIFE_S: Final = 30
"""A session that is older answers nothing: seconds, by the clock of who answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Message 3, parsed; nothing in it is believed yet.

    Attributes:
        evidence: to be verified against `report_data`.
        report_data: the 64 bytes that the evidence must bind, computed here from this session's
            nonce and what came in messages 1 and 3.
    """

    evidence: Evidence
    report_data: bytes


C = TypeVar("C", bound=wire.Message)
A = TypeVar("A", bound=Vouching)
P = TypeVar("P", bound=Proof)


class AnsweringEnd(ABC, Generic[C, A, P]):
    """The end that answers; each step once, in order. A kind of session names the steps."""

    __slots__ = (
        "_attestation",
        "_challenge",
        "_form",
        "_hpke_public",
        "_nonce",
        "_opened_at",
        "_request",
        "_turns",
        "presented",
    )

    presented: Evidence | None
    """The asking end's evidence, as soon as it came; believed by nobody here."""

    def __init__(self, form: SessionForm[C, A], *, nonce: bytes, opened_at: float) -> None:
        """Open a session.

        Args:
            form: its kind.
            nonce: 32 fresh random bytes, for this session alone.
            opened_at: seconds of a clock that never goes back.
        """
        self._form, self._nonce, self._opened_at = form, nonce, opened_at
        self._turns = Turns()
        self._request = self._challenge = self._attestation = self._hpke_public = b""
        self.presented = None

    def _begin(self, raw: bytes) -> None:
        """Take message 1 as it travelled."""
        with self._turns.step(State.FRESH, State.ASKED):
            self._request = raw

    def _show(self, challenge: Callable[[], C]) -> bytes:
        """Return message 2; `challenge` makes it, once it is due."""
        with self._turns.step(State.ASKED, State.CHALLENGED):
            self._challenge = wire.encode(challenge())
        return self._challenge

    def receive(self, raw: bytes, *, now: float) -> P:
        """Take message 3 and return what has to be verified.

        Args:
            raw: message 3, untrusted.
            now: seconds of the clock of `opened_at`.

        Raises:
            FormatError: it does not parse.
            AuthenticationFailed: its certificate request, if it has one, is not signed by its key.
            Timeout: the session is too old.
            PeerProtocolError: out of turn, or a second time.
        """
        with self._turns.step(State.CHALLENGED, State.PROVED):
            self.refuse_late(now)
            message = wire.decode(raw, self._form.attestation, what=self._form.said(3))
            self.presented = message.evidence
            self._attestation, self._hpke_public = raw, message.hpke_public
            return self._proof(message)

    @abstractmethod
    def _proof(self, message: A) -> P:
        """Return message 3 with the report data that its evidence must bind."""

    def _seal(
        self, plaintext: Callable[[], bytes], *, sign: Callable[[bytes], bytes], now: float
    ) -> bytes:
        """Return message 4: `plaintext` sealed to the other end's key, signed by the mesh CA key.

        Args:
            plaintext: returns it, once it is due.
            sign: signs with the key whose SPKI the evidence in message 2 binds.
            now: seconds of the clock of `opened_at`.

        Raises:
            FormatError: the other end's HPKE key is no usable key.
            Timeout: the session is too old.
            PeerProtocolError: out of turn, or a second time.
        """
        with self._turns.step(State.PROVED, State.DONE):
            self.refuse_late(now)
            form = self._form
            transcript = form.transcript(self._request, self._challenge, self._attestation)
            ciphertext = hpke_seal(self._hpke_public, plaintext(), info=form.info(transcript))
            signature = sign(form.signed_bytes(transcript, ciphertext))
            return wire.encode(form.response(ciphertext=ciphertext, signature=signature))

    def refuse_late(self, now: float) -> None:
        """Return if there is time for an answer: ask before anything is counted for it.

        Args:
            now: seconds of the clock of `opened_at`.

        Raises:
            Timeout: the session is too old.
        """
        if not 0 <= now - self._opened_at <= SESSION_LIFE_S:
            raise Timeout(f"the session is over: it lives {SESSION_LIFE_S} s")
