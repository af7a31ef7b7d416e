"""Which manifests, keys and secrets are accepted from owners, and what changes with them."""

from typing import Final

from wardian._internal import wire
from wardian.broker.authority import Authority
from wardian.broker.joint.kept import end_models, find_model
from wardian.broker.mesh.chain import refuse_superseded, verify_successor
from wardian.broker.mesh.lines import SecretLine, line_mark
from wardian.broker.mesh.manifest import MeshManifest, SignedManifest
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.owners import manifest_log
from wardian.broker.owners.manifest_log import edition_change
from wardian.broker.owners.protocol import Receipt
from wardian.broker.owners.provisioning import OpenedProvision
from wardian.broker.state import named_secrets
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.named_secrets import KeptSecret
from wardian.broker.state.store import Place
from wardian.crypto.hpke import refuse_unusable
from wardian.errors import PolicyDenied

RECOVERY_PUBLIC = "recovery-public"
"""The store's table of owners' recovery keys; the key is the owner's public key in hex."""
MARKS: Final = "line"
"""The store's table of marks of lines; the key is `Line.place`."""
MOST_LINES: Final = 6144
"""Lines, each of one owner, name and version, that the broker remembers for good. Each of them, and
the count of its uses, is a row of the state, whose list is written whole at each commit and has an
end: past it nothing could be released any more."""
MOST_EDITIONS: Final = 6656
"""Manifests in the log, likewise."""


