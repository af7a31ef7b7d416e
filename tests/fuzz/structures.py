"""Example messages made from their types: so that each kind is fuzzed, also those added later."""

import random
import re
import string
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect as kinds

_HEX = "0123456789abcdef"
_WORDS = ("a", "digits", "worker", "broker", "UpToDate", "risk accepted", "x" * 64, "1", "a/b")


def example(kind: type, rng: random.Random) -> bytes:
    """Return JSON that decodes as `kind`, as far as its types tell."""
    return msgspec.json.encode(_value(kinds.type_info(kind), rng))


def _value(info: kinds.Type, rng: random.Random) -> Any:
    make = _MAKERS.get(type(info))
    if make is None:
        raise NotImplementedError(f"no example of {info}")
    return make(info, rng)


def _struct(info: kinds.StructType, rng: random.Random) -> dict[str, Any]:
    made = {} if info.tag_field is None else {info.tag_field: info.tag}
    for field in info.fields:
        if field.required or rng.random() < 0.7:
            made[field.encode_name] = _value(field.type, rng)
    return made


def _text(info: kinds.StrType, rng: random.Random) -> str:
    low, high = info.min_length or 0, min(info.max_length or 40, 200)
    if info.pattern is None:
        return "".join(rng.choices(string.printable, k=rng.randint(low, max(low, high))))
    pattern = re.compile(info.pattern)
    lengths = (16, 24, 32, 40, 64, 66, 128)
    tries = [*_WORDS, *("".join(rng.choices(_HEX, k=length)) for length in lengths)]
    tries += [f"0{rng.choice('23')}{''.join(rng.choices(_HEX, k=64))}"]
    fitting = [each for each in tries if pattern.search(each) and low <= len(each)]
    return rng.choice(fitting or ["a"])


def _bytes(info: kinds.BytesType, rng: random.Random) -> bytes:
    low = info.min_length or 0
    return rng.randbytes(rng.randint(low, min(info.max_length or low + 100, low + 200)))


def _number(info: kinds.IntType, rng: random.Random) -> int:
    low = info.ge if info.ge is not None else (info.gt + 1 if info.gt is not None else -5)
    high = info.le if info.le is not None else (info.lt - 1 if info.lt is not None else 2**40)
    return rng.choice((low, high, rng.randint(low, high)))


def _list(info: Any, rng: random.Random) -> list[Any]:
    low = info.min_length or 0
    return [_value(info.item_type, rng) for _ in range(rng.randint(low, low + 2))]


def _dict(info: kinds.DictType, rng: random.Random) -> dict[Any, Any]:
    low = info.min_length or 0
    return {
        _value(info.key_type, rng): _value(info.value_type, rng)
        for _ in range(rng.randint(low, low + 2))
    }


def _union(info: kinds.UnionType, rng: random.Random) -> Any:
    return _value(rng.choice(info.types), rng)


_MAKERS: dict[type, Callable[[Any, random.Random], Any]] = {
    kinds.StructType: _struct,
    kinds.StrType: _text,
    kinds.BytesType: _bytes,
    kinds.IntType: _number,
    kinds.FloatType: lambda _, rng: rng.choice((0.0, 1.5, -1.0, 1e300)),
    kinds.BoolType: lambda _, rng: rng.random() < 0.5,
    kinds.NoneType: lambda _, __: None,
    kinds.AnyType: lambda _, rng: rng.choice((None, 1, "a", [1], {"a": 1})),
    kinds.RawType: lambda _, rng: rng.choice((None, 1, "a", [1], {"a": 1})),
    kinds.LiteralType: lambda info, rng: rng.choice(info.values),
    kinds.EnumType: lambda info, rng: rng.choice([each.value for each in info.cls]),
    kinds.VarTupleType: _list,
    kinds.ListType: _list,
    kinds.SetType: _list,
    kinds.FrozenSetType: _list,
    kinds.TupleType: lambda info, rng: [_value(each, rng) for each in info.item_types],
    kinds.NamedTupleType: lambda info, rng: [_value(each.type, rng) for each in info.fields],
    kinds.DictType: _dict,
    kinds.UnionType: _union,
}
