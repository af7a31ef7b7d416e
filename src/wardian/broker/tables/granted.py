"""What a job holds once the broker has released its tables."""

from dataclasses import dataclass

from wardian.broker.jobs.merge import ModelRelease, OutputTerms
from wardian.broker.jobs.parties import recipients
from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.policy import table_place
from wardian.broker.joint.masked import MaskedKey, mask_key
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.session.shown import KnownBroker, ShownBroker
from wardian.broker.tables.content import JobRelease, TableKey
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.broker.transparency.following import follow_log
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError, PeerProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedTables:
    """The tables of one job, and on which terms.

    Attributes:
        job_id: 32 bytes, public: of the debit. Whoever asks again names it.
        plan_digest: 32 bytes, of the plan that owners' policies allow.
        noise_seed: 32 bytes. All noise of the job comes of it, so that a job that is killed and
            asks again, or is cloned, tells the same and no second answer to compare.
        tables: one for each input of the plan.
        terms: what has to hold for whatever comes out; the job enforces it.
        model: who may be given the model to serve it; None where none goes there.
        manifest: what the broker showed and its evidence bound.
        witnessed: the audit log with the release's own lines.
        broker: that gave them; what comes of them is told to it.
    """

    job_id: bytes
    plan_digest: bytes
    noise_seed: Secret
    tables: tuple[TableKey, ...]
    terms: OutputTerms
    model: ModelRelease | None
    manifest: VerifiedManifest
    witnessed: WitnessedHead
    broker: KnownBroker

    def table(self, owner: str, table: str) -> TableKey:
        """Return the key and pin of `table` of the owner with this public key, in hex."""
        for each in self.tables:
            if (each.owner, each.table) == (owner, table):
                return each
        raise LocalProtocolError(f"no key of table {table} was released")

    def mask(self, key: Secret) -> MaskedKey:
        """Return `key`, of a model made of all these tables, as nobody has it without theirs."""
        keys = {table_place(each.owner, each.table): each.key for each in self.tables}
        return mask_key(key, job_id=self.job_id, tables=keys)

    def wipe(self) -> None:
        """Overwrite the secrets: no key can be taken out any more."""
        self.noise_seed.wipe()
        for each in self.tables:
            each.key.wipe()


def verify_granted(
    release: JobRelease,
    *,
    plan: JobPlan,
    digest: bytes,
    salt: bytes,
    again: bytes | None,
    shown: ShownBroker,
    now: int,
) -> GrantedTables:
    """Return the release as what this job holds: for its plan, under the shown manifest.

    The signature already says that an attested broker sent it. This catches a broker that is
    wrong, before a wrong key is used or anything goes to somebody whom an owner does not name.

    Args:
        release: message 4, opened and authentic.
        plan: of this job.
        digest: of that plan, 32 bytes.
        salt: of this job, 16 bytes.
        again: the job id that was named; None for a new one.
        shown: the broker of message 2.
        now: Unix seconds.

    Raises:
        PeerProtocolError: the release is not what was asked for, or not written down.
    """
    if release.manifest_version != shown.manifest.manifest.version:
        raise PeerProtocolError("the release is under another manifest than the one shown")
    job_id = release.job_id
    if again not in {None, job_id} or (again is None and not job_id.startswith(salt)):
        raise PeerProtocolError("the release is of another job than the one that asked")
    _verify_tables(release, plan)
    _verify_outputs(release, plan)
    audit = follow_log(
        release.log,
        ca_spki=shown.ca_spki,
        mesh=shown.manifest.manifest.mesh,
        seen=shown.audit,
        demand=None,  # message 2 was witnessed as demanded, and this goes on from there
        now=now,
    )
    if audit.count <= shown.audit.count:
        raise PeerProtocolError("the broker released tables that its audit log does not show")
    return GrantedTables(
        job_id=job_id,
        plan_digest=digest,
        noise_seed=release.noise_seed,
        tables=release.tables,
        terms=release.terms,
        model=release.model,
        manifest=shown.manifest,
        witnessed=release.log.witnessed,
        broker=KnownBroker(
            ca_spki=shown.ca_spki, audit=audit, version=shown.manifest.manifest.version
        ),
    )


def _verify_tables(release: JobRelease, plan: JobPlan) -> None:
    """Refuse a table too many or too few, and a key whose id is not that beside it."""
    places = [table_place(each.owner, each.table) for each in release.tables]
    if sorted(places) != sorted(plan.places):
        raise PeerProtocolError("the released tables are not those of the plan")
    if any(BrokerKey(each.key).key_id.hex() != each.key_id for each in release.tables):
        raise PeerProtocolError("a released key is not the one that its id names")


def _verify_outputs(release: JobRelease, plan: JobPlan) -> None:
    """Refuse terms under which the plan could not run."""
    outputs, terms = plan.outputs, release.terms
    for names, allowed in (
        (outputs.model, terms.model),
        (outputs.metrics, terms.metrics),
        (outputs.aggregates, terms.aggregates),
    ):
        if not recipients(names, plan.parties) <= allowed:
            raise PeerProtocolError("somebody is to be given what the released terms do not allow")
    measurements = frozenset() if release.model is None else release.model.measurements
    if not outputs.serving <= measurements:
        raise PeerProtocolError("the model is to go to code that the released terms do not allow")
    run = plan.privacy
    if terms.epsilon is not None and (
        run is None or run.epsilon > terms.epsilon or run.delta > (terms.delta or 0)
    ):
        raise PeerProtocolError("the plan spends more than the released terms allow")
