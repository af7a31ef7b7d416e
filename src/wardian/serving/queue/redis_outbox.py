"""What a worker has to say to Redis, and what of it Redis has not acknowledged yet. Pure.

Nothing is lost with a connection: what was not acknowledged is said again on the next one. An
answer that is said twice counts once: the front end waits for it once.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from wardian.serving.queue.redis_access import GROUP
from wardian.serving.queue.redis_entries import MAX_ANSWERS, xadd_answers
from wardian.serving.queue.redis_wire import command


class Sent(NamedTuple):
    """A command that has no reply yet; `answers` is empty for one that adds none."""

    front: bytes
    answers: list[tuple[bytes, bytes]]
    stream: bytes
    done: list[bytes]


READ: Final = Sent(b"", [], b"", [])
"""The command that asks for the next messages."""


@dataclass(slots=True)
class Outbox:
    """Answers by front end and messages that are done with by stream, until they are sent.

    Attributes:
        replies: the key of a front end's stream of replies is this and its name.
        max_entry_bytes: an entry takes no further answer beyond this size.
    """

    replies: bytes
    max_entry_bytes: int
    sent: deque[Sent] = field(default_factory=deque)
    _answers: dict[bytes, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    _done: dict[bytes, list[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._answers or self._done)

    def add(self, front: bytes, name: bytes, value: bytes) -> None:
        """Send `value` to `front` under `name`."""
        self._answers.setdefault(front, []).append((name, value))

    def finish(self, stream: bytes, entry: bytes) -> None:
        """Take `entry` off `stream`."""
        self._done.setdefault(stream, []).append(entry)

    def restore(self) -> None:
        """Send again what was not acknowledged: the connection on which it went is lost."""
        for each in self.sent:
            self.retry(each)
        self.sent.clear()

    def retry(self, sent: Sent) -> None:
        """Send again what is in `sent`."""
        for name, value in sent.answers:
            self.add(sent.front, name, value)
        for entry in sent.done:
            self.finish(sent.stream, entry)

    def commands(self) -> list[bytes]:
        """Return the pieces of the commands that say all of it; their replies are expected next."""
        pieces: list[bytes] = []
        for front, answers in self._answers.items():
            for some in self._split(answers):
                pieces += xadd_answers(self.replies + front, some)
                self.sent.append(Sent(front, some, b"", []))
        for stream, entries in self._done.items():
            pieces += (
                command(b"XACK", stream, GROUP, *entries),
                command(b"XDEL", stream, *entries),
            )
            done = Sent(b"", [], stream, entries)
            self.sent += (done, done)
        self._answers.clear()
        self._done.clear()
        return pieces

    def _split(self, answers: list[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
        """Return `answers` as entries that are no larger than what a front end reads."""
        if len(answers) == 1:
            return [answers]
        entries: list[list[tuple[bytes, bytes]]] = [[]]
        size = 0
        for answer in answers:
            if entries[-1] and (
                size + len(answer[1]) > self.max_entry_bytes or len(entries[-1]) >= MAX_ANSWERS
            ):
                entries.append([])
                size = 0
            entries[-1].append(answer)
            size += len(answer[1])
        return entries
