"""Which policies over tables, and which keys of tables, are accepted from owners."""

from typing import Final

import msgspec

from wardian.broker.authority import Authority
from wardian.broker.jobs.policy import DataPolicy
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import VerifiedPolicy, verify_policy
from wardian.broker.joint.kept import Taken, narrow_models
from wardian.broker.owners.offers import unsigned_receipt
from wardian.broker.owners.protocol import PolicyInForce, Receipt
from wardian.broker.owners.provisioning import OpenedConsent
from wardian.broker.state.audit import AuditEntry
from wardian.broker.tables.kept import (
    Changes,
    TableRecord,
    Tables,
    keep_key,
    keep_policy,
    keep_record,
    owner_of,
)
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied

MOST_TABLES: Final = 384
"""Tables that the broker remembers for good, as it does lines (`offers.MOST_LINES`). Each owner of
the mesh has an equal part of them, so that no owner fills the state for the others."""
MOST_POLICY_BYTES: Final = 4 * 1024 * 1024
"""Of all policies that the broker keeps, in the same parts. It holds them in memory once a job has
needed them, which takes up to fourteen times as much."""


class Consents:
    """Judges what owners say of their tables and puts it in force. One thread."""

    __slots__ = ("_authority", "_tables")

    def __init__(self, authority: Authority) -> None:
        """Change what `authority` holds."""
        self._authority = authority
        self._tables = Tables(
            authority.store, authority.clock, mesh=authority.mesh, policies=authority.policies
        )

    def accept(self, consent: OpenedConsent) -> Receipt:
        """Put the policy in force, with the table's key; return the receipt, not yet signed.

        What was had and spent of the table stays as it is. A key that no policy in force names any
        more, because the table was sealed anew or withdrawn, is erased. A policy that is newer than
        those before and refused nevertheless is remembered: those before count no more. What the
        policy takes back is taken back of the models that jobs made of the table, too.

        Args:
            consent: message 3, its signature verified.

        Raises:
            TransportError: no manifest is in force.
            FormatError: no policy.
            AuthenticationFailed: the policy is not signed by the owner whom it names.
            PolicyDenied: another owner's (`policy-owner`), another mesh's, an older one or another
                of one serial (`policy-serial`); a table without its key (`key-given`), or goods
                that do not belong there (`key-named`, `secret-named`); `memory-full`.
            SealError: it cannot be made durable; nothing changed.
        """
        _ = self._authority.manifest
        verified = verify_policy(consent.signed_policy, mesh=self._authority.mesh)
        policy = verified.policy
        if policy.owner_key != consent.owner or consent.owner not in self._authority.owners:
            raise PolicyDenied(
                "the policy is about a table of somebody else than the owner who brings it",
                rule="policy-owner",
            )
        known = self._tables.record(policy.place)
        _refuse_older(verified, known)
        try:
            self._refuse_beyond_memory(consent, policy, known)
            given = _given(consent, policy)
            key_id = self._key_id(given, policy, known)
        except PolicyDenied as err:
            if known is not None or err.rule != "memory-full":  # a new table would be a new row
                self._remember(verified, known, rule=err.rule)
            raise
        record = _renewed(verified, known, key_id=key_id)
        changes = keep_record(policy.place, record)
        changes |= keep_policy(policy.place, consent.signed_policy)
        changes |= self._erased(policy, known, key_id=key_id)
        if given is not None and key_id is not None:
            changes |= keep_key(consent.owner, key_id, given)
        entries = self._entries(policy, given, key_id)
        narrowed, taken = self._narrowed(policy)
        entries += [self._taken_entry(policy, each) for each in taken]
        self._authority.record(entries, changes | narrowed)
        return self._receipt(policy, record)

    def _narrowed(self, policy: DataPolicy) -> tuple[Changes, tuple[Taken, ...]]:
        """Return what `policy` takes back of models; see `narrow_models`."""
        authority = self._authority
        named, now = authority.named_keys, authority.clock()
        return narrow_models(authority.store, policy, named=named, now=now)

    def _key_id(
        self, given: Secret | None, policy: DataPolicy, known: TableRecord | None
    ) -> str | None:
        """Return which key opens the table of `policy`; None for one that nobody is given.

        Raises:
            PolicyDenied: the rule `key-given`: there is none, or it was another table's.
        """
        if given is not None:
            return BrokerKey(given).key_id.hex()
        if policy.revoked or not policy.allow:
            return None
        before = self._tables.policy(policy.place)
        same = before is not None and before.policy.pin == policy.pin
        if known is None or known.key_id is None or not same:
            raise PolicyDenied(
                f"the key of table {policy.table} is missing: it comes with the first policy, and "
                "with one that pins another sealed file",
                rule=Rule.KEY,
            )
        return known.key_id

    def _erased(
        self, policy: DataPolicy, known: TableRecord | None, *, key_id: str | None
    ) -> Changes:
        """Return the change that erases the key of before, if no table has it any more."""
        before = None if known is None else known.key_id
        if before is None or before == key_id:
            return {}
        for place in self._places_of(policy.owner_key) - {policy.place}:
            other = self._tables.record(place)
            if other is not None and other.key_id == before:
                return {}
        return keep_key(policy.owner_key, before, None)

    def _places_of(self, owner: str) -> set[str]:
        return {place for place in self._tables.places if owner_of(place) == owner}

    def _refuse_beyond_memory(
        self, consent: OpenedConsent, policy: DataPolicy, known: TableRecord | None
    ) -> None:
        owners, places = len(self._authority.owners), self._places_of(policy.owner_key)
        most, most_bytes = MOST_TABLES // owners, MOST_POLICY_BYTES // owners
        full = known is None and len(places) >= most
        grown = len(consent.signed_policy.policy) - self._tables.policy_bytes(policy.place)
        if full or (grown > 0 and sum(map(self._tables.policy_bytes, places)) + grown > most_bytes):
            raise PolicyDenied(
                f"the broker remembers {most} tables of an owner for good, with policies of up to "
                f"{most_bytes:,} bytes together",
                rule="memory-full",
            )

    def _remember(self, verified: VerifiedPolicy, known: TableRecord | None, *, rule: str) -> None:
        """Let no policy before `verified`, which is refused, count any more."""
        if known is not None and known.newest == verified.mark:
            return
        record = (
            TableRecord(newest=verified.mark)
            if known is None
            else msgspec.structs.replace(known, newest=verified.mark)
        )
        policy = verified.policy
        entry = self._entry(policy, "refused", kind="policy", version=policy.serial, rule=rule)
        narrowed, taken = self._narrowed(policy)
        entries = [entry, *(self._taken_entry(policy, each) for each in taken)]
        self._authority.record(entries, keep_record(policy.place, record) | narrowed)

    def _entries(
        self, policy: DataPolicy, given: Secret | None, key_id: str | None
    ) -> list[AuditEntry]:
        rule = "revoked" if policy.revoked else ""
        entries = [self._entry(policy, kind="policy", version=policy.serial, rule=rule)]
        if given is not None:
            entries.append(self._entry(policy, kind="table", key_id=key_id))
        return entries

    def _taken_entry(self, policy: DataPolicy, taken: Taken) -> AuditEntry:
        """Return the line of a model that is given to less code, or for less time, or to nobody."""
        model = taken.model
        return self._entry(
            policy,
            kind="model",
            model=model.file.name,
            version=model.file.version,
            key_id=model.file.key_id,
            job=model.job,
            rule=taken.rule,
        )

    def _entry(self, policy: DataPolicy, outcome: str = "granted", **more: object) -> AuditEntry:
        return self._authority.entry(
            event="provision",
            outcome=outcome,
            owner=policy.owner_key,
            secret=policy.table,
            **more,
        )

    def _receipt(self, policy: DataPolicy, record: TableRecord) -> Receipt:
        held = PolicyInForce(
            table=policy.table,
            serial=policy.serial,
            policy_digest=record.newest[8:].hex(),
            revoked=policy.revoked,
            key_id=record.key_id,
            uses=record.uses,
            epsilon=str(record.spent.epsilon),
            delta=str(record.spent.delta),
        )
        return msgspec.structs.replace(unsigned_receipt(self._authority), policy=held)