class Offers:
    """Judges what owners offer and puts it in force. One thread."""

    __slots__ = ("_authority", "_store")

    def __init__(self, authority: Authority) -> None:
        """Change what `authority` holds."""
        self._authority, self._store = authority, authority.store

    def verify_offer(self, signed: SignedManifest) -> VerifiedManifest:
        """Return the offered manifest if it may follow the one in force.

        The same manifest may come again, by another owner who adds keys.

        Raises:
            PolicyDenied, AuthenticationFailed, FormatError: see `verify_manifest_for`;
                additionally what `verify_successor` raises, the rule `line-serial` for one with a
                line that was replaced, and `memory-full` for one with more than the broker can
                remember.
        """
        offered = self._authority.verify(signed)
        self._refuse_unfit(offered)
        return offered

    def accept(self, provision: OpenedProvision, *, offered: VerifiedManifest) -> Receipt:
        """Put `offered` in force with the owner's goods; return the receipt, not yet signed.

        A manifest that was not in force before begins an epoch: each model gets a new queue key
        and the old ones are deleted, as are keys and secrets that no line names any more. Secrets
        that it is the first to name, and that are made here, are made now.

        Args:
            provision: message 3, its signature verified.
            offered: of `verify_offer`, under which this broker's own evidence was appraised.

        Raises:
            FormatError: the recovery key is none that anything can be sealed to.
            PolicyDenied: a key or a secret that no line of this owner's names (rules `key-named`,
                `secret-named`), or a newer manifest came into force since `verify_offer`.
            SealError: the change cannot be made durable; nothing changed.
        """
        self._refuse_unfit(offered)
        if provision.recovery_public is not None:
            refuse_unusable(bytes.fromhex(provision.recovery_public))
        authority, owner, manifest = self._authority, provision.owner, offered.manifest
        given = _named_by(owner, manifest, provision)
        turns = offered.digest != authority.manifest_digest
        made = self._to_generate(manifest) if turns else {}
        changes = self._turnover(offered) if turns else {}
        for line, kept in (*made.values(), *given.values()):
            changes |= named_secrets.keep(line, kept)
        for key_id, key in provision.goods.keys.items():
            changes["model-key", f"{owner}/{key_id}"] = key.reveal()
        if provision.recovery_public is not None:
            changes[RECOVERY_PUBLIC, owner] = bytes.fromhex(provision.recovery_public)
        fields: dict[str, object] = {"owner": owner, "manifest": offered.digest.hex()}
        entries = [
            *((self._entry(fields, epoch=authority.epoch + 1),) if turns else ()),
            *(
                self._entry(fields, kind="model", key_id=key)
                for key in sorted(provision.goods.keys)
            ),
            *(self._secret_entry(fields, *given[name]) for name in sorted(given)),
            *(self._secret_entry(fields, *made[name]) for name in sorted(made)),
        ]
        if provision.recovery_public is not None:
            entries.append(self._entry(fields, rule="recovery-key"))
        authority.record(
            entries or [self._entry(fields, rule="nothing-new")],
            changes,
            manifest_version=manifest.version,
        )
        if turns:
            authority.adopt(offered)
        return unsigned_receipt(authority)

    def _refuse_unfit(self, offered: VerifiedManifest) -> None:
        """Refuse what may not follow; the manifest in force itself may come again."""
        if offered.digest == self._authority.manifest_digest:
            return
        verify_successor(offered, current=self._authority.in_force)
        refuse_superseded(offered.manifest, mark_of=lambda place: self._store.get(MARKS, place))
        self._refuse_beyond_memory(offered.manifest)

    def _refuse_beyond_memory(self, manifest: MeshManifest) -> None:
        """Refuse what would fill the state with rows that are never deleted."""
        lines = {*self._store.keys(MARKS), *(line.place for line in manifest.owned_lines)}
        if len(lines) > MOST_LINES or len(self._store.keys(manifest_log.PLACE)) >= MOST_EDITIONS:
            raise PolicyDenied(
                f"the broker remembers {MOST_LINES:,} lines and {MOST_EDITIONS:,} manifests for "
                "good and has room for no more: the owners begin another mesh",
                rule="memory-full",
            )

    def _there(self, place: str) -> frozenset[str]:
        """Return every key at `place`, also those that only a key of their owner opens.

        A broker that took the state over may lack that key until its owner comes. What is locked
        is there nevertheless: it is not made anew, which would lose it, and it goes when no line
        names it.
        """
        locked = (
            key
            for owner in self._authority.owners
            for at, key in self._store.locked(owner)
            if at == place
        )
        return frozenset((*self._store.keys(place), *locked))

    def _to_generate(self, manifest: MeshManifest) -> dict[str, tuple[SecretLine, KeptSecret]]:
        """Return a fresh value for each secret that is made here and is not there yet, by name."""
        there = self._there(named_secrets.PLACE)
        return {
            line.name: (line, named_secrets.generate_secret())
            for line in manifest.secrets
            if line.source == "generated" and line.kept not in there
        }

    def _turnover(self, offered: VerifiedManifest) -> dict[Place, bytes | None]:
        """Return the changes that replace manifest, issuing CA, queue keys, and drop the unnamed.

        Marks of lines and counts of their uses are kept for good, also when no line is left.
        """
        authority, manifest = self._authority, offered.manifest
        kept = {
            "model-key": {f"{line.owner}/{line.key_id}" for line in manifest.models},
            named_secrets.PLACE: {line.kept for line in manifest.secrets},
        }
        changes: dict[Place, bytes | None] = {
            (place, key): None
            for place, named in kept.items()
            for key in self._there(place) - named
        }
        changes |= self._models_let_go(manifest)
        changes |= authority.new_epoch(line.name for line in manifest.models)
        changes |= authority.new_issuer(offered.digest)
        for line in manifest.owned_lines:
            changes[MARKS, line.place] = line_mark(line, mesh=manifest.mesh)
        changes["manifest", "current"] = wire.encode(offered.signed)
        return changes | edition_change(
            offered.signed, version=manifest.version, now=authority.clock()
        )

    def _models_let_go(self, manifest: MeshManifest) -> dict[Place, bytes | None]:
        """Return the changes that erase models of jobs that lines named, and now none does.

        One that no line has named yet stays: its line comes in a manifest after it. Workers that
        have the key are refused by the record, whatever line comes then.
        """
        gone = self._authority.named_keys - {each.key_id for each in manifest.models}
        found = (find_model(self._store, key_id) for key_id in sorted(gone))
        models = (each for each in found if each is not None)
        return end_models(models, named=gone, now=self._authority.clock())

    def _entry(self, fields: dict[str, object], **more: object) -> AuditEntry:
        return self._authority.entry(event="provision", outcome="granted", **fields, **more)

    def _secret_entry(
        self, fields: dict[str, object], line: SecretLine, kept: KeptSecret
    ) -> AuditEntry:
        """Return the line that says that a secret is there now: by whom it is, never what."""
        return self._entry(
            fields | {"owner": line.owner},
            kind="secret",
            secret=line.name,
            key_id=kept.key_id.hex(),
        )


def unsigned_receipt(authority: Authority) -> Receipt:
    """Return what is in force, for an owner; its signature is still to come."""
    return Receipt(
        manifest_digest=authority.manifest.digest.hex(),
        manifest_version=authority.manifest_version,
        epoch=authority.epoch,
        missing=authority.missing(),
        time=authority.clock(),
        head=authority.transparency.head(),
        signature=b"",
    )


def _named_by(
    owner: str, manifest: MeshManifest, provision: OpenedProvision
) -> dict[str, tuple[SecretLine, KeptSecret]]:
    """Return the secrets that `owner` gives with the lines that name them, by name.

    Raises:
        PolicyDenied: no line of this owner names a key, or says of a secret that it is supplied.
    """
    if not {line.key_id for line in manifest.models if line.owner == owner}.issuperset(
        provision.goods.keys
    ):
        raise PolicyDenied(
            "a key was given that no model line of this owner names", rule="key-named"
        )
    lines = {
        line.name: line
        for line in manifest.secrets
        if line.owner == owner and line.source == "supplied"
    }
    if not lines.keys() >= provision.goods.secrets.keys():
        raise PolicyDenied(
            "a secret was given that no line of this owner names as supplied", rule="secret-named"
        )
    return {
        name: (lines[name], named_secrets.name_value(value))
        for name, value in provision.goods.secrets.items()
    }
