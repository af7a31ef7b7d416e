"""A witness's visit: what travels, and the witness's end as a pure state machine.

    witness                                                     broker
       | 1 WitnessHello   which witness, how much it has seen     |
       |--------------------------------------------------------->|
       | 2 WitnessOffer   newest head, proof that it goes on      |
       |<---------------------------------------------------------|
       | 3 Cosignature                                            |
       |--------------------------------------------------------->|
       | 4 WitnessedHead  shown to everybody from now on          |
       |<---------------------------------------------------------|

Between 2 and 3 the witness remembers the head, durably: what it signed it never forgets, whatever
happens to it. The offer carries what this witness signed last as the broker knows it, so that a
witness whose memory was set back learns from its own signature.

What comes over the network may be old, or anybody's: a witness judges the log only where the
connection ends at the broker (`sender`). So nobody but the broker itself brings a witness to say
that the log forked.
"""

from wardian._internal import wire
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.mesh.fields import Owner
from wardian.broker.refusal import decode_or_raise
from wardian.broker.state.audit import Count
from wardian.broker.transparency.cosigning import (
    MAX_SKEW_S,
    Cosigned,
    Path,
    WitnessedHead,
    cosign,
    verify_cosigned,
)
from wardian.broker.transparency.heads import Seconds, SignedHead, log_id, verify_head
from wardian.broker.transparency.proofs import Der, verify_continuation
from wardian.broker.transparency.sender import verify_sender
from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
)


class WitnessHello(wire.Message, frozen=True, tag_field="format", tag="wardian witness hello v1"):
    """1. Which witness comes; proved in message 3."""

    witness: Owner
    seen: Count
    """The size of the head that it signed last, 0 if it has signed none."""


class WitnessOffer(wire.Message, frozen=True, tag_field="format", tag="wardian witness offer v1"):
    """2. What is to be signed."""

    mesh_ca: Der
    issuing_ca: Der
    """Of the CA that issued the broker's own certificate."""
    head: SignedHead
    """The newest."""
    consistency: Path
    """From `WitnessHello.seen` to `head`; empty where the log is not that long."""
    known: Cosigned | None
    """What this witness signed last, as far as this broker knows."""


class WitnessMemory(wire.Message, frozen=True, tag_field="format", tag="wardian witness memory v1"):
    """What a witness must not forget."""

    head: SignedHead
    """The newest head that it signed, or was about to. With a later one that does not continue it,
    it convicts the broker."""
    time: Seconds
    """When, by the witness's clock."""


