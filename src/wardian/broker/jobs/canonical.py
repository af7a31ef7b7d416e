"""The one form in which a policy or a plan is signed, digested and kept."""

from typing import Any, TypeVar, cast

import msgspec

from wardian._internal import wire
from wardian._internal.settings import Settings
from wardian.errors import FormatError

S = TypeVar("S", bound=Settings)
_HOLDING = (dict, list, tuple)


def canonical(value: Settings) -> bytes:
    """Return `value` as JSON: keys in the order of their type, lists without order sorted.

    What is not given is not there, so that a key which a later version knows changes no digest.
    """
    return wire.encode(_given(msgspec.to_builtins(value, order="deterministic")))


def parse_canonical(raw: bytes, kind: type[S], *, what: str, most_bytes: int) -> S:
    """Return the value in `raw`, untrusted.

    What stands twice in it is refused before any of it is judged: the last one alone would count,
    and a stranger would have all of them judged.

    Raises:
        FormatError: more than `most_bytes`, no such value, or not in its one canonical form.
    """
    if len(raw) > most_bytes:
        raise FormatError(f"{what}: more than {most_bytes} bytes")
    if _written_again(raw, what=what) != raw:
        raise FormatError(f"{what}: not in canonical form")
    value = wire.decode(raw, kind, what=what)
    if canonical(value) != raw:
        raise FormatError(f"{what}: not in canonical form")
    return value


def _written_again(raw: bytes, *, what: str) -> bytes:
    """Return the JSON in `raw` as it would be written: without white space, each key once."""
    anything = wire.decode(raw, cast("type[object]", Any), what=what)
    try:
        return msgspec.json.encode(anything)
    except RecursionError as err:
        raise FormatError(f"{what}: not in canonical form") from err


def _given(value: Any) -> Any:
    """Return `value` without the keys of any table in it that are not given."""
    if isinstance(value, dict):
        return {
            key: _given(each) if isinstance(each, _HOLDING) else each
            for key, each in value.items()
            if each is not None
        }
    if isinstance(value, _HOLDING):
        return [_given(each) if isinstance(each, _HOLDING) else each for each in value]
    return value
