"""From entitlements to secrets: what the broker holds, what the terms of each line allow now.

A model of which one version may not be released now (its uses are spent, its time is over, its
owner has not given the key) is still served by the others, so that one owner's terms do not stop
another's; where none is left the workload is refused, with the rule that refused the newest. A
named secret that may not be released now is withheld. Each of these refusals has an audit line.

A model that a job made of several owners' tables (`broker.joint`) has a line as every model, and
besides the terms of each of those owners, every one of which has to hold.
"""

from dataclasses import dataclass

from wardian.broker.joint.kept import find_key, find_model
from wardian.broker.joint.record import JointModel
from wardian.broker.mesh.lines import Line, ModelLine, SecretLine
from wardian.broker.release.epoch_keys import EpochKeys
from wardian.broker.release.policy import Entitlement
from wardian.broker.release.protocol import ReleasedSecret
from wardian.broker.release.terms import Standing, refuse_ended, refuse_over, refuse_spent
from wardian.broker.state import named_secrets
from wardian.broker.state.clock import FlooredClock
from wardian.broker.state.store import Place, Store
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied

USES = "uses"
"""The store's table of how often each line's secret was released; the key is `Line.place`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One secret that is released.

    Attributes:
        secret: what the workload gets.
        line: its owner's; None for a queue key and a request key.
        use: which release of it this is, 1 or more; 0 for those two, whose uses nobody counts.
    """

    secret: ReleasedSecret
    line: Line | None
    use: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """One secret that its owner gives to the workload, but not now; `error` says why not."""

    line: Line
    error: PolicyDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What one workload gets, and what it does not get now."""

    granted: tuple[Grant, ...]
    withheld: tuple[Withheld, ...]

    def counted(self) -> dict[Place, bytes | None]:
        """Return the changes that count these uses; they are committed before anything leaves."""
        return {
            (USES, grant.line.place): grant.use.to_bytes(8, "big")
            for grant in self.granted
            if grant.line is not None
        }


class Vault:
    """Looks up what was granted in the broker's store. One thread."""

    __slots__ = ("_clock", "_epoch_keys", "_store")

    def __init__(self, store: Store, clock: FlooredClock) -> None:
        """Look into `store`, with the time that `clock` tells."""
        self._store, self._clock, self._epoch_keys = store, clock, EpochKeys(store)

    def grants(self, entitled: tuple[Entitlement, ...], *, epoch: int, measurement: str) -> Grants:
        """Return what an admission gets of what it is `entitled` to.

        Args:
            entitled: of `entitlements`.
            epoch: of the queue and request keys.
            measurement: of the workload's code, in hex.

        Raises:
            PolicyDenied: no version of a model may be released now; see `grant`.
            SealError: the store lacks a key that it must have.
        """
        granted, withheld = list[Grant](), list[Withheld]()
        for each in entitled:
            if each.line is None:
                secret = self._epoch_keys.secret(each, epoch)
                granted.append(Grant(secret=secret, line=None, use=0))
                continue
            try:
                granted.append(self.grant(each.line, measurement=measurement))
            except PolicyDenied as err:
                withheld.append(Withheld(line=each.line, error=err))
        _refuse_empty_handed({each.secret.model for each in granted if each.line}, withheld)
        return Grants(granted=tuple(granted), withheld=tuple(withheld))

    def renewed(self, entitled: tuple[Entitlement, ...], *, epoch: int, measurement: str) -> Grants:
        """Return what a renewal gets: the keys of the epoch, while owners still give the rest.

        A workload whose model no owner's line releases any more, since its time is over, gets
        nothing: so it ends with its lease. So does one whose key is not here any more: nobody who
        asks anew is given it. So does one that may have a model which a job made and an owner took
        back, whatever other lines say: it is started anew, without that. Uses are not asked for,
        because none is made.

        Raises:
            PolicyDenied: time has ended every line of a model, or an owner one that a job made.
        """
        granted, alive, withheld = list[Grant](), set[str](), list[Withheld]()
        for each in entitled:
            if each.line is None:
                secret = self._epoch_keys.secret(each, epoch)
                granted.append(Grant(secret=secret, line=None, use=0))
            elif isinstance(each.line, ModelLine):
                try:
                    self._refuse_over(each.line, measurement=measurement)
                    self._refuse_without_key(each.line)
                    alive.add(each.model)
                except PolicyDenied as err:
                    if self._joint(each.line) is not None and err.rule != "joint-line":
                        raise  # it may have the key; by a line about another file nobody ever had
                    withheld.append(Withheld(line=each.line, error=err))
        _refuse_empty_handed(alive, withheld)
        return Grants(granted=tuple(granted), withheld=())

    def grant(self, line: Line, *, measurement: str) -> Grant:
        """Return what `line` names, as its next use; nothing is counted yet.

        Args:
            line: that lists `measurement`.
            measurement: of the workload's code, in hex.

        Raises:
            PolicyDenied: its terms do not allow it now (`refuse_over`, `refuse_spent`), or its
                owner has not given it (the rule `key-given`); of a model that a job made,
                the rules `joint-line` and `joint-code`, or the terms of an owner of a table.
        """
        standing = self._standing(line)
        self._refuse_over(line, measurement=measurement)
        refuse_spent(line, standing)
        find = self._model_secret(line) if isinstance(line, ModelLine) else self._named(line)
        return Grant(secret=find, line=line, use=standing.uses + 1)

    def _standing(self, line: Line) -> Standing:
        return Standing(
            uses=int.from_bytes(self._store.get(USES, line.place) or b"", "big"),
            now=self._clock(),
            beacon=self._clock.beacon_of(line.owner),
        )

    def _refuse_over(self, line: Line, *, measurement: str) -> None:
        """Return if time has ended neither `line` nor, of a model that a job made, any table."""
        refuse_over(line, self._standing(line))
        model = self._joint(line)
        if model is None or not isinstance(line, ModelLine):
            return
        model.refuse_other_line(line)
        model.refuse_other_code(measurement)
        for each in model.tables:
            standing = Standing(uses=0, now=self._clock(), beacon=self._clock.beacon_of(each.owner))
            whose = f"owner {each.owner[:16]} of a table in {line.said}"
            refuse_ended(each.terms, standing, whose=whose)

    def _refuse_without_key(self, line: ModelLine) -> None:
        """Return if the key of `line` is here, also while its owner is away; or it is a job's."""
        place = f"{line.owner}/{line.key_id}"
        if self._joint(line) is None and not self._store.has("model-key", place):
            raise _not_given(line)

    def _joint(self, line: Line) -> JointModel | None:
        """Return the model that a job made, if `line` is about one."""
        return find_model(self._store, line.key_id) if isinstance(line, ModelLine) else None

    def _model_secret(self, line: ModelLine) -> ReleasedSecret:
        """Return the key of a sealed model, as the owner who signed the line gave it.

        Keys are kept by owner and id: a line that another owner signs over the same id finds
        nothing, whatever measurements it lists (TRUST T7). That of a model which a job made takes
        every owner of a table in it.
        """
        model = self._joint(line)
        if model is None:
            kept = self._store.get("model-key", f"{line.owner}/{line.key_id}")
            key = None if kept is None else Secret(kept)
        else:
            key = find_key(self._store, model)
        if key is None:
            raise _not_given(line)
        return ReleasedSecret(
            kind="model",
            model=line.name,
            version=line.version,
            epoch=None,
            key_id=line.key_id,
            key=key,
        )

    def _named(self, line: SecretLine) -> ReleasedSecret:
        kept = named_secrets.find(self._store, line)
        if kept is None:
            raise _not_given(line)
        return ReleasedSecret(
            kind="secret",
            model="",
            version=None,
            epoch=None,
            key_id=kept.key_id.hex(),
            key=kept.value,
            name=line.name,
        )


def _refuse_empty_handed(served: set[str], withheld: list[Withheld]) -> None:
    """Raise the refusal of a model's newest version if none of its versions is `served`."""
    refused = {each.line.name: each.error for each in withheld if isinstance(each.line, ModelLine)}
    for model, error in refused.items():
        if model not in served:
            raise error


def _not_given(line: Line) -> PolicyDenied:
    return PolicyDenied(f"the owner of {line.said} has not given its key", rule="key-given")