class WitnessSession:
    """The witness's end: `hello`, `examine`, `cosignature`, `receipt`, in this order, once each."""

    __slots__ = ("_ca_spki", "_cosignature", "_key", "_memory", "_remembered", "offer", "set_back")

    offer: WitnessOffer | None
    """What the broker itself showed, and nobody else can have made; set by `examine`. Where that
    refuses it, this is what the broker has to answer for."""
    set_back: bool
    """Whether this key has signed more than its memory knew: an older copy of the memory was put in
    its place, or somebody else uses the key. Known after `examine`."""

    def __init__(
        self, *, key: SigningKey, memory: WitnessMemory | None, ca_spki: bytes | None
    ) -> None:
        """Speak as the witness with this key.

        Args:
            key: the witness's.
            memory: of the visit before; None at the first.
            ca_spki: the mesh CA's key (DER) as somebody vouches for it who verified evidence. It
                may be None where there is a memory, which names the CA.

        Raises:
            ConfigError: neither of the two: a witness does not sign for whoever answers.
        """
        if memory is None and ca_spki is None:
            raise ConfigError(
                "a witness has to know the mesh CA at its first visit: give the mesh-ca.pem that "
                "an owner, or `wardian attest show --ca-out`, took from verified evidence"
            )
        self._key, self._memory, self._ca_spki = key, memory, ca_spki
        self.offer = None
        self._remembered: WitnessMemory | None = None
        self._cosignature = b""
        self.set_back = False

    def hello(self) -> bytes:
        """Return message 1."""
        seen = 0 if self._memory is None else self._memory.head.audit.count
        return wire.encode(WitnessHello(witness=self._key.public.hex(), seen=seen))

    def examine(self, raw: bytes, *, certificate: bytes, now: int) -> WitnessMemory:
        """Take message 2 and return what has to be durable before `cosignature`.

        Args:
            raw: message 2, untrusted.
            certificate: of the other end of the connection, DER, from the TLS handshake.
            now: Unix seconds by the witness's clock.

        Raises:
            PeerProtocolError: not an offer, or of another witness's; or the connection does not
                end at the broker of this log.
            FormatError: the CA's certificate does not parse.
            AuthenticationFailed: it is the log of another mesh; or, once `offer` is set, it does
                not go on from what this witness signed: it was altered, cut short or forked.
            PolicyDenied: the broker's clock differs from the witness's (rule `head-time`), so that
                this may be an old head; or the broker refuses.
        """
        offer = decode_or_raise(raw, WitnessOffer, what="witness offer")
        ca_spki = self._verify_log(offer)
        if abs(offer.head.time - now) > MAX_SKEW_S:
            raise PolicyDenied(
                f"the head was signed {abs(offer.head.time - now)} seconds from now, by this "
                "machine's clock and the broker's: one of the two is wrong, or the head is old",
                rule="head-time",
            )
        verify_sender(
            offer.head,
            mesh_ca=offer.mesh_ca,
            issuing_ca=offer.issuing_ca,
            certificate=certificate,
            ca_spki=ca_spki,
            now=now,
        )
        self.offer = offer
        if self._memory is not None:
            verify_continuation(self._memory.head.audit, offer.head.audit, proof=offer.consistency)
        self._verify_known(offer)
        self._remembered = WitnessMemory(head=offer.head, time=now)
        return self._remembered

    def cosignature(self) -> bytes:
        """Return message 3. What `examine` returned is durable by now."""
        if self._remembered is None:
            raise LocalProtocolError("a witness signs what it has examined")
        signed = cosign(self._key, self._remembered.head, now=self._remembered.time)
        self._cosignature = wire.encode(signed)
        return self._cosignature

    def receipt(self, raw: bytes) -> WitnessedHead:
        """Take message 4 and return what the broker shows from now on.

        Raises:
            PeerProtocolError: it does not show what was signed.
            PolicyDenied, TransportError: the broker refuses; the text says why.
        """
        shown = decode_or_raise(raw, WitnessedHead, what="witnessed head")
        if self._cosignature not in {wire.encode(each.cosignature) for each in shown.cosigned}:
            raise PeerProtocolError("the broker does not show the cosignature that it was given")
        return shown

    def _verify_log(self, offer: WitnessOffer) -> bytes:
        """Return the mesh CA's key, if the head is of the log that this witness watches."""
        ca_spki = verify_ca_certificate(offer.mesh_ca)
        mesh, log = offer.head.mesh, offer.head.log
        if self._memory is not None:
            mesh, log = self._memory.head.mesh, self._memory.head.log
        if self._ca_spki not in {None, ca_spki} or log != log_id(ca_spki):
            raise AuthenticationFailed("this broker has another mesh CA than the one watched")
        verify_head(offer.head, ca_spki=ca_spki, mesh=mesh)
        return ca_spki

    def _verify_known(self, offer: WitnessOffer) -> None:
        """Refuse a log that does not go on from this witness's own signature."""
        if offer.known is None:
            return
        if offer.known.cosignature.witness != self._key.public.hex():
            raise PeerProtocolError("the broker shows another witness's signature as this one's")
        verify_cosigned(offer.known, offer.head)
        remembered = 0 if self._memory is None else self._memory.head.audit.count
        self.set_back = offer.known.cosignature.count > remembered
