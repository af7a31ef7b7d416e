"""The desks of the audit log: proofs for anybody, and witnesses who countersign."""

from typing_extensions import override

from wardian._internal import wire
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FIRST_FRAME_BYTES, FrameStream
from wardian.broker.limits import Bucket, Place
from wardian.broker.transparency.cosigning import Cosignature
from wardian.broker.transparency.log import TransparencyLog
from wardian.broker.transparency.proofs import ProofRequest
from wardian.broker.transparency.witnessing import WitnessHello, WitnessOffer
from wardian.errors import TransportError


class ProofDesk(Desk[ProofRequest]):
    """Proves to anybody what is in the log, and that it goes on from heads seen before."""

    __slots__ = ("_office", "_proofs")

    def __init__(self, office: Office) -> None:
        """Prove what is in the log of `office`."""
        self._office = office
        limits = office.limits
        self._proofs = Bucket(
            per_s=limits.proofs_per_s, burst=limits.proof_burst, now=office.ticks()
        )

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: ProofRequest
    ) -> None:
        """Answer with proofs, if this broker's state is still the newest."""
        self._office.spend(self._proofs, "proofs than it can give")
        self._office.authority.store.confirm()
        await stream.send(wire.encode(self._office.authority.transparency.prove(first)))


class WitnessDesk(Desk[WitnessHello]):
    """Shows a witness that the log goes on, and keeps what it signs."""

    __slots__ = ("_office", "_visits")

    def __init__(self, office: Office) -> None:
        """Keep what is signed in the state of `office`."""
        self._office = office
        limits = office.limits
        self._visits = Bucket(
            per_s=limits.proofs_per_s, burst=limits.proof_burst, now=office.ticks()
        )

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: WitnessHello
    ) -> None:
        """Carry out one visit; what is signed is durable before it is confirmed."""
        office, log = self._office, self._office.authority.transparency
        office.spend(self._visits, "witnesses than it can serve")
        log.refuse_stranger(first.witness)
        office.authority.store.confirm()
        await stream.send(wire.encode(offer_to(log, first)))
        try:
            signed = wire.decode(
                await stream.receive(most=FIRST_FRAME_BYTES), Cosignature, what="cosignature"
            )
            log.accept(signed)
        except TransportError:
            raise  # it left: nothing was signed
        except Exception as err:  # a witness, or who says to be one
            office.refuse_rationed(err, role="witness")
            raise
        await stream.send(wire.encode(log.witnessed()))


def offer_to(log: TransparencyLog, hello: WitnessHello) -> WitnessOffer:
    """Return what the witness is to sign. A log shorter than it has seen is shown as it is."""
    head = log.head()
    seen = hello.seen if hello.seen <= head.audit.count else 0
    return WitnessOffer(
        mesh_ca=log.mesh_ca,
        issuing_ca=log.issuing_ca,
        head=head,
        consistency=log.consistency(seen),
        known=log.known(hello.witness),
    )
