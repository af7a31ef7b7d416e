"""`[counter]` in wardian.toml: keepers that are three, apart, and of one kind."""

import pytest

from wardian._internal import settings
from wardian._internal.agreed import Agreed, Counter, KeeperTerms
from wardian.errors import ConfigError

MESH = """
[mesh]
name = "m"
owners = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
[models.digits]
"""


def keeper(number: int, **changes: str | None) -> str:
    fields: dict[str, str | None] = {
        "name": f"k{number}",
        "key": f"{number:02x}" * 32,
        "platform": f"{number:02x}" * 16,
        "simulation_root_sha256": "ab" * 32,
    } | changes
    lines = (f'{name} = "{value}"' for name, value in fields.items() if value is not None)
    return "\n[[counter.keepers]]\n" + "\n".join(lines) + "\n"


def read(*keepers: str, more: str = "") -> Counter | None:
    head = f'[counter]\nmeasurements = ["{"cd" * 32}"]\n{more}'
    raw = (MESH + head + "".join(keepers)).encode()
    return settings.parse(raw, Agreed, name="wardian.toml").counter


def test_three_keepers_and_nothing_else_to_say() -> None:
    counter = read(keeper(1), keeper(2), keeper(3))
    assert counter is not None
    assert counter.put_back == 0
    assert counter.tcb_statuses == ("UpToDate", "SWHardeningNeeded")
    assert counter.advisories == ()
    assert settings.parse(MESH.encode(), Agreed, name="wardian.toml").counter is None


@pytest.mark.parametrize(
    ("third", "why"),
    [
        (keeper(3, name="k1"), "one `name`"),
        (keeper(3, key="01" * 32), "one `key`"),
        (keeper(3, platform="01" * 16), "one `platform`"),
        (keeper(3, simulation_root_sha256=None), "all on hardware, or all simulated"),
        (keeper(3, key="01" * 31), "matching regex"),
        (keeper(3, platform="01" * 15), "matching regex"),
        ("", "length >= 3"),
    ],
)
def test_t5_what_are_no_three_keepers(third: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read(keeper(1), keeper(2), third)


@pytest.mark.parametrize(
    ("number", "put_back", "fits"),
    [(3, 1, True), (3, 2, True), (3, 3, False), (4, 1, True), (4, 4, False)],
)
def test_a_quorum_is_not_more_than_there_are(number: int, put_back: int, *, fits: bool) -> None:
    keepers, more = [keeper(each) for each in range(number)], f"put_back = {put_back}\n"
    if fits:
        counter = read(*keepers, more=more)
        assert counter is not None
        assert counter.put_back == put_back
    else:
        with pytest.raises(ConfigError, match="put_back"):
            read(*keepers, more=more)


@pytest.mark.parametrize("status", ["Revoked", "OutOfDate", "uptodate"])
def test_a_platform_that_is_not_current_cannot_be_accepted(status: str) -> None:
    with pytest.raises(ConfigError, match="Invalid enum value"):
        read(keeper(1), keeper(2), keeper(3), more=f'tcb_statuses = ["{status}"]\n')


def test_a_keeper_agrees_on_its_service_alone() -> None:
    terms = settings.parse(b"", KeeperTerms, name="keeper.toml")
    assert terms.service == "keeper"
    with pytest.raises(ConfigError, match="line 1"):
        settings.parse(b"mesh = 1\n", KeeperTerms, name="keeper.toml")
