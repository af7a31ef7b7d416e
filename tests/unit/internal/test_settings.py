"""Settings files: unknown keys refused with their line, values bounded, defaults for the operator."""

import os
from pathlib import Path

import pytest

from wardian._internal import settings
from wardian._internal.agreed import Agreed
from wardian._internal.operator import Operator
from wardian.errors import ConfigError

AGREED = b"""
[mesh]
name = "m"
owners = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]

[models.digits]
threads = 2
"""


def test_agreed_reads() -> None:
    agreed = settings.parse(AGREED, Agreed, name="wardian.toml")
    assert agreed.models["digits"].threads == 2
    assert agreed.limits.deadline_ms == 10_000


def test_operator_needs_nothing() -> None:
    assert settings.parse(b"", Operator, name="o").frontend.port == 8443


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        (b"colour = 1\n", 8),
        (b"\n[limits]\nmax_body = 1\n", 10),
        (b"\n[models.other]\nthreds = 1\n", 10),
        (b"\n[nonsense]\n", 9),
    ],
)
def test_an_unknown_key_is_refused_with_its_line(extra: bytes, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"^wardian.toml, line {line}: .*unknown field"):
        settings.parse(AGREED + extra, Agreed, name="wardian.toml")


def test_a_key_of_any_depth_is_refused() -> None:
    """The search for the line does not end in the recursion limit."""
    with pytest.raises(ConfigError):
        settings.parse(b"mesh.x" + b".a" * 5000 + b" = 1\n", Agreed, name="wardian.toml")


def test_a_wrong_value_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"line 3: Expected `int` <= 65535"):
        settings.parse(b"\n[frontend]\nport = 70000\n", Operator, name="o")


@pytest.mark.parametrize(
    "raw",
    [b"[", b"\xff", b"[mesh]\nname='m'\n", AGREED.replace(b"digits", b'"../up"'), b"#" * 2**21],
)
def test_what_is_no_settings_file_is_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^wardian\.toml"):
        settings.parse(raw, Agreed, name="wardian.toml")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        settings.load(tmp_path / "wardian.toml", Agreed)


@pytest.mark.parametrize(
    "raw",
    [
        AGREED.replace(b'aaaa"]', b'zz"]'),
        AGREED.replace(b'aaaa"]', b'aaaa\\n"]'),
        AGREED.replace(b"[models", b"threshold = 2\n[models"),
        b"a = " + b"[" * 9999,
        b"a = " + b"9" * 9999,
    ],
)
def test_owners_that_are_none_and_toml_that_is_hostile(raw: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^w"):
        settings.parse(raw, Agreed, name="w")


@pytest.mark.parametrize("owner", ["ab" * 32, "02" + "ab" * 32, "03" + "ab" * 32])
def test_owners_on_either_curve(owner: str) -> None:
    agreed = settings.parse(_owned_by(owner), Agreed, name="w")
    assert agreed.mesh.owners == (owner,)


@pytest.mark.parametrize("who", ["owners", "witnesses"])
@pytest.mark.parametrize(
    "keys",
    [
        ("ab" * 32, "ab" * 32),
        ("02" + "ab" * 32, "02" + "ab" * 32),
        ("02" + "ab" * 32, "03" + "ab" * 32),
    ],
    ids=["one key twice", "one P-256 key twice", "a P-256 key and its other sign"],
)
def test_nobody_counts_twice(who: str, keys: tuple[str, str]) -> None:
    """The owners agree on two of three, and one person can be two of them."""
    named = {"owners": ["cd" * 32], "witnesses": []} | {who: [*keys]}
    text = "".join(f"{name} = {each}\n" for name, each in named.items()).replace("'", '"')
    with pytest.raises(ConfigError, match=f"`{who}` names one key twice"):
        settings.parse(
            f'[mesh]\nname = "m"\n{text}[models.m]\n'.encode(), Agreed, name="wardian.toml"
        )


@pytest.mark.parametrize(
    "owner",
    ["04" + "ab" * 32, "00" + "ab" * 32, "02" + "AB" * 32, "02" * 32 + "0", "04" + "ab" * 64],
)
def test_what_is_no_owners_public_key(owner: str) -> None:
    with pytest.raises(ConfigError, match="owners"):
        settings.parse(_owned_by(owner), Agreed, name="w")


def _owned_by(owner: str) -> bytes:
    return f'[mesh]\nname = "m"\nowners = ["{owner}"]\n[models.digits]\n'.encode()


def test_no_more_of_a_file_is_read_than_may_be_in_it(tmp_path: Path) -> None:
    file = tmp_path / "wardian.toml"
    with file.open("wb") as opened:
        opened.truncate(2**33)  # sparse: it takes no room until it is read
    with pytest.raises(ConfigError, match=r"wardian\.toml: larger than 1,048,576 bytes"):
        settings.load(file, Agreed)
    with pytest.raises(ConfigError, match="larger than 10 bytes"):
        settings.read(file, limit_bytes=10)
    file.write_bytes(b"x" * 10)
    assert settings.read(file, limit_bytes=10) == b"x" * 10
    with pytest.raises(ConfigError, match="larger than 9 bytes"):
        settings.read(file, limit_bytes=9)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for place in (pipe, link, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is no regular file"):
            settings.read(place)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        settings.read(tmp_path)


def test_a_link_to_a_settings_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_bytes(AGREED)
    (tmp_path / "wardian.toml").symlink_to(tmp_path / "real.toml")
    assert settings.read(tmp_path / "wardian.toml") == AGREED


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (b'[models.a.traffic]\n"1" = 0\n"2" = 0\n', 1, "gives no version a share"),
        (b'[models.b.traffic]\n"1" = 1\n[models.a.traffic]\n"2" = 0\n', 3, "gives no version"),
        (b'[models.b.traffic]\n"1" = 1\n[models.a.traffic]\n"x" = 1\n', 3, "matching regex"),
        (b'[models.b.traffic]\n"1" = 1\n[models.a.traffic]\n"0" = 1\n', 3, "matching regex"),
        (b'[models.a.traffic]\n"1" = -1\n', 1, "Expected `int` >= 0"),
        (b'[models.a.traffic]\n"1" = 0.5\n', 1, "got `float`"),
        (b'[models.a.traffic]\n"1" = 1000001\n', 1, "<= 1000000"),
        (b'[models.b]\n[models.a]\ntraffic = { "1" = "x" }\n', 3, "got `str`"),
        (b"[models.b]\n[models.a]\nsplit = {}\n", 3, "unknown field"),
        (b'[models."../a".traffic]\n"1" = 1\n', 1, "matching regex"),
        (b"[models.a.traffic]\n" + b"".join(b'"%d" = 1\n' % n for n in range(1, 10)), 1, "<= 8"),
    ],
)
def test_traffic_that_is_none_is_refused_with_its_line(text: bytes, line: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        settings.parse(text, Operator, name="operator.toml")
    assert str(refused.value).startswith(f"operator.toml, line {line}: ")


def test_traffic() -> None:
    read = settings.parse(b'[models.a.traffic]\n"1" = 90\n"22" = 10\n', Operator, name="o")
    assert read.models["a"].traffic == {"1": 90, "22": 10}


def test_the_line_of_a_key_in_raw_text() -> None:
    raw = b"[x]\n[models.other]\n[models.a]\nb = { c = 1 }\n"
    assert settings.line_of(["models", "a"], raw) == 3
    assert settings.line_of(["models", "a", "b", "c"], raw) == 4
    assert settings.line_of(["nowhere"], raw) is None
