"""What the broker knows of a model that a job made, and what owners' words leave of it. Pure.

A record only ever narrows. What an owner takes back of one table, by a newer policy, is taken back
of every model that was made of it, and no later policy gives it again. One that is taken back
whole, or let go by its line, is `ended`: workers that have its key are to be renewed no more,
whatever line names it next, so it is remembered as such.
"""

from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.jobs.plan import MOST_INPUTS
from wardian.broker.jobs.policy import DataPolicy, PinText
from wardian.broker.mesh.fields import Hex16, Hex32, Measurements, Name, Text
from wardian.broker.mesh.lines import ModelLine, ReleaseTerms
from wardian.errors import PolicyDenied

NO_TERMS: Final = ReleaseTerms()


class ModelFile(wire.Message, frozen=True):
    """A sealed model that goes to be served: all that an owner's line has to say of the file."""

    name: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    media_type: Text
    pin: PinText
    key_id: Hex16
    """Of the key that opens it: `BrokerKey.key_id`."""
    total_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    """Of the model in the clear."""


class TableTerms(wire.Message, frozen=True):
    """One table that the model was made of, and how long its owner lets the model be served."""

    place: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    """`DataPolicy.place`: whose table, and which."""
    terms: ReleaseTerms

    @property
    def owner(self) -> str:
        """The owner's public key, in hex."""
        return self.place.partition("/")[0]


class JointModel(wire.Message, frozen=True, tag_field="format", tag="wardian joint model v1"):
    """A model made of several owners' tables, as a job told of it."""

    file: ModelFile
    measurements: Measurements
    """Who may be given the key: what the owners of all tables name."""
    tables: Annotated[tuple[TableTerms, ...], msgspec.Meta(min_length=1, max_length=MOST_INPUTS)]
    job: Hex32
    """The id of the job; `export` is the digest of all that came out of it."""
    export: Hex32
    ended_at: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Since when, Unix seconds by the broker's clock, it is taken back or let go: its key is
    erased, and nobody is given or keeps anything. None of one that is served."""

    @property
    def ended(self) -> bool:
        """Whether it was taken back or let go."""
        return self.ended_at is not None

    @property
    def owners(self) -> tuple[str, ...]:
        """Whose tables it was made of: public keys in hex, sorted, each once."""
        return tuple(sorted({each.owner for each in self.tables}))

    @property
    def said(self) -> str:
        """What it is, for people."""
        return f"model {self.file.name} version {self.file.version}"

    def refuse_other_line(self, line: ModelLine) -> None:
        """Return if `line` is about this very file, by the owner of a table in it.

        Raises:
            PolicyDenied: the rule `joint-line`.
        """
        named = ModelFile(
            name=line.name,
            version=line.version,
            media_type=line.media_type,
            pin=str(line.pin),
            key_id=line.key_id,
            total_bytes=line.total_bytes,
        )
        if named != self.file or line.owner not in self.owners:
            raise PolicyDenied(
                f"the line of {line.said} is not about the file that the job told of, or not by an "
                "owner of a table in it",
                rule="joint-line",
            )

    def refuse_other_code(self, measurement: str) -> None:
        """Return if all owners let `measurement`, in hex, serve it.

        Raises:
            PolicyDenied: the rule `joint-code`; `key-given` if it was taken back.
        """
        if self.ended:
            raise PolicyDenied(f"{self.said} was taken back, its key is erased", rule="key-given")
        if measurement not in self.measurements:
            raise PolicyDenied(
                f"not every owner of a table in {self.said} gives it to measurement {measurement}",
                rule="joint-code",
            )

    def ended_before(self, moment: int) -> bool:
        """Return whether it was taken back or let go before `moment`, Unix seconds."""
        return self.ended_at is not None and self.ended_at < moment

    def over(self, now: int) -> bool:
        """Return whether its time is over for good at `now`, Unix seconds."""
        ends = [each.terms.not_after for each in self.tables]
        return any(end is not None and now > end for end in ends)


def ended(model: JointModel, now: int) -> JointModel:
    """Return what is remembered of `model` that ends at `now`: which file it is, whose tables.

    It is short, so that all that a manifest lets go fits into the commit of that manifest.
    """
    if model.ended:
        return model
    tables = {each.owner: TableTerms(place=each.place, terms=NO_TERMS) for each in model.tables}
    return msgspec.structs.replace(
        model,
        measurements=model.measurements[:1],
        tables=tuple(tables[owner] for owner in model.owners),
        ended_at=now,
    )


def narrowed(model: JointModel, policy: DataPolicy) -> JointModel | None:
    """Return what is left of `model` under the newest policy over one of its tables.

    Code that no rule lets serve any more is taken off; time and age of beacons become the shorter
    of both. Nothing of a policy widens them.

    Args:
        model: of which the table may be one; if it is not, all is left.
        policy: that the table's owner signed, in force or refused.

    Returns:
        None if nothing is: the table is withdrawn, or no code is left.
    """
    if policy.place not in {each.place for each in model.tables}:
        return model
    rules = () if policy.revoked else policy.allow
    rules = tuple(each for each in rules if each.output.serving.intersection(model.measurements))
    serving = frozenset[str]().union(*(each.output.serving for each in rules))
    left = tuple(each for each in model.measurements if each in serving)
    if not left:
        return None
    latest = max(each.expires_at for each in rules)
    tables = tuple(
        msgspec.structs.replace(each, terms=_shorter(each.terms, policy, latest=latest))
        if each.place == policy.place
        else each
        for each in model.tables
    )
    return msgspec.structs.replace(model, measurements=left, tables=tables)


def _shorter(terms: ReleaseTerms, policy: DataPolicy, *, latest: int) -> ReleaseTerms:
    ages = [each for each in (terms.max_beacon_age_s, policy.max_beacon_age_s) if each is not None]
    return ReleaseTerms(
        not_after=latest if terms.not_after is None else min(terms.not_after, latest),
        max_beacon_age_s=min(ages, default=None),
    )
