"""What an owner gives besides a manifest: keys of its models, values of its secrets.

They stand in the clear inside an HPKE ciphertext of the owner's visit, and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.broker.mesh.fields import Hex16, Name
from wardian.broker.mesh.lines import MAX_SECRET_BYTES
from wardian.broker.message_fields import Key32
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import FormatError


@dataclass(frozen=True, slots=True, kw_only=True)
class Goods:
    """What an owner gives.

    Attributes:
        keys: of sealed models, by key id in hex.
        secrets: by name, 1 byte to 64 KiB each.
    """

    keys: Mapping[str, Secret] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)


class _KeyRecord(wire.Message, frozen=True):
    key_id: Hex16
    key: Key32

    @override
    def __repr__(self) -> str:
        return f"_KeyRecord({self.key_id})"  # never the key


class _SecretRecord(wire.Message, frozen=True):
    name: Name
    value: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_SECRET_BYTES)]

    @override
    def __repr__(self) -> str:
        return f"_SecretRecord({self.name})"  # never the value


class _GoodsRecord(wire.Message, frozen=True, tag_field="format", tag="wardian owner goods v1"):
    keys: Annotated[tuple[_KeyRecord, ...], msgspec.Meta(max_length=1024)]
    secrets: Annotated[tuple[_SecretRecord, ...], msgspec.Meta(max_length=256)]


def encode_goods(goods: Goods) -> bytes:
    """Return the plaintext of `goods`; the caller seals it at once."""
    return wire.encode(
        _GoodsRecord(
            keys=tuple(
                _KeyRecord(key_id=key_id, key=key.reveal()) for key_id, key in goods.keys.items()
            ),
            secrets=tuple(
                _SecretRecord(name=name, value=value.reveal())
                for name, value in goods.secrets.items()
            ),
        )
    )


def decode_goods(plaintext: bytes) -> Goods:
    """Return what an owner gives.

    Raises:
        FormatError: no such list, an id that is not that of the key beside it, or a key or a name
            that stands twice.
    """
    record = wire.decode(plaintext, _GoodsRecord, what="owner's goods")
    keys = {each.key_id: Secret(each.key) for each in record.keys}
    secrets = {each.name: Secret(each.value) for each in record.secrets}
    if len(keys) != len(record.keys) or len(secrets) != len(record.secrets):
        raise FormatError("owner's goods: a key or a secret stands there twice")
    if any(BrokerKey(key).key_id.hex() != key_id for key_id, key in keys.items()):
        raise FormatError("owner's goods: a key does not have the id that stands beside it")
    return Goods(keys=keys, secrets=secrets)


def goods_of(keys: tuple[BrokerKey, ...], secrets: Mapping[str, Secret] | None = None) -> Goods:
    """Return the goods that consist of `keys` and of `secrets` by name."""
    return Goods(keys={key.key_id.hex(): key.key for key in keys}, secrets=secrets or {})
