"""Where the broker keeps models that jobs made: a record of each, and its key in parts.

Nobody alone owns such a key. So it lies in as many parts as there are owners of tables in it, each
under its owner's own key (`MasterKey`), all of which it takes: a broker that came by the state with
the help of some owners has nothing of it before the others come, as with what they gave themselves
(TRUST T7). All parts but one are random, the last is the key with all of them added to it (XOR).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Final, Literal

from wardian._internal import wire
from wardian.broker.jobs.policy import DataPolicy
from wardian.broker.joint.record import JointModel, ended, narrowed
from wardian.broker.state.store import Place, Store
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied

RECORDS: Final = "joint-model"
"""The store's table of records; the key is the id of the model's key."""
PARTS: Final = "joint-part"
"""Likewise, of parts of keys; the key is an owner's public key in hex, and the key's id."""
MOST_PARTS: Final = 512
"""That are kept at once, of all owners. Each is a row of the state, whose list is written whole at
each commit; each owner of the mesh has an equal part of them, so that no owner fills it for the
others."""
MOST_ENDED: Final = 224
"""Further records, of models that ended: these are short, and have no parts."""
MOST_BYTES: Final = 2 * 1024**2
"""Of all records in which one owner has a table: that owner's next word may change each of them, in
one commit, beside the list of all rows. By its words they grow, by less than half."""
Changes = dict[Place, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A model of which an owner took something back: all of it, or some code or time."""

    model: JointModel
    rule: Literal["ended", "narrowed"]


def find_model(store: Store, key_id: str) -> JointModel | None:
    """Return the model whose key has this id, if a job told of one and it is not forgotten."""
    raw = store.get(RECORDS, key_id)
    return None if raw is None else wire.decode(raw, JointModel, what="joint model")


def find_models(store: Store) -> tuple[JointModel, ...]:
    """Return every model that is kept, by the id of its key."""
    found = (find_model(store, key_id) for key_id in store.keys(RECORDS))
    return tuple(each for each in found if each is not None)


def find_key(store: Store, model: JointModel) -> Secret | None:
    """Return the key of `model`; None if it ended, or while an owner of a table in it is away."""
    parts = [store.get(PARTS, _place(owner, model)) for owner in model.owners]
    whole = [Secret(part) for part in parts if part is not None]
    return reduce(xor, whole) if len(whole) == len(parts) else None


def has_key(store: Store, key_id: str) -> bool:
    """Return whether a model whose key has this id has it, from all owners; no part is opened."""
    model = find_model(store, key_id)
    return model is not None and all(
        store.row_digest(PARTS, _place(owner, model)) is not None for owner in model.owners
    )


def keep_model(
    store: Store,
    model: JointModel,
    key: Secret,
    *,
    most: int,
    most_ended: int,
    floor: int,
    forget: int,
    named: Collection[str],
) -> Changes:
    """Return the changes that keep `model` with its key, and end those whose time is over.

    One that was told of before, in the same words, stays as it is: owners may have narrowed it. So
    does one that ended: for another key the job runs once more.

    Args:
        store: that they are for.
        model: as a job tells of it.
        key: 32 bytes, whose id is that of `model`.
        most: models in which one owner has a part, that may be served at once.
        most_ended: how many more may be known, with those that ended.
        floor: Unix seconds that are past for certain: a host's clock erases nothing.
        forget: before which, Unix seconds, ended ones that no line names are forgotten.
        named: ids of the keys that lines of the manifest in force name.

    Raises:
        PolicyDenied: the rule `export-key`: another model, or another telling, has this key; the
            rule `memory-full`.
    """
    known = find_model(store, model.file.key_id)
    if known is not None and (known.file, known.job, known.export) != (
        model.file,
        model.job,
        model.export,
    ):
        raise PolicyDenied("the key of the model is another model's", rule="export-key")
    if known is not None:
        return {}
    others = find_models(store)
    old = [each for each in others if each.ended_before(forget) and each.file.key_id not in named]
    over = [each for each in others if not each.ended and each.over(floor)]
    left = [each for each in others if each not in old and each not in over]
    for owner in model.owners:
        theirs = [each for each in left if owner in each.owners]
        served = sum(not each.ended for each in theirs)
        held = sum(len(wire.encode(each)) for each in (*theirs, model))
        if served >= most or len(theirs) >= most + most_ended or held > MOST_BYTES:
            raise PolicyDenied(
                f"the broker keeps {most} models that were made of tables of owner {owner[:16]}, "
                f"{most + most_ended} with those that ended, and {MOST_BYTES:,} bytes of what it "
                "knows of them; what ended is forgotten in time, if beacons come",
                rule="memory-full",
            )
    changes: Changes = {(RECORDS, each.file.key_id): None for each in old}
    changes |= end_models(over, named=named, now=floor)
    return changes | keep_record(model) | _split(model, key)


def keep_record(model: JointModel) -> Changes:
    """Return the change that makes `model` what is known of it; its key stays as it is."""
    return {(RECORDS, model.file.key_id): wire.encode(model)}


def end_models(models: Iterable[JointModel], *, named: Collection[str], now: int) -> Changes:
    """Return the changes that erase the keys of `models`, and the records of those not `named`.

    Workers may have what a line named: they are refused by the record that is left, also once the
    line went and came again.

    Args:
        models: that end now; those that ended before stay as they are.
        named: ids of the keys that lines name, or named until now.
        now: Unix seconds.
    """
    changes: Changes = {}
    for each in models:
        if each.file.key_id in named:
            changes |= keep_record(ended(each, now))
        else:
            changes[RECORDS, each.file.key_id] = None
        changes |= {(PARTS, _place(owner, each)): None for owner in each.owners}
    return changes


def narrow_models(
    store: Store, policy: DataPolicy, *, named: Collection[str], now: int
) -> tuple[Changes, tuple[Taken, ...]]:
    """Return the changes that a newer word of an owner over a table makes to models of that table.

    Args:
        store: that they are for.
        policy: that the table's owner signed, in force or refused.
        named: ids of the keys that lines of the manifest in force name.
        now: Unix seconds.

    Returns:
        The changes, and each model that changes, as it was.
    """
    changes: Changes = {}
    taken: list[Taken] = []
    for model in find_models(store):
        left = model if model.ended else narrowed(model, policy)
        if left is None:
            changes |= end_models([model], named=named, now=now)
            taken.append(Taken(model=model, rule="ended"))
        elif left != model:
            changes |= keep_record(left)
            taken.append(Taken(model=model, rule="narrowed"))
    return changes, tuple(taken)


def _split(model: JointModel, key: Secret) -> Changes:
    """Return the changes that keep `key` in parts, one for each owner of a table."""
    *others, last = model.owners
    parts = {owner: Secret.random(len(key)) for owner in others}
    parts[last] = reduce(xor, parts.values(), key)
    return {(PARTS, _place(owner, model)): part.reveal() for owner, part in parts.items()}


def _place(owner: str, model: JointModel) -> str:
    return f"{owner}/{model.file.key_id}"
