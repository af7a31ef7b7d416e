"""The one form in which a policy or a plan is signed, digested and kept."""

from typing import Any, TypeVar

import msgspec

from wardian._internal import wire
from wardian._internal.settings import Settings
from wardian.errors import FormatError

S = TypeVar("S", bound=Settings)


def canonical(value: Settings) -> bytes:
    """Return `value` as JSON: keys in the order of their type, lists without order sorted.

    What is not given is not there, so that a key which a later version knows changes no digest.
    """
    return wire.encode(_given(msgspec.to_builtins(value, order="deterministic")))


def parse_canonical(raw: bytes, kind: type[S], *, what: str, most_bytes: int) -> S:
    """Return the value in `raw`, untrusted.

    Raises:
        FormatError: more than `most_bytes`, no such value, or not in its one canonical form.
    """
    if len(raw) > most_bytes:
        raise FormatError(f"{what}: more than {most_bytes} bytes")
    value = wire.decode(raw, kind, what=what)
    if canonical(value) != raw:
        raise FormatError(f"{what}: not in canonical form")
    return value


def _given(value: Any) -> Any:
    """Return `value` without the keys of any table in it that are not given."""
    if isinstance(value, dict):
        return {key: _given(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_given(each) for each in value]
    return value
