"""Bytes that nobody prints."""

import hmac
import secrets
from typing import NoReturn, Self, SupportsIndex

from typing_extensions import override

from wardian.errors import LocalProtocolError

MAX_SECRET_BYTES = 2**20


class Secret:
    """A key or another secret, 1 to 2**20 bytes, that does not leave by accident.

    It prints as `Secret(32 bytes)`, cannot be pickled, is compared in constant time and only with
    another `Secret`, and is no key of a mapping. `reveal` is the one exit, so that
    `grep -r 'reveal()'` lists every place where a secret becomes bytes.

    Limits, stated because Python cannot do better: `wipe` overwrites the copy that this object
    holds. What `reveal` handed out, and what the constructor was given, are other copies.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray) -> None:
        """Hold a private copy of `value`.

        Raises:
            LocalProtocolError: not bytes, empty, or longer than 2**20 bytes.
        """
        if not isinstance(value, bytes | bytearray):
            raise LocalProtocolError(f"a Secret is made of bytes, not of {type(value).__name__}")
        if not 1 <= len(value) <= MAX_SECRET_BYTES:
            raise LocalProtocolError(f"a Secret has 1 to {MAX_SECRET_BYTES} bytes")
        self._value = bytearray(value)

    @classmethod
    def random(cls, length: int = 32) -> Self:
        """Return `length` fresh bytes of the operating system's generator."""
        return cls(secrets.token_bytes(length))

    def reveal(self) -> bytes:
        """Return a copy of the bytes. Whoever calls this answers for where they go.

        Raises:
            LocalProtocolError: the secret was wiped.
        """
        if not self._value:
            raise LocalProtocolError("this Secret was wiped")
        return bytes(self._value)

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and forget them. Wiping twice does nothing more."""
        self._value[:] = bytes(len(self._value))  # in place: same length, so no reallocation
        self._value.clear()

    def __len__(self) -> int:
        return len(self._value)

    def __xor__(self, other: "Secret") -> "Secret":
        """Return the bitwise exclusive or of two secrets: with either one, the other.

        Raises:
            LocalProtocolError: one was wiped, or they differ in length.
        """
        mine, others = self.reveal(), other.reveal()
        if len(mine) != len(others):
            raise LocalProtocolError("two secrets of different lengths are not added")
        return Secret(bytes(a ^ b for a, b in zip(mine, others, strict=True)))

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        if not self._value or not other._value:
            return self is other  # two wiped secrets were not therefore the same
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would tell of the value, and outlive it

    @override
    def __repr__(self) -> str:
        return f"Secret({len(self._value)} bytes)" if self._value else "Secret(wiped)"

    def __copy__(self) -> "Secret":
        return Secret(self._value)

    def __deepcopy__(self, memo: dict[int, object]) -> "Secret":
        return Secret(self._value)

    @override
    def __getstate__(self) -> NoReturn:
        raise LocalProtocolError("a Secret is not pickled: it would leave in the clear")

    @override
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise LocalProtocolError("a Secret is not pickled: it would leave in the clear")
