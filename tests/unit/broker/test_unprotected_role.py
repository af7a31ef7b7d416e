"""TRUST T17: the role `zoo` reads clear records, so no other owner's secrets are in its mesh."""

import pytest
from toy_mesh import ToyMesh, ZooMesh

from wardian._internal.agreed import Agreed
from wardian._internal.settings import parse
from wardian.broker.mesh.changes import changes
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.trust import UNPROTECTED_ROLES
from wardian.broker.mesh.verify import verify_manifest, verify_manifest_for
from wardian.broker.release.policy import ROLE_RULES, refuse_impossible
from wardian.broker.release.request_keys import OPENERS
from wardian.crypto.signing import SigningKey
from wardian.errors import ConfigError, PolicyDenied
from wardian.tee.role_table import ROLES

KEYSTORE = "[dialects.zoo]\nenabled = true\nkeystore = true\n"


def refused(signed: SignedManifest, mesh: ToyMesh) -> str:
    with pytest.raises(PolicyDenied) as caught:
        verify_manifest_for(signed, agreed=mesh.agreed)
    return caught.value.rule


def test_one_owner_may_have_it() -> None:
    mesh = ZooMesh()
    assert "zoo" in verify_manifest_for(mesh.signed(), agreed=mesh.agreed).manifest.roles


@pytest.mark.parametrize("signers", [1, 2])
def test_not_in_a_mesh_of_two_owners_however_many_of_them_sign(signers: int) -> None:
    owners = [SigningKey.generate() for _ in range(2)]
    mesh = ZooMesh(owners=owners, threshold=signers)
    assert refused(mesh.signed(), mesh) == "role-unprotected"
    with pytest.raises(PolicyDenied) as caught:  # nor for whoever knows [mesh] alone: a client
        verify_manifest(mesh.signed(), mesh=mesh.agreed.mesh)
    assert caught.value.rule == "role-unprotected"


@pytest.mark.parametrize("dialect", ["", "[dialects.zoo]\nenabled = true\n"])
def test_not_where_wardian_toml_has_no_such_dialect(dialect: str) -> None:
    mesh = ZooMesh(dialect=dialect)
    assert refused(mesh.signed(), mesh) == "dialect-agreed"


def test_a_keystore_of_the_operator_s_is_such_a_dialect() -> None:
    mesh = ZooMesh(dialect=KEYSTORE)
    assert "zoo" in verify_manifest_for(mesh.signed(), agreed=mesh.agreed).manifest.roles
    owners = [SigningKey.generate() for _ in range(2)]
    shared = ZooMesh(owners=owners, threshold=2, dialect=KEYSTORE)
    assert refused(shared.signed(), shared) == "role-unprotected"


def test_the_broker_does_not_even_hear_one_that_the_manifest_does_not_list(mesh: ToyMesh) -> None:
    with pytest.raises(PolicyDenied) as caught:
        refuse_impossible(mesh.manifest(), role="zoo", models=("digits",))
    assert caught.value.rule == "role-known"


def test_it_gets_queue_keys_and_nothing_that_opens_a_model_or_a_sealed_request() -> None:
    assert not ROLE_RULES["zoo"].model_keys
    assert "zoo" not in OPENERS
    assert ROLES.keys() >= UNPROTECTED_ROLES


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("[dialects.zoo_redis]\n", "jobs"),
        ("[dialects.zoo_redis.jobs]\n", "jobs"),
        ('[dialects.zoo_redis.jobs]\ns = { model = "nobody" }\n', "dialects.zoo_redis.jobs.s"),
        ('[dialects.zoo_redis.jobs]\n"a:b" = { model = "digits" }\n', "matching regex"),
        ('[dialects.zoo_redis.jobs]\ns = { model = "digits", top_n = "top(3)" }\n', "top_n"),
        ('[dialects.zoo_redis.jobs]\ns = { model = "digits", result_ttl_s = 0 }\n', "result_ttl_s"),
        (
            '[dialects.zoo_redis.jobs]\ns = { model = "digits", columns = { a = "x", b = "x" } }\n',
            "twice",
        ),
        ('[dialects.zoo_redis.jobs]\ns = { model = "digits", record_key = "x" }\n', "record_key"),
    ],
)
def test_settings_that_cannot_be_meant(dialect: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(ZooMesh(dialect=dialect).agreed_toml, Agreed, name="wardian.toml")


def test_who_looks_at_a_change_sees_the_word() -> None:
    mesh = ZooMesh()
    (head,) = [
        change.said[0] for change in changes(None, mesh.manifest()) if change.subject == "role zoo"
    ]
    assert head.endswith("UNPROTECTED")
