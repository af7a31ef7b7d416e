"""The desk where jobs ask for the keys of owners' tables."""

import secrets

from typing_extensions import override

from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FrameStream
from wardian.broker.limits import Place
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.session.desk import release_in
from wardian.broker.tables.asked import ROLE, AskedPlan, read_asked
from wardian.broker.tables.broker_session import BrokerJobSession
from wardian.broker.tables.protocol import JobRequest
from wardian.broker.tables.releases import TableReleases
from wardian.errors import FormatError, PolicyDenied


class JobDesk(Desk[JobRequest]):
    """Attests a job and gives it the tables of its plan, if every owner allows it."""

    __slots__ = ("_office", "_releases")

    def __init__(self, office: Office) -> None:
        """Release what the authority of `office` holds."""
        self._office = office
        self._releases = TableReleases(office.authority, spend=office.spend_lines)

    @override
    async def serve(self, stream: FrameStream, place: Place, raw: bytes, first: JobRequest) -> None:
        """Carry out one release; a refusal is audited before it is told.

        No owner's policy is looked at before the job has shown evidence: strangers learn nothing of
        what is in them.
        """
        office, manifest = self._office, self._office.authority.manifest
        asked = plan_for_a_quote(first.plan, office, place)
        session = BrokerJobSession(
            asked, nonce=secrets.token_bytes(NONCE_BYTES), opened_at=office.ticks()
        )
        await release_in(
            session,
            stream,
            place,
            raw=raw,
            first=first,
            seen=first.seen,
            office=office,
            manifest=manifest,
            role=ROLE,
            release=lambda proof, result: self._releases.release(
                proof.evidence,
                request=first,
                asked=asked,
                shown=session.manifest,
                logged=session.logged,
                result=result,
            ),
            refuse=lambda err, evidence: office.refuse_rationed(
                err, role=ROLE, evidence=evidence, plan=asked.digest_hex
            ),
        )


def plan_for_a_quote(raw: bytes, office: Office, place: Place) -> AskedPlan:
    """Return the plan in message 1, for which a quote of the broker's is spent.

    Raises:
        PolicyDenied, FormatError: see `read_asked`; they have their audit line.
        TransportError: no manifest is in force.
        QueueFull: the peer had plans read, or quotes, enough; see `Office`.
    """
    office.spend_plan(place.peer)
    try:
        asked = read_asked(raw, office.authority)
    except (PolicyDenied, FormatError) as err:  # it cost no quote, hence is rationed by itself
        office.refuse_rationed(err, role=ROLE)
        raise
    office.spend_quote(place.peer)
    return asked
