"""Logs of one mesh CA, as many as a host may make of one broker, and witnesses who watch them."""

from collections.abc import Iterable
from pathlib import Path

from toy_mesh import MASTER_KEY, NOW, Counter

from wardian._internal import wire
from wardian.broker.audit_log.desks import offer_to
from wardian.broker.ca import IssuingCa, MeshCa
from wardian.broker.certificates import (
    BROKER,
    NO_MANIFEST,
    MeshIdentity,
    build_csr,
    parse_csr,
)
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.store import Store
from wardian.broker.transparency.cosigning import Cosignature, WitnessedHead
from wardian.broker.transparency.log import TransparencyLog
from wardian.broker.transparency.witnessing import (
    WitnessHello,
    WitnessMemory,
    WitnessOffer,
    WitnessSession,
)
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.crypto.tls_keys import TlsKey

CA = MeshCa.create(mesh="test", simulated=True, now=NOW)
WITNESSES = (
    SigningKey.generate(),
    SigningKey.generate(SignatureKind.P256),
    SigningKey.generate(),
)
STRANGER = SigningKey.generate()


class ToyLog:
    """A broker's log and what it shows of it. Whoever makes one closes it."""

    def __init__(
        self,
        path: Path,
        *,
        ca: MeshCa = CA,
        mesh: str = "test",
        witnesses: Iterable[SigningKey] = WITNESSES,
    ) -> None:
        self.path, self.ca, self.mesh = path, ca, mesh
        self.witnesses = tuple(key.public.hex() for key in witnesses)
        self.now, self.counter = NOW, Counter()
        self.issuer: IssuingCa = ca.create_issuing(manifest_digest=NO_MANIFEST, now=NOW)
        self.open()

    def open(self) -> None:
        self.store = Store(self.path, master_key=MASTER_KEY, counter=self.counter.seam)
        self.shown = TransparencyLog(
            store=self.store,
            ca=self.ca,
            mesh=self.mesh,
            witnesses=self.witnesses,
            threshold=0,
            manifest=lambda: b"",
            issuing_ca=lambda: self.issuer.certificate,
            clock=lambda: self.now,
        )

    def close(self) -> None:
        self.store.close()

    @property
    def certificate(self) -> bytes:
        """What the broker shows in a TLS handshake now."""
        identity = MeshIdentity(role=BROKER, measurement=bytes(32), manifest_digest=NO_MANIFEST)
        request = parse_csr(build_csr(TlsKey.generate()))
        return self.issuer.issue(request, identity=identity, now=self.now, life_s=3600)[0]

    def append(self, count: int = 1, *, model: str = "m") -> None:
        entries = [AuditEntry(event="release", outcome="granted", model=model)] * count
        self.store.commit({}, audit=entries, now=self.now)

    def offer(self, hello: bytes) -> bytes:
        """Message 2 of a witness's visit."""
        return wire.encode(offer_to(self.shown, wire.decode(hello, WitnessHello, what="x")))

    def take(self, raw: bytes) -> bytes:
        """Message 4, for message 3."""
        self.shown.accept(wire.decode(raw, Cosignature, what="x"))
        return wire.encode(self.shown.witnessed())


class Watcher:
    """A witness with a memory."""

    def __init__(self, key: SigningKey = WITNESSES[0], *, ca_spki: bytes | None = CA.spki) -> None:
        self.key, self.ca_spki = key, ca_spki
        self.memory: WitnessMemory | None = None
        self.session: WitnessSession

    def visit(self, log: ToyLog, *, now: int | None = None) -> WitnessedHead:
        session = self.session = WitnessSession(
            key=self.key, memory=self.memory, ca_spki=self.ca_spki
        )
        at = log.now if now is None else now
        self.memory = session.examine(
            log.offer(session.hello()), certificate=log.certificate, now=at
        )
        return session.receipt(log.take(session.cosignature()))


def decode_offer(raw: bytes) -> WitnessOffer:
    return wire.decode(raw, WitnessOffer, what="x")
