"""The model of a job that goes straight to be served: what has to hold before it is kept."""

from wardian.broker.authority import Authority
from wardian.broker.exports.statement import Told
from wardian.broker.exports.used import UsedTable
from wardian.broker.jobs.merge import Agreed, model_release
from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.rules import Rule
from wardian.broker.joint.kept import MOST_ENDED, MOST_PARTS, Changes, find_model, keep_model
from wardian.broker.joint.masked import MaskedKey, unmask_key
from wardian.broker.joint.record import JointModel, ModelFile, TableTerms
from wardian.broker.state.clock import MAX_INSISTED_AHEAD_S
from wardian.broker.tables.kept import Tables
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied


class ServedModels:
    """Keeps models that jobs told of with what an `Authority` holds. One thread."""

    __slots__ = ("_authority", "_tables")

    def __init__(self, authority: Authority, tables: Tables) -> None:
        """Keep what is made of `tables`, at `authority`."""
        self._authority, self._tables = authority, tables

    def keep(
        self, told: Told, plan: JobPlan, used: tuple[UsedTable, ...], agreed: tuple[Agreed, ...]
    ) -> Changes:
        """Return the changes that keep the model which goes to be served, if one does.

        Args:
            told: what the job told.
            plan: of the job.
            used: its tables.
            agreed: the rules of their owners that allowed it.

        Raises:
            PolicyDenied: the rule `export-model`: the plan has none, or another; the rule
                `export-key`: its key is missing, or another; `memory-full`.
        """
        file = told.statement.served
        if (file is not None) is not bool(plan.outputs.serving):
            raise PolicyDenied(
                "a model is to be served that the plan does not name, or none is and it does",
                rule=Rule.EXPORT_MODEL,
            )
        if file is None:
            if told.key is not None:
                raise PolicyDenied("a key came, and no model is served", rule=Rule.EXPORT_KEY)
            return {}
        if file.name != plan.output_name("model"):
            raise PolicyDenied(
                f"the model {file.name} is not what comes out of job {plan.name}",
                rule=Rule.EXPORT_MODEL,
            )
        tables = {one.policy.place: one.serving_terms for one in agreed}
        model = JointModel(
            file=file,
            measurements=tuple(sorted(model_release(agreed).measurements & plan.outputs.serving)),
            tables=tuple(
                TableTerms(place=place, terms=terms) for place, terms in sorted(tables.items())
            ),
            job=told.statement.job,
            export=told.statement.export,
        )
        authority, key = self._authority, self._unmasked(told, file, used)
        try:
            return keep_model(
                authority.store,
                model,
                key,
                most=MOST_PARTS // len(authority.owners),
                most_ended=MOST_ENDED // len(authority.owners),
                floor=authority.clock.floor,
                forget=authority.clock.floor - authority.lease_s - MAX_INSISTED_AHEAD_S,
                named=authority.named_keys,
            )
        finally:
            key.wipe()

    def has_ended(self, file: ModelFile) -> bool:
        """Return whether the model was taken back, or let go, since it was told of first."""
        model = find_model(self._authority.store, file.key_id)
        return model is not None and model.ended

    def _unmasked(self, told: Told, file: ModelFile, used: tuple[UsedTable, ...]) -> Secret:
        """Return the key of `file`, by the keys of all tables that it was made of.

        Raises:
            PolicyDenied: the rule `export-key`: it is missing, or another; or the key of a table is
                not there any more, or locked.
        """
        keys = {each.told.place: self._tables.key(each.told.place) for each in used}
        tables = {place: key for place, key in keys.items() if key is not None}
        if told.key is None or len(tables) < len(keys):
            raise PolicyDenied(
                "the key of the model that is served is missing, or that of a table that it was "
                "made of",
                rule=Rule.EXPORT_KEY,
            )
        masked, job_id = MaskedKey(key_id=file.key_id, masked=told.key), told.statement.job
        try:
            return unmask_key(masked, job_id=bytes.fromhex(job_id), tables=tables)
        finally:
            for key in tables.values():
                key.wipe()
