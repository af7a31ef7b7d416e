"""What a party remembers on its own disk: what it has seen of the run, and what it last answered.

An answer and the app's state after it are written in one step, before the answer leaves: so a
party that is killed at any moment either answers the same once more, or works it out anew from the
state of before.
"""

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from wardian._internal.files import replace_file
from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.learning.content import content_bytes, raw_arrays, rebuild, specs_of
from wardian.learning.message import MessageType
from wardian.learning.messages import Ask, Digest, Over, RoundNumber, decode_specs, encode_specs
from wardian.learning.records import Record, RecordDict

FILE: Final = "party.state"
_STATE: Final = "state."
_ANSWER: Final = "answer."


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    run: Digest | None
    round: RoundNumber
    head: Digest | None
    number: Annotated[int, msgspec.Meta(ge=0)]
    specs: bytes
    content: bytes


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What a party knows.

    Attributes:
        run: the one run that it takes part in; None before the first.
        round: the newest round whose outcome it was told.
        head: of the chain of outcomes, after that round.
        number: the question that it answered last; 0 for none.
        answer: what it answered; empty for none.
        state: the app's own.
    """

    run: bytes | None = None
    round: int = 0
    head: bytes | None = None
    number: int = 0
    answer: RecordDict = msgspec.field(default_factory=RecordDict)
    state: dict[str, Record] = msgspec.field(default_factory=dict)

    def seen(self, message: Ask | Over) -> "Memory":
        """Return what is known after `message`.

        Raises:
            PolicyDenied: it is of another run, or of another past than this party has seen.
        """
        if isinstance(message, Ask) and message.kind is MessageType.QUERY and self.run is None:
            return self  # there is no model yet: until there is, nothing can be put back
        if self.run is not None and message.run != self.run:
            raise PolicyDenied(
                "the coordinator runs another run than the one this party takes part in: to begin "
                "anew, remove the party's state",
                rule="run",
            )
        told = message.round if isinstance(message, Over) else max(0, message.round - 1)
        if isinstance(message, Ask) and message.kind is MessageType.EVALUATE:
            told = message.round
        if told < self.round:
            raise PolicyDenied("the coordinator was put back to an older state", rule="rolled-back")
        if told == self.round and self.head is not None and message.head != self.head:
            raise PolicyDenied("the coordinator continues another past", rule="forked")
        if (message.run, told, message.head) == (self.run, self.round, self.head):
            return self
        return replace(self, run=message.run, round=told, head=message.head)


class MemoryFile:
    """The memory of a party in a directory of its own."""

    def __init__(self, place: Path) -> None:
        """Keep it in `place`, which is made if it is not there.

        Raises:
            ConfigError: it cannot be made.
        """
        self._path = place / FILE
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as err:
            raise ConfigError(f"{place}: cannot be made: {err.strerror}") from err

    def load(self) -> Memory:
        """Return what is remembered; nothing if there is no file.

        Raises:
            ConfigError: the file is damaged: without it the party cannot know what it has seen.
        """
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return Memory()
        except OSError as err:
            raise ConfigError(f"{self._path}: {err.strerror}") from err
        try:
            kept = msgspec.msgpack.decode(raw, type=_Kept)
            content = rebuild(decode_specs(kept.specs), kept.content)
        except (msgspec.DecodeError, FormatError) as err:
            raise ConfigError(f"{self._path}: is damaged") from err

        def part(prefix: str) -> dict[str, Record]:
            return {
                name.removeprefix(prefix): record
                for name, record in content.items()
                if name.startswith(prefix)
            }

        return Memory(
            run=kept.run,
            round=kept.round,
            head=kept.head,
            number=kept.number,
            answer=RecordDict(part(_ANSWER)),
            state=part(_STATE),
        )

    def save(self, memory: Memory) -> None:
        """Keep `memory` in place of what was before.

        Raises:
            ConfigError: the disk does not take it.
        """
        content = RecordDict(
            {
                **{f"{_ANSWER}{name}": record for name, record in memory.answer.items()},
                **{f"{_STATE}{name}": record for name, record in memory.state.items()},
            }
        )
        specs = specs_of(content)
        raw = bytearray()
        for each in raw_arrays(content):
            raw += each
        if len(raw) != content_bytes(specs):
            raise FormatError("party state: not as long as its records say")
        kept = _Kept(
            run=memory.run,
            round=memory.round,
            head=memory.head,
            number=memory.number,
            specs=encode_specs(specs),
            content=bytes(raw),
        )
        try:
            replace_file(self._path, msgspec.msgpack.encode(kept), sync=True)
        except OSError as err:
            raise ConfigError(f"{self._path}: {err.strerror}") from err
