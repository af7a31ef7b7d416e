"""The tenants list: what signers sign, and everything that is not that."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulators.tenants import (
    DAY,
    MESH,
    SIGNER,
    TERMS,
    Clock,
    key_of,
    signed,
    tenants,
    terms,
    verified,
)

from wardian._internal import wire
from wardian._internal.agreed import Agreed, Tenants
from wardian._internal.settings import parse
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
)
from wardian.serving.tenants.api_key import (
    api_key_digest,
    encode_api_key,
    generate_api_key,
    parse_api_key,
)
from wardian.serving.tenants.lists import SignedTenants, sign_tenants
from wardian.serving.tenants.verify import VerifiedTenants, verify_tenants

NOW = 1_800_000_000
VECTORS = Path(__file__).parents[2] / "vectors" / "tenants"
ALICE = terms("alice", "digits")


def verify(
    list_: SignedTenants, *, terms: Tenants = TERMS, mesh: str = MESH, now: int = NOW
) -> VerifiedTenants:
    return verify_tenants(list_, terms=terms, mesh=mesh, now=now)


def rule_of(list_: SignedTenants, **more: Any) -> str:
    with pytest.raises(PolicyDenied) as refused:
        verify(list_, **more)
    return refused.value.rule


def test_a_list_that_its_signer_signed() -> None:
    found = verify(signed(ALICE, now=NOW))
    assert found.tenants.tenants == (ALICE,)
    assert found.ends_at == NOW + 7 * DAY + 1


def test_a_forged_list() -> None:
    good = signed(ALICE, now=NOW)
    other = signed(terms("alice"), now=NOW)
    forged = msgspec.structs.replace(good, tenants=other.tenants)
    with pytest.raises(AuthenticationFailed, match="not what its signer signed"):
        verify(forged)


def test_a_list_that_nobody_or_a_stranger_signed() -> None:
    list_ = tenants(ALICE, now=NOW)
    assert rule_of(sign_tenants(list_, [])) == "tenants-signed"
    assert rule_of(sign_tenants(list_, [SigningKey.generate()])) == "tenants-signer"
    assert rule_of(sign_tenants(list_, [SIGNER, SigningKey.generate()])) == "tenants-signer"
    assert rule_of(sign_tenants(list_, [SIGNER, SIGNER])) == "tenants-signer-once"


def test_two_of_three_sign() -> None:
    keys = [SigningKey.generate(kind) for kind in (*SignatureKind, SignatureKind.ED25519)]
    needed = Tenants(signers=tuple(key.public.hex() for key in keys), threshold=2)
    list_ = tenants(ALICE, now=NOW)
    assert rule_of(sign_tenants(list_, keys[:1]), terms=needed) == "tenants-threshold"
    assert verify(sign_tenants(list_, keys[1:]), terms=needed).tenants == list_


def test_a_signature_for_a_manifest_is_none_for_a_list() -> None:
    list_ = signed(ALICE, now=NOW)
    made = SIGNER.sign(wire.fields("wardian mesh manifest signature v1", list_.tenants))
    (signature,) = list_.signatures
    moved = msgspec.structs.replace(signature, signature=made.hex())
    with pytest.raises(AuthenticationFailed):
        verify(msgspec.structs.replace(list_, signatures=(moved,)))


def test_a_list_of_another_mesh() -> None:
    assert rule_of(signed(ALICE, now=NOW, mesh="other")) == "tenants-mesh"
    assert rule_of(signed(ALICE, now=NOW), mesh="other") == "tenants-mesh"


def test_a_list_that_is_over() -> None:
    short = signed(ALICE, now=NOW, not_after=NOW + 10)
    assert verify(short, now=NOW + 10)
    assert rule_of(short, now=NOW + 11) == "tenants-expired"
    for_ever = signed(ALICE, now=NOW, not_after=NOW + 1000 * DAY)
    assert verify(for_ever, now=NOW + 30 * DAY - 1)
    assert rule_of(for_ever, now=NOW + 30 * DAY) == "tenants-expired"


def test_a_list_of_the_future_does_not_last_longer() -> None:
    assert rule_of(signed(ALICE, now=NOW + 2 * DAY)) == "tenants-issued"


def test_a_list_that_contradicts_itself() -> None:
    both = terms("bob", "digits", all=True)
    neither = msgspec.structs.replace(ALICE, name="bob", keys=(), models=())
    same_key = msgspec.structs.replace(ALICE, name="bob")
    assert rule_of(signed(both, now=NOW)) == "tenants-models"
    assert rule_of(signed(neither, now=NOW)) == "tenants-models"
    assert rule_of(signed(ALICE, terms("alice", "b", keys=2), now=NOW)) == "tenants-once"
    assert rule_of(signed(ALICE, same_key, now=NOW)) == "tenants-credential-once"
    with pytest.raises(FormatError, match="X.509"):
        verify(signed(terms("bob", certificates=(b"\x30" * 200,)), now=NOW))


def test_no_name_of_a_tenant_moves_a_cursor_or_grows_for_ever() -> None:
    for name in ("", "A", "a" * 65, "a\n", "a b", "\x1b[2J", "ä"):
        with pytest.raises(FormatError):
            verify(signed(msgspec.structs.replace(ALICE, name=name), now=NOW))


@pytest.mark.parametrize(
    ("field", "value"),
    [("rate_per_s", 0), ("rate_per_s", -1), ("burst", 0), ("max_open", 0), ("quota", 0),
     ("weight", 0), ("weight", 101), ("max_bytes_per_s", 0), ("keys", ["ab"]), ("more", 1)],
)  # fmt: skip
def test_terms_out_of_their_range(field: str, value: object) -> None:
    raw = json.loads(wire.encode(tenants(ALICE, now=NOW)))
    raw["tenants"][0][field] = value
    text = wire.encode(raw)
    with pytest.raises(FormatError):
        verify(SignedTenants(tenants=text, signatures=()))


def test_two_readings_of_one_text() -> None:
    raw = signed(ALICE, now=NOW).tenants
    for text in (raw + b" ", raw.replace(b'"serial":1', b'"serial":1,"serial":1')):
        with pytest.raises(FormatError, match="canonical"):
            verify(SignedTenants(tenants=text, signatures=()))


@pytest.mark.parametrize("garbage", [b"", b"\0", b"[]", b"{}", b'{"format":"x"}', b"\xff" * 99])
def test_garbage(garbage: bytes) -> None:
    with pytest.raises(FormatError):
        verify(SignedTenants(tenants=garbage, signatures=()))
    with pytest.raises(FormatError):
        wire.decode(garbage, SignedTenants, what="signed tenants list")


def test_every_bit_of_a_signed_list_counts() -> None:
    list_ = signed(ALICE, now=NOW)
    for at in range(len(list_.tenants)):
        flipped = bytearray(list_.tenants)
        flipped[at] ^= 1
        with pytest.raises((FormatError, AuthenticationFailed, PolicyDenied)):
            verify(msgspec.structs.replace(list_, tenants=bytes(flipped)))


def test_only_verification_makes_a_verified_list() -> None:
    with pytest.raises(LocalProtocolError):
        VerifiedTenants(tenants=tenants(ALICE), digest=b"", ends_at=1, proof=object())


# In force


def test_an_old_serial_does_not_come_back() -> None:
    clock = Clock(NOW)
    roster = clock.roster(terms("alice", "digits", keys=2), serial=5)
    second = api_key_digest(key_of("alice", 1))
    assert roster.find(second) is not None
    assert roster.adopt(verified(ALICE, now=NOW, serial=6))
    assert roster.find(second) is None
    for serial in (5, 6):
        with pytest.raises(PolicyDenied) as refused:
            roster.adopt(verified(terms("alice", "digits", keys=2), now=NOW, serial=serial))
        assert refused.value.rule == "tenants-serial"
    assert roster.find(second) is None
    assert not roster.adopt(verified(ALICE, now=NOW, serial=6))  # the same one


# API keys


def test_a_key_and_its_text() -> None:
    text = generate_api_key()
    assert parse_api_key(Secret(b" " + text.reveal() + b"\n")) == text
    assert generate_api_key() != text
    assert len(text) == 60
    assert "wardian_key" not in repr(text)


def test_slips_of_the_hand_are_found() -> None:
    text = generate_api_key().reveal()
    wrong = [text[:-1], text + b"A", text[1:], text.upper(), b"x", text[:12] + b"+" * 48]
    wrong += [text[:at] + (b"A" if text[at : at + 1] != b"A" else b"B") + text[at + 1 :]
              for at in range(12, 60)]  # fmt: skip
    for each in wrong:
        with pytest.raises(FormatError):
            parse_api_key(Secret(each))
    with pytest.raises(FormatError):
        encode_api_key(Secret(b"short"))


# Settings


def test_signers_who_could_never_be_enough() -> None:
    one, other = SIGNER.public.hex(), SigningKey.generate(SignatureKind.P256).public.hex()
    twin = ("03" if other.startswith("02") else "02") + other[2:]
    for given, said in (
        ({"signers": [one, one]}, "twice"),
        ({"signers": [other, twin]}, "twice"),
        ({"signers": [one], "threshold": 2}, "threshold"),
        ({"signers": []}, "signers"),
        ({"signers": [one], "max_age_s": 1}, "max_age_s"),
        ({}, "signers"),
    ):
        text = f'[mesh]\nname = "m"\nowners = ["{one}"]\n[models.a]\n[tenants]\n' + "".join(
            f"{key} = {json.dumps(value)}\n" for key, value in given.items()
        )
        with pytest.raises(ConfigError, match=said):
            parse(text.encode(), Agreed, name="wardian.toml")


# Frozen


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_frozen_vectors(path: Path) -> None:
    vector = json.loads(path.read_bytes())
    list_ = wire.decode(json.dumps(vector["signed"]).encode(), SignedTenants, what="vector")
    agreed = msgspec.convert(vector["terms"], Tenants)
    asked = {"terms": agreed, "mesh": vector["mesh"], "now": vector["now"]}
    if vector["expect"] != "verified":
        with pytest.raises((PolicyDenied, AuthenticationFailed, FormatError)) as refused:
            verify(list_, **asked)
        assert vector["expect"] == getattr(refused.value, "rule", refused.type.__name__)
        return
    found = verify(list_, **asked)
    assert found.digest.hex() == vector["digest"]
    assert found.ends_at == vector["ends_at"]
    key = vector["api_key"].encode()
    assert parse_api_key(Secret(key)).reveal() == key
    assert found.tenants.tenants[0].keys == (api_key_digest(key).hex(),)


def test_there_are_vectors() -> None:
    assert len(list(VECTORS.glob("*.json"))) == 6
