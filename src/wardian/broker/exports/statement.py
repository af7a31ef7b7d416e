"""What a job tells the broker of what it gives out. It is public but for the key of a model."""

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.jobs.parties import MOST_PARTIES
from wardian.broker.jobs.plan import MOST_INPUTS
from wardian.broker.jobs.policy import table_place
from wardian.broker.joint.record import ModelFile
from wardian.broker.mesh.fields import Hex32, Name, Owner, Serial

LABEL: Final = "wardian export statement v1"
MAX_STATEMENT_BYTES: Final = 64 * 1024


class ExportedTable(wire.Message, frozen=True):
    """One table that was used, and which word of its owner allowed it, as it was released."""

    owner: Owner
    table: Name
    serial: Serial
    """Of the policy."""
    rule: Name
    """Of that policy, which allowed the job."""

    @property
    def place(self) -> str:
        """`DataPolicy.place` of the table."""
        return table_place(self.owner, self.table)


class ExportStatement(wire.Message, frozen=True, tag_field="format", tag=LABEL):
    """What comes out of one job, and on whose approvals."""

    job: Hex32
    """The job's id, of the debit."""
    export: Hex32
    """`HeldOutputs.digest`: plan, recipients and pins of all that comes out. It is what approvers
    sign."""
    report: Hex32
    """SHA-256 of the report's JSON."""
    tables: Annotated[tuple[ExportedTable, ...], msgspec.Meta(min_length=1, max_length=MOST_INPUTS)]
    """By owner and table."""
    approvers: Annotated[tuple[Owner, ...], msgspec.Meta(max_length=MOST_PARTIES)] = ()
    """Public keys in hex, sorted, of those whose signatures over `export` the job verified."""
    served: ModelFile | None = None
    """The model that goes straight to be served, where one does."""

    @property
    def lines(self) -> int:
        """How many lines of the audit log it is: of each table, and of a model that is served."""
        return len(self.tables) + (self.served is not None)

    def __post_init__(self) -> None:
        """Refuse what stands twice, or in another order: there is one form."""
        places = [each.place for each in self.tables]
        for what, listed in (("tables", places), ("approvers", list(self.approvers))):
            if listed != sorted(set(listed)):
                raise ValueError(f"`{what}` are not in order, each once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a job told: a statement, and the key of the model in it, where one is.

    It is `MaskedKey.masked`, 32 bytes.
    """

    statement: ExportStatement
    key: bytes | None = field(repr=False)


def encode_statement(statement: ExportStatement) -> bytes:
    """Return the bytes of `statement` that travel, and that its digest is over."""
    return wire.encode(statement)


def decode_statement(raw: bytes) -> ExportStatement:
    """Return the statement in `raw`, untrusted.

    Raises:
        FormatError: it is none.
    """
    return wire.decode(raw, ExportStatement, what="export statement")


def statement_digest(raw: bytes) -> bytes:
    """Return the digest (32 bytes) of a statement's bytes, which evidence of both ends binds."""
    return hashlib.sha256(wire.fields(LABEL, raw)).digest()
