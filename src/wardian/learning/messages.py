"""What coordinator and party say over their connection: a closed schema, and raw buffers.

    party                                                   coordinator
       | PartyHello    who comes, nonce                         |
       |------------------------------------------------------->|
       | Challenge     nonce                                    |
       |<-------------------------------------------------------|
       | Claim         signature                                |
       |------------------------------------------------------->|
       | Proof         evidence                                 |
       |<-------------------------------------------------------|
       | Here          what it has seen of the run              |
       |------------------------------------------------------->|
       |   Ask, content                                         |
       |<-------------------------------------------------------|
       |   Answer, content                                      |
       |------------------------------------------------------->|
       |   Unwanted, if it does not count                       |
       |<-------------------------------------------------------|
       |   Over, content                                        |
       |<-------------------------------------------------------|
       |   Known                                                |
       |------------------------------------------------------->|

The first four are `broker.keeping`'s, under labels of their own: the party sends nothing of itself
but its name before it has verified the evidence. They are JSON. The others are MessagePack, which
has NaN and bytes; each may be followed by content: as many bytes as its records say, cut into
frames of `CHUNK_BYTES`.

Only data here: no socket, clock or state.
"""

import re
from typing import Annotated, Final, TypeVar

import msgspec

from wardian._internal import wire
from wardian._internal.settings import Name
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.message_fields import Nonce
from wardian.errors import FormatError
from wardian.learning.arrays import DTYPES, MAX_ARRAYS, MAX_DIMENSIONS
from wardian.learning.message import MessageType
from wardian.learning.records import MAX_ENTRIES, MAX_LIST, MAX_TEXT_BYTES

CHUNK_BYTES: Final = 1024**2
"""Of a frame of content."""
HEADER_BYTES: Final = 2 * 1024**2
"""Most of a message without its content."""
CLAIM_LABEL: Final = "wardian party claim v1"

_NAMES: Final = re.compile(r"(?:[a-z0-9][a-z0-9._-]{0,63}\n)*")
"""What `Name` is, any number of times, each with an end of line."""

T = TypeVar("T")
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
RoundNumber = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Label = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_BYTES)]
Bytes = Annotated[bytes, msgspec.Meta(max_length=MAX_TEXT_BYTES)]
Numbers = Annotated[list[int | float], msgspec.Meta(max_length=MAX_LIST)]
Plains = Annotated[list[bool | int | float | Text], msgspec.Meta(max_length=MAX_LIST)]


class PartyHello(wire.Message, frozen=True, tag_field="format", tag="wardian party hello v1"):
    """1. Who comes; proved in message 3."""

    party: Name
    nonce: Nonce


class Challenge(wire.Message, frozen=True, tag_field="format", tag="wardian party challenge v1"):
    """2. Fresh, so that message 3 is for this connection and no other."""

    nonce: Nonce


class Claim(wire.Message, frozen=True, tag_field="format", tag="wardian party claim v1"):
    """3. The party is who it says."""

    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """By the key that the consortium names, over `claim_signed_bytes`."""


class Proof(wire.Message, frozen=True, tag_field="format", tag="wardian party proof v1"):
    """4. Who holds the key of this connection."""

    evidence: Evidence
    """Binds `coordinator_report_data`."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is said in MessagePack."""


class ArraySpec(_Message, frozen=True, array_like=True):
    """One array; its elements follow as content, in the order of the specs."""

    name: Label
    dtype: Annotated[int, msgspec.Meta(ge=0, lt=len(DTYPES))]
    shape: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, le=2**32)], ...],
        msgspec.Meta(max_length=MAX_DIMENSIONS),
    ]


class Arrays(_Message, frozen=True, tag_field="kind", tag="arrays"):
    """An array record."""

    name: Label
    arrays: Annotated[tuple[ArraySpec, ...], msgspec.Meta(max_length=MAX_ARRAYS)]


class Metrics(_Message, frozen=True, tag_field="kind", tag="metrics"):
    """A metric record, whole."""

    name: Label
    entries: Annotated[dict[Label, int | float | Numbers], msgspec.Meta(max_length=MAX_ENTRIES)]


class Config(_Message, frozen=True, tag_field="kind", tag="config"):
    """A record of settings, whole."""

    name: Label
    entries: Annotated[
        dict[Label, bool | int | float | Text | Plains], msgspec.Meta(max_length=MAX_ENTRIES)
    ]
    raw: Annotated[dict[Label, Bytes], msgspec.Meta(max_length=MAX_ENTRIES)] = {}
    """Those that are bytes."""


Specs = Annotated[tuple[Arrays | Metrics | Config, ...], msgspec.Meta(max_length=64)]


class Here(_Message, frozen=True, tag_field="say", tag="here"):
    """The party attends. What it has seen keeps the coordinator's host from putting it back."""

    run: Digest | None
    round: RoundNumber
    """The newest round whose outcome it was told; 0 if none."""
    head: Digest | None
    """Of the chain of outcomes, after that round."""


