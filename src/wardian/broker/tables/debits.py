"""Job ids, of which each is one debit, and the seeds of noise that hang on them (TRUST T8).

An id is 16 bytes that the job chose and a tag over what was paid for: the plan, the code, each
table's policy. The key of the tag never leaves the broker, so that an id shows by itself that there
was a debit: it leaves only in an answer, and that follows the commit. Each table remembers the last
one alone, for a job that did not hear the answer; otherwise nothing has to be kept of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wardian._internal import wire
from wardian.broker.jobs.plan import Privacy
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import VerifiedPolicy
from wardian.broker.jobs.standing import Spent, TableStanding
from wardian.broker.state.store import Place, Store
from wardian.broker.tables.protocol import SALT_BYTES
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied

ROOT: Final[Place] = ("job-secret", "current")
PARTS: Final = "job-part"
"""The store's table of what each owner's tables add to that, 32 bytes; the key is `OWNER/current`.
It lies under the owner's own key: who takes the mesh over without that owner makes no id over its
tables, and computes no noise that was ever added (TRUST T7)."""
ROOT_LABEL: Final = "wardian job root v1"
ID_LABEL: Final = "wardian job id v1"
SEED_LABEL: Final = "wardian job noise v1"
TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What a debit is for.

    Attributes:
        plan_digest: 32 bytes.
        measurement: of the job's code, 32 bytes.
        policies: about each table of the plan; no order matters.
    """

    plan_digest: bytes
    measurement: bytes
    policies: tuple[VerifiedPolicy, ...]

    @property
    def _sorted(self) -> Iterable[VerifiedPolicy]:
        return sorted(self.policies, key=lambda each: each.policy.place)

    def tag(self, root: Secret, salt: bytes) -> Secret:
        """Return the second half of a job id, under the broker's `root`."""
        marks = (part for each in self._sorted for part in (_place(each), each.mark))
        info = wire.fields(ID_LABEL, salt, self.plan_digest, self.measurement, *marks)
        return hkdf(root, salt=b"", info=info, length=TAG_BYTES)

    def seed(self, root: Secret, job_id: bytes) -> Secret:
        """Return the seed of the job's noise, 32 bytes: nobody without `root` computes it.

        The id in it is of one plan, code and set of policies, so no other computation is ever made
        with the same noise, by which it could be taken out.
        """
        pins = (
            part
            for each in self._sorted
            for part in (_place(each), (each.policy.pin or "").encode())
        )
        info = wire.fields(SEED_LABEL, job_id, self.plan_digest, *pins)
        return hkdf(root, salt=b"", info=info)


def find_root(store: Store, owners: Iterable[str]) -> tuple[Secret, dict[Place, bytes | None]]:
    """Return the secret under which ids over tables of `owners` are made, and what has to be kept.

    It comes of the mesh's secret and of one of each owner's. One that is not there, or locked, is
    made anew: under another secret nothing is as it was, neither ids nor noise.
    """
    changes: dict[Place, bytes | None] = {}

    def found(place: Place) -> bytes:
        kept = store.get(*place)
        if kept is None:
            kept = changes[place] = Secret.random().reveal()
        return kept

    parts = [
        part
        for owner in sorted(set(owners))
        for part in (owner.encode(), found((PARTS, f"{owner}/current")))
    ]
    root = Secret(found(ROOT))
    return hkdf(root, salt=b"", info=wire.fields(ROOT_LABEL, *parts)), changes


def job_id_of(paid: Paid, root: Secret, *, salt: bytes) -> bytes:
    """Return the id (32 bytes) of the debit for what is `paid`, by the job that chose `salt`."""
    return salt + paid.tag(root, salt).reveal()


def refuse_unpaid(job_id: bytes, paid: Paid, root: Secret) -> None:
    """Return if there was a debit with `job_id` for exactly what is `paid`.

    Raises:
        PolicyDenied: the rule `job-again`.
    """
    salt, tag = job_id[:SALT_BYTES], Secret(job_id[SALT_BYTES:])
    if tag != paid.tag(root, salt):
        raise PolicyDenied(
            "no job of this id had these tables for this plan, in this code, under the policies of "
            "now: ask for a new one",
            rule=Rule.AGAIN,
        )


def before(table: TableStanding, run: Privacy | None) -> TableStanding:
    """Return `table` as it stood before it paid for `run`, so that paying again adds nothing."""
    if run is None:
        return table
    paid = Spent().plus(run)
    spent = Spent(
        epsilon=max(table.spent.epsilon - paid.epsilon, Spent().epsilon),
        delta=max(table.spent.delta - paid.delta, Spent().delta),
    )
    return TableStanding(uses=table.uses, spent=spent, newest=table.newest, beacon=table.beacon)


def _place(policy: VerifiedPolicy) -> bytes:
    return policy.policy.place.encode()