def _renewed(
    verified: VerifiedPolicy, known: TableRecord | None, *, key_id: str | None
) -> TableRecord:
    """Return the record under `verified`; the counts are those of before."""
    if known is None:
        return TableRecord(newest=verified.mark, key_id=key_id)
    return msgspec.structs.replace(known, newest=verified.mark, key_id=key_id)


def _refuse_older(verified: VerifiedPolicy, known: TableRecord | None) -> None:
    if known is None or known.newest == verified.mark or known.newest[:8] < verified.mark[:8]:
        return
    raise PolicyDenied(
        f"the policy about table {verified.policy.table} is not newer than one that was seen: "
        "raise its serial",
        rule=Rule.POLICY_SERIAL,
    )


def _given(consent: OpenedConsent, policy: DataPolicy) -> Secret | None:
    """Return the table's key, if the consent brings one.

    Raises:
        PolicyDenied: it brings something else, or a key for what gives nobody anything.
    """
    keys = tuple(consent.goods.keys.values())
    if consent.goods.secrets:
        raise PolicyDenied("a consent brings no secret but a key", rule="secret-named")
    if len(keys) > 1 or (keys and policy.revoked):
        raise PolicyDenied(
            "a consent brings one key, and none of a table that is withdrawn", rule="key-named"
        )
    return keys[0] if keys else None
