"""The active broker's desk for who wants to be its standby, or its successor."""

import asyncio

from typing_extensions import override

from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.results.result import AttestationResult
from wardian.broker.certificates import BROKER
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FrameStream
from wardian.broker.limits import Place
from wardian.broker.standby.active_session import ActiveSession
from wardian.broker.standby.commits import dial
from wardian.broker.standby.giving import Giver, give_keys, give_state
from wardian.broker.standby.handover import last_changes, refuse_own
from wardian.broker.standby.messages import StandbyHello
from wardian.broker.standby.standbys import Joining, Standbys
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied, Timeout, TransportError


class StandbyDesk(Desk[StandbyHello]):
    """Attests another broker, gives it the keys and the state, and keeps it up from then on."""

    __slots__ = ("_office",)

    def __init__(self, office: Office) -> None:
        """Give away what the authority of `office` holds, to brokers that the owners admitted."""
        self._office = office

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: StandbyHello
    ) -> None:
        """Make one standby, or hand over; a refusal is audited before it is told."""
        if first.wish == "take over":
            await self._hand_over(stream, place, raw, first)
        else:
            await self._make_standby(stream, place, raw, first)

    async def _make_standby(
        self, stream: FrameStream, place: Place, raw: bytes, hello: StandbyHello
    ) -> None:
        store = self._office.authority.store
        standbys = store.replicas
        if not isinstance(standbys, Standbys):
            raise TransportError("this broker was told of no other broker: it has no standby")
        under = self._office.authority.manifest_digest
        session = await self._give_keys(stream, place, raw, hello)
        with standbys.joining_one() as joining:
            mark, pieces = store.snapshot()
            await give_state(stream, session, pieces)
            await self._keep_up(standbys, joining, session, mark=mark, under=under)

    async def _hand_over(
        self, stream: FrameStream, place: Place, raw: bytes, hello: StandbyHello
    ) -> None:
        """Give the state to other code, and decide nothing any more."""
        store = self._office.authority.store
        try:
            session = await self._give_keys(stream, place, raw, hello)
            await give_state(stream, session, store.snapshot()[1])
        finally:
            if store.retired:  # whatever became of the connection: the successor comes again
                store.abandon()

    async def _give_keys(
        self, stream: FrameStream, place: Place, raw: bytes, hello: StandbyHello
    ) -> ActiveSession:
        """Return the session of a broker that has the keys now."""
        office, authority = self._office, self._office.authority
        manifest = authority.manifest
        office.spend_quote(place.peer)
        shown: Evidence | None = None

        def presented(evidence: Evidence) -> None:
            nonlocal shown
            shown, place.firm = evidence, True

        def grant(result: AttestationResult) -> Secret:
            if manifest.digest != authority.manifest.digest:
                raise Timeout("the mesh manifest changed meanwhile: ask again")
            return self._grant(result, hello, evidence=shown)

        giver = Giver(
            attesting=office,
            manifest=manifest,
            ca_certificate=authority.ca.certificate,
            sign=authority.ca.sign,
            ticks=office.ticks,
            grant=grant,
            presented=presented,
        )
        try:
            return await give_keys(giver, stream, raw, hello)
        except TransportError:
            raise  # the peer left, was slow or must ask again: nothing was decided
        except Exception as err:
            if not authority.store.retired:
                office.refuse_rationed(err, role=BROKER, evidence=shown)
            raise

    def _grant(
        self, result: AttestationResult, hello: StandbyHello, *, evidence: Evidence | None
    ) -> Secret:
        """Return what the attested broker may have of the master key, once that is written down.

        This very code has it all already, and only it can stand by: the counter that decides who
        goes on belongs to a measurement. Other code that the manifest lists for the broker takes
        over, and gets the mesh's key, and each owner's own key if that owner signed the manifest
        (TRUST T7).

        Raises:
            PolicyDenied: other code that wants to follow (rule `standby-other`).
        """
        authority = self._office.authority
        own, other = authority.measurement, result.claims.measurement
        about = {
            "measurement": other.hex(),
            "evidence": "" if evidence is None else evidence_digest(evidence).hex(),
        }
        entries = [
            authority.entry(event="release", outcome="granted", role=BROKER, kind="master", **about)
        ]
        changes = None
        if hello.wish == "take over":
            refuse_own(own, other)
            changes = last_changes(own, other)
            entries.append(
                authority.entry(event="standby", outcome="granted", rule="handed-over", **about)
            )
        elif own != other:
            raise PolicyDenied(
                "other code than the active broker's cannot stand by: it can take over",
                rule="standby-other",
            )
        authority.record(entries, changes, tee=hello.tee, simulated=result.claims.simulated)
        if changes is not None:
            authority.store.retire()
        if own == other:
            return authority.store.master_key.to_secret()
        signers = authority.owners & set(authority.manifest.signers)
        return authority.store.master_key.share_with(signers)

    async def _keep_up(
        self,
        standbys: Standbys,
        joining: Joining,
        session: ActiveSession,
        *,
        mark: bytes,
        under: bytes,
    ) -> None:
        """Reach the standby where the operator says it listens, and send it every commit.

        Raises:
            Timeout: the manifest by which it was admitted, `under`, is not in force any more.
        """
        link = await asyncio.to_thread(
            dial, standbys.peer, session=session.session, session_key=session.session_key
        )
        if self._office.authority.manifest_digest != under:
            link.close()
            raise Timeout("the mesh manifest changed meanwhile: ask again")
        try:
            standbys.attach(joining, link, mark=mark, under=under)
        except BaseException:
            link.close()
            raise
        authority = self._office.authority
        authority.record([authority.entry(event="standby", outcome="granted", rule="kept-up")])