class Ask(_Message, frozen=True, tag_field="say", tag="ask"):
    """Do something. Asked again under the same number it is the same question."""

    run: Digest
    round: RoundNumber
    kind: MessageType
    number: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    head: Digest
    """Of the chain of outcomes, after the round before."""
    answer_s: Annotated[float, msgspec.Meta(gt=0, le=2_592_000)]
    """An answer is wanted within this time."""
    records: Specs


class Answer(_Message, frozen=True, tag_field="say", tag="answer"):
    """What came of it: records, or why there are none."""

    number: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    error: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    records: Specs = ()


class Unwanted(_Message, frozen=True, tag_field="say", tag="unwanted"):
    """The answer does not count. One that counts is not replied to: it counts once anyway."""

    number: int
    reason: Annotated[str, msgspec.Meta(max_length=200)]


class Still(_Message, frozen=True, tag_field="say", tag="still"):
    """Nothing is wanted now; the other side is there."""


class Over(_Message, frozen=True, tag_field="say", tag="over"):
    """The run has ended. If it was completed, the model follows."""

    run: Digest
    round: RoundNumber
    head: Digest
    failure: Annotated[str, msgspec.Meta(max_length=200)] | None
    records: Specs = ()


class RoundLine(_Message, frozen=True):
    """What became of a round, for the parties: what they measured never goes to the host.

    Of a run over columns: what became of a step, for those who were asked it.
    """

    round: RoundNumber
    cohort: Annotated[tuple[str, ...], msgspec.Meta(max_length=1024)]
    """Whose answers made the model."""
    dropped: Annotated[dict[Name, str], msgspec.Meta(max_length=1024)]
    """Who else was asked, and why it does not count."""
    bytes: int | None
    """Of all answers. None of a step: it would tell how many columns or records others have."""
    seconds: float
    """From the question to the model, as the coordinator's clock says."""
    metrics: Annotated[dict[Label, int | float | Numbers], msgspec.Meta(max_length=MAX_ENTRIES)]
    """What the parties measured while they trained, taken together."""
    evaluation: Annotated[
        dict[Label, int | float | Numbers], msgspec.Meta(max_length=MAX_ENTRIES)
    ] = {}
    """What they say that the new model is worth on their own data."""
    step: Label | None = None
    """Of a run over columns: of which records, and what was asked, as "learn.sums"."""

    def __post_init__(self) -> None:
        """Refuse what is no name: all at once, since every party reads the names of all."""
        lines = "\n".join((*self.cohort, ""))
        if lines.count("\n") > len(self.cohort) or not _NAMES.fullmatch(lines):
            raise ValueError("a party's name is none")


class News(_Message, frozen=True, tag_field="say", tag="news"):
    """A round is done."""

    line: RoundLine


class Known(_Message, frozen=True, tag_field="say", tag="known"):
    """The party has the outcome of the run, whole."""


FromCoordinator = Ask | Unwanted | Still | News | Over
FromParty = Here | Answer | Still | Known

_ENCODER = msgspec.msgpack.Encoder()
_FROM_COORDINATOR = msgspec.msgpack.Decoder(FromCoordinator)
_SPECS = msgspec.msgpack.Decoder(Specs)
_FROM_PARTY = msgspec.msgpack.Decoder(FromParty)


def encode(message: FromCoordinator | FromParty) -> bytes:
    """Return `message` in MessagePack."""
    return _ENCODER.encode(message)


def encode_specs(specs: Specs) -> bytes:
    """Return the records of a message in MessagePack, without their elements."""
    return _ENCODER.encode(specs)


def decode_specs(raw: bytes) -> Specs:
    """Return the records of `encode_specs`; errors as `from_coordinator`."""
    return _decode(_SPECS, raw)


def from_coordinator(raw: bytes) -> FromCoordinator:
    """Return what a coordinator says.

    Raises:
        FormatError: it is none of its messages, or not within their bounds.
    """
    said: FromCoordinator = _decode(_FROM_COORDINATOR, raw)
    return said


def from_party(raw: bytes) -> FromParty:
    """Return what a party says; errors as `from_coordinator`."""
    said: FromParty = _decode(_FROM_PARTY, raw)
    return said


def _decode(decoder: "msgspec.msgpack.Decoder[T]", raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as err:
        reason = str(err)[:200]
        reason = "of an unknown kind" if reason.startswith("Invalid value") else reason
        raise FormatError(f"learning message: {wire.printable(reason)}") from err
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise FormatError("learning message: not MessagePack") from err


def claim_signed_bytes(*, spki: bytes, hello: bytes, challenge: bytes) -> bytes:
    """Return what the party signs in message 3.

    Args:
        spki: SubjectPublicKeyInfo (DER) of the connection's key, so that it holds for this
            coordinator alone.
        hello: message 1 as it travelled.
        challenge: message 2 as it travelled.
    """
    return wire.fields(CLAIM_LABEL, spki, hello, challenge)


def coordinator_report_data(*, spki: bytes, hello: bytes, challenge: bytes) -> bytes:
    """Return the 64 bytes that the coordinator's evidence binds; as `claim_signed_bytes`."""
    return bind(Purpose.AGGREGATOR, spki, hello, challenge)
