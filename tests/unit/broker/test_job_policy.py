"""`policy.toml`: what is not a policy, and what is not its owner's word."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy_jobs import (
    KEYS,
    MESH,
    NOW,
    SEALED_TO,
    TRAINED,
    allow,
    enclave_claims,
    parties,
    policy,
    policy_table,
    signed,
    toml,
)

from wardian._internal import wire
from wardian.broker.jobs.canonical import canonical
from wardian.broker.jobs.policy import DataPolicy, Range, load_policy
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import (
    MAX_POLICY_BYTES,
    SignedPolicy,
    VerifiedPolicy,
    parse_policy,
    policy_signed_bytes,
    sign_policy,
    verify_policy,
)
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
)

A = KEYS["hospital-a"]


def rule(**changes: Any) -> dict[str, Any]:
    return {"allow": [allow(**changes)]}


def output(**changes: Any) -> dict[str, Any]:
    return rule(output=changes)


def ranged(**bounds: Any) -> dict[str, Any]:
    return rule(algorithms={TRAINED: {"l2": bounds}})


TWO_NAMES = {**parties("hospital-a", "hospital-b"), "again": parties("hospital-a")["hospital-a"]}
KEYLESS = {**parties("hospital-a"), "hospital-b": {"key": KEYS["hospital-b"].public.hex()}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colour": 1}, "unknown field `colour`"),
        (rule(colour=1), "unknown field `colour`"),
        (output(colour=1), "unknown field `colour`"),
        ({"code": {"measurement": ["00"]}}, "unknown field `measurement`"),
        ({"code": {"measurements": ["00" * 32]}}, "names no machine"),
        ({"code": {"any_platform": "risk accepted"}}, "names no enclave"),
        ({"code": None}, r"\[code\] is needed"),
        ({"pin": None}, "`pin` and `uses` are needed"),
        ({"uses": None}, "`pin` and `uses` are needed"),
        ({"pin": "wardian-pin-v1:"}, "at `\\$.pin`"),
        ({"uses": 0}, ">= 1"),
        ({"serial": 0}, ">= 1"),
        ({"serial": 2**53 + 1}, "<="),
        ({"parties": parties("hospital-b")}, "`owner` names hospital-a"),
        ({"parties": TWO_NAMES}, "gives two names one key"),
        (
            {"parties": {**parties(), "hospital-b": {"key": "11" * 32, "seal_to": "00" * 32}}},
            "usable",
        ),
        ({"parties": KEYLESS, **rule()}, "hospital-b, which has no `seal_to`"),
        ({"budget": None}, "bound it in all with"),
        ({"budget": {"epsilon": float("inf")}}, "<= 1000"),
        ({"budget": {"epsilon": 0.0}}, "> 0"),
        ({"allow": [allow(), allow()]}, "one `name`"),
        ({"allow": [allow(name=f"r{number}") for number in range(65)]}, "length <= 64"),
        (rule(purposes=[]), "length >= 1"),
        (rule(columns=[]), "length >= 1"),
        (rule(columns=["*", "age"]), r'either "\*" or names'),
        (rule(columns=["a\nb"]), "matching regex"),
        (rule(parties=["hospital-a", "elsewhere"]), "names elsewhere"),
        (rule(parties=["hospital-a"]), "gives to hospital-b, which is none of its"),
        (rule(algorithms={}), "length >= 1"),
        (rule(algorithms={"divination": {}}), "no algorithm divination"),
        (rule(algorithms={TRAINED: {"l3": {"max": 1}}}), "has no parameter l3"),
        (rule(expires=0), "at `\\$.allow"),
        (ranged(), "give `min` or `max`"),
        (ranged(min=1, exact=1), "give `min` or `max`"),
        (ranged(min=2, max=1), "`min` is above `max`"),
        (ranged(max=float("nan")), "finite"),
        (ranged(one_of=[1.0, float("inf")]), "finite"),
        (ranged(exact=2**60), "finite"),
        (output(smallest_join=None), "missing required field `smallest_join`"),
        (output(smallest_cohort=0), ">= 1"),
        (output(epsilon=None, delta=None), "give either `epsilon`, or"),
        (output(without_noise="risk accepted"), "give either `epsilon`, or"),
        (output(epsilon=None, delta=None, without_noise="yes"), "Invalid enum value"),
        (output(delta=float("nan")), ">= 0"),
        (output(epsilon=None, without_noise="risk accepted"), "`delta` goes with `epsilon`"),
        (output(model=["elsewhere"]), "names elsewhere"),
        (
            output(approvals={"needed": 3, "of": ["hospital-a", "hospital-b"]}),
            "more approvals than",
        ),
        (output(approvals={"needed": 1, "of": ["elsewhere"]}), "names elsewhere"),
    ],
)
def test_what_is_no_policy(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        policy(**changes)


def test_an_unknown_key_is_refused_with_its_line() -> None:
    written = (
        toml(policy_table(allow=None))
        + b"""
[[allow]]
name = "one"
purposes = ["a"]
parties = ["hospital-a"]
columns = ["age"]
expires = 2030-01-01T00:00:00Z
algorithms.statistics = {}
output = { smallest_join = 1, smallest_cohort = 1, without_noise = "risk accepted" }

