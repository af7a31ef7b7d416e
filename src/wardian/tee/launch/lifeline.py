"""The pipe by which a launcher knows that whoever started it is still there, and cares."""

import os
import re
from typing import Final, Self

from wardian._internal.clock import monotonic
from wardian.errors import ConfigError

_TEXT: Final = re.compile(r"\A([0-9]{1,7})(?::([0-9]{1,5}))?\Z")
_CHUNK_BYTES: Final = 4096


class Lifeline:
    """The reading end of a pipe. Over when the other end closes, or is silent for too long."""

    __slots__ = ("_heard", "_silence_s", "descriptor")

    def __init__(self, descriptor: int, *, silence_s: float | None = None) -> None:
        """Watch `descriptor`; without `silence_s` (seconds) the other end may be silent for ever.

        Raises:
            ConfigError: it is no open descriptor.
        """
        try:
            os.set_blocking(descriptor, False)
        except OSError as err:
            raise ConfigError(f"--lifeline {descriptor}: {err.strerror}") from err
        self.descriptor, self._silence_s = descriptor, silence_s
        self._heard = monotonic()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the lifeline that `text` names: DESCRIPTOR, or DESCRIPTOR:SECONDS.

        Raises:
            ConfigError: it names none.
        """
        found = _TEXT.match(text)
        if found is None:
            raise ConfigError(f"--lifeline {text!r}: DESCRIPTOR or DESCRIPTOR:SECONDS was expected")
        return cls(int(found[1]), silence_s=float(found[2]) if found[2] else None)

    def wait_s(self) -> float | None:
        """Return within which time `over` has to be asked again, seconds; None: when it is told."""
        if self._silence_s is None:
            return None
        return max(0.0, self._heard + self._silence_s - monotonic())

    def over(self) -> bool:
        """Return whether nobody is there any more. Takes what came meanwhile; never blocks."""
        try:
            while came := os.read(self.descriptor, _CHUNK_BYTES):
                self._heard = monotonic()
                if len(came) < _CHUNK_BYTES:
                    break
            else:
                return True
        except BlockingIOError:
            pass
        except OSError:
            return True
        return self.wait_s() == 0.0
