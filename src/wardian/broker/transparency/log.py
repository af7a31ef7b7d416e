"""The audit log as its broker shows it: signed heads, proofs, and what witnesses signed."""

from collections.abc import Callable, Iterable
from typing import Final

from wardian._internal import wire
from wardian._internal.clock import UnixTime
from wardian.broker.ca import MeshCa
from wardian.broker.state.store import Store
from wardian.broker.transparency.cosigning import (
    MAX_SKEW_S,
    Cosignature,
    Cosigned,
    WitnessedHead,
    verify_cosignature,
)
from wardian.broker.transparency.following import ShownLog
from wardian.broker.transparency.heads import SignedHead, log_id, sign_head
from wardian.broker.transparency.proofs import ProofRequest, Proofs, ProvedLine
from wardian.errors import PolicyDenied

PLACE: Final = "cosignature"


class TransparencyLog:
    """Reads the log of a store and signs its heads. One thread.

    What witnesses signed is kept in the store, one cosignature each; a newer time for a head of the
    same length is kept in memory alone, since writing it would cost a step of the counter.
    """

    __slots__ = (
        "_ca",
        "_clock",
        "_cosigned",
        "_issuing_ca",
        "_manifest",
        "_mesh",
        "_store",
        "threshold",
        "witnesses",
    )

    threshold: int
    """How many witnesses processes of the mesh demand."""
    witnesses: tuple[str, ...]
    """Public keys, in hex, of those who may countersign."""

    def __init__(
        self,
        *,
        store: Store,
        ca: MeshCa,
        mesh: str,
        witnesses: Iterable[str],
        threshold: int,
        manifest: Callable[[], bytes],
        issuing_ca: Callable[[], bytes],
        clock: UnixTime,
    ) -> None:
        """Show the log of `store`.

        Args:
            store: opened, hence whole and the newest.
            ca: the mesh CA, whose key signs heads.
            mesh: the mesh's name.
            witnesses: public keys in hex, of the measured `wardian.toml`.
            threshold: how many of them processes of the mesh demand.
            manifest: returns the digest of the manifest in force, empty if there is none.
            issuing_ca: returns the certificate, DER, of the CA that issues under it.
            clock: Unix seconds.
        """
        self._store, self._ca, self._mesh = store, ca, mesh
        self._manifest, self._issuing_ca, self._clock = manifest, issuing_ca, clock
        self.witnesses = tuple(sorted(set(witnesses)))
        self.threshold = threshold
        self._cosigned: dict[str, Cosignature] = {}
        for witness in self.witnesses:
            raw = store.get(PLACE, witness)
            if raw is not None:
                self._cosigned[witness] = wire.decode(raw, Cosignature, what="cosignature")

    @property
    def mesh_ca(self) -> bytes:
        """The certificate, DER, of the CA whose key signs the heads."""
        return self._ca.certificate

    @property
    def issuing_ca(self) -> bytes:
        """The certificate, DER, of the CA that issued this broker's own."""
        return self._issuing_ca()

    def head(self) -> SignedHead:
        """Return the newest head, signed now."""
        return sign_head(
            self._store.audit_head,
            mesh=self._mesh,
            manifest_digest=self._manifest(),
            ca_spki=self._ca.spki,
            sign=self._ca.sign,
            now=self._clock(),
        )

    def witnessed(self) -> WitnessedHead:
        """Return the newest head beside the newest that each witness signed."""
        head, tree = self.head(), self._store.audit_tree
        return WitnessedHead(
            head=head,
            cosigned=tuple(
                Cosigned(
                    cosignature=each, consistency=tree.consistency(each.count, head.audit.count)
                )
                for each in self._cosigned.values()
            ),
        )

    def show(self, seen: int) -> ShownLog:
        """Return what goes with a message to a party that has seen `seen` lines.

        A party that has seen more than there is learns it from the head.
        """
        known = seen if seen <= self._store.audit_head.count else 0
        return ShownLog(witnessed=self.witnessed(), continues=self.consistency(known))

    def consistency(self, seen: int) -> tuple[bytes, ...]:
        """Return the proof that the log goes on from its first `seen` lines.

        Raises:
            PolicyDenied: it has fewer (rule `audit-range`).
        """
        self._refuse_beyond(seen, self._store.audit_head.count)
        return self._store.audit_tree.consistency(seen, self._store.audit_head.count)

    def prove(self, request: ProofRequest) -> Proofs:
        """Return the proofs that were asked for.

        Raises:
            PolicyDenied: beyond the log, or beyond the size asked for (rule `audit-range`).
        """
        witnessed, tree = self.witnessed(), self._store.audit_tree
        newest = witnessed.head.audit.count
        size = newest if request.size is None else request.size
        self._refuse_beyond(size, newest)
        self._refuse_beyond(max((*request.lines, *request.seen), default=0), size)
        return Proofs(
            witnessed=witnessed,
            mesh_ca=self.mesh_ca,
            issuing_ca=self.issuing_ca,
            size=size,
            lines=tuple(
                ProvedLine(
                    sequence=sequence,
                    line=self._store.audit_lines(after=sequence - 1, limit=1)[0],
                    inclusion=tree.inclusion(sequence - 1, size=size),
                )
                for sequence in request.lines
            ),
            seen=tuple(tree.consistency(seen, size) for seen in request.seen),
        )

    def known(self, witness: str) -> Cosigned | None:
        """Return the newest that `witness` signed, if it is one of the mesh's and signed any."""
        found = self._cosigned.get(witness)
        if found is None:
            return None
        return Cosigned(cosignature=found, consistency=self.consistency(found.count))

    def refuse_stranger(self, witness: str) -> None:
        """Return if `wardian.toml` names this key as a witness's.

        Raises:
            PolicyDenied: it does not (rule `witness-known`).
        """
        if witness not in self.witnesses:
            raise PolicyDenied("this is not a witness in wardian.toml", rule="witness-known")

    def accept(self, cosignature: Cosignature) -> None:
        """Keep what a witness signed; durable on return if it is of more lines than before.

        Raises:
            PolicyDenied: not one of the mesh's witnesses (rule `witness-known`), not of this log
                (`witness-head`), or older than what this witness signed before, or of a time to
                come (`witness-newer`).
            AuthenticationFailed: not signed by that witness for this log.
            SealError: it cannot be made durable.
        """
        self.refuse_stranger(cosignature.witness)
        verify_cosignature(cosignature, mesh=self._mesh, log=log_id(self._ca.spki))
        size = self._store.audit_head.count
        if (
            cosignature.count > size
            or cosignature.root != self._store.audit_tree.root(cosignature.count).hex()
        ):
            raise PolicyDenied("the witness signed another log than this", rule="witness-head")
        last = self._cosigned.get(cosignature.witness)
        if cosignature.time > self._clock() + MAX_SKEW_S or (
            last is not None and (cosignature.count, cosignature.time) < (last.count, last.time)
        ):
            raise PolicyDenied(
                "the witness signed more, or later, than this; or its clock is ahead",
                rule="witness-newer",
            )
        if last is None or cosignature.count > last.count:
            raw = wire.encode(cosignature)
            self._store.commit({(PLACE, cosignature.witness): raw}, audit=[], now=self._clock())
        self._cosigned[cosignature.witness] = cosignature

    @staticmethod
    def _refuse_beyond(asked: int, there: int) -> None:
        if asked > there:
            raise PolicyDenied(
                f"the audit log has {there} lines where {asked} were asked for", rule="audit-range"
            )