[[allow]]
name = "two"
purposes = "a"
"""
    )
    lines = written.decode().splitlines()
    with pytest.raises(ConfigError, match=f"line {len(lines)}: Expected `array`"):
        load_policy(written)
    with pytest.raises(ConfigError, match=f"line {len(lines)}: .*unknown field `porpoises`"):
        load_policy(written.replace(b'purposes = "a"', b'porpoises = ["a"]'))


def test_a_time_is_a_number_or_has_a_zone() -> None:
    def written(expires: str) -> DataPolicy:
        return load_policy(
            toml(policy_table()).replace(
                f'"expires" = {NOW + 100}'.encode(), f'"expires" = {expires}'.encode()
            )
        )

    assert written("2030-01-01T01:00:00+01:00").allow[0].expires_at == 1_893_456_000
    assert written('"2030-01-01T00:00:00Z"') == written("1893456000")
    assert canonical(written("2030-01-01T00:00:00Z")) == canonical(written("1893456000"))
    for wrong in (
        "2030-01-01T00:00:00",
        "2030-01-01",
        "1960-01-01T00:00:00Z",
        "1.5",
    ):
        with pytest.raises(ConfigError):
            written(wrong)


def test_what_has_no_rule_needs_nothing_else() -> None:
    bare = policy(pin=None, uses=None, code=None, budget=None, max_beacon_age_s=None, allow=None)
    assert not bare.allow
    with pytest.raises(PolicyDenied):
        bare.appraisal.demand(enclave_claims())


@pytest.mark.parametrize(
    ("bounds", "holds", "refuses"),
    [
        ({"min": 1}, [1, 1.0, 2], [0.9, True, "1", float("nan")]),
        ({"max": 1}, [1, -5.0], [1.1, False, "0", float("nan")]),
        ({"min": 0, "max": 1}, [0, 1, 0.5], [-1, 2, True]),
        ({"one_of": [1, "a"]}, [1, 1.0, "a"], [True, "1", 2]),
        ({"exact": True}, [True], [1, "true", False]),
        ({"exact": 0}, [0, 0.0], [False]),
    ],
)
def test_ranges(bounds: dict[str, Any], holds: list[Any], refuses: list[Any]) -> None:
    allowed = msgspec.convert(bounds, Range)
    assert all(map(allowed.holds, holds))
    assert not any(map(allowed.holds, refuses))


# --- signatures -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(SignatureKind))
def test_a_signed_policy_says_the_same(kind: SignatureKind) -> None:
    key = SigningKey.generate(kind)
    known = {
        **parties(),
        "hospital-a": {"key": key.public.hex(), "seal_to": SEALED_TO["hospital-a"]},
    }
    written = policy(parties=known)
    travelled = wire.decode(wire.encode(sign_policy(written, key)), SignedPolicy, what="x")
    assert verify_policy(travelled, mesh=MESH).policy == written


def test_only_its_owner_signs() -> None:
    with pytest.raises(ConfigError, match="not that of hospital-a"):
        sign_policy(policy(), KEYS["hospital-b"])


def test_a_forged_signature() -> None:
    good = sign_policy(policy(), A)
    forged = KEYS["hospital-b"].sign(policy_signed_bytes(good.policy, mesh=MESH)).hex()
    for signature in (forged, "00" * 64, A.sign(good.policy).hex()):
        with pytest.raises(AuthenticationFailed, match="not what its owner signed"):
            verify_policy(SignedPolicy(policy=good.policy, signature=signature), mesh=MESH)


def test_a_signature_for_another_mesh() -> None:
    elsewhere = sign_policy(policy(mesh="elsewhere"), A)
    with pytest.raises(PolicyDenied, match="another mesh") as denied:
        verify_policy(elsewhere, mesh=MESH)
    assert denied.value.rule == Rule.POLICY_MESH
    moved = msgspec.structs.replace(elsewhere, policy=canonical(policy()))
    with pytest.raises(AuthenticationFailed):
        verify_policy(moved, mesh=MESH)


@pytest.mark.parametrize(
    "changes", [{"table": "another"}, {"serial": 2}, {"uses": 11}, {"revoked": True}, {"allow": []}]
)
def test_a_signature_for_another_table_or_another_text(changes: dict[str, Any]) -> None:
    moved = msgspec.structs.replace(sign_policy(policy(), A), policy=canonical(policy(**changes)))
    with pytest.raises(AuthenticationFailed):
        verify_policy(moved, mesh=MESH)


def test_nobody_signs_what_nobody_reads() -> None:
    rules = [allow(name=f"rule-{at}", columns=[f"{n:032}" for n in range(1024)]) for at in range(2)]
    with pytest.raises(ConfigError, match="at most 65,536"):
        sign_policy(policy(allow=rules), A)
    sign_policy(policy(allow=rules[:1]), A)


def test_only_the_canonical_form_is_read() -> None:
    good = sign_policy(policy(), A)
    for raw in (
        good.policy + b"\n",
        good.policy.replace(b'"serial":1', b'"serial":1.0'),
        good.policy.replace(b'"revoked":false', b'"revoked":false,"pin":null'),
        good.policy.replace(
            b'"purposes":["readmission"]', b'"purposes":["readmission","readmission"]'
        ),
        good.policy.replace(b'"uses":10', b'"uses":10,"uses":10'),
        b"{}",
        b" " * (MAX_POLICY_BYTES + 1),
    ):
        assert raw != good.policy
        with pytest.raises(FormatError):
            parse_policy(SignedPolicy(policy=raw, signature=good.signature))


def test_nobody_else_makes_a_verified_one() -> None:
    good = signed()
    with pytest.raises(LocalProtocolError):
        VerifiedPolicy(policy=good.policy, mark=good.mark, proof=object())
