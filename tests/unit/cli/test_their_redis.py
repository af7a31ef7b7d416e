"""The way to their Redis from the command line: what is refused before anybody is asked."""

from pathlib import Path

import pytest

from wardian.cli.their_redis import way_to
from wardian.compat.zoo.their_place import TheirPlace
from wardian.errors import ConfigError


def test_a_name_that_leads_to_a_network_needs_tls_or_a_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="redisUrl: without TLS and without a password"):
        way_to(TheirPlace(host="192.0.2.7", port=1, said="redisUrl"))
    password = tmp_path / "password"
    password.touch(mode=0o600)
    place = TheirPlace(host="192.0.2.7", port=1, password_file=password, said="redisUrl")
    found = way_to(place)
    assert found.password is not None
    with pytest.raises(ConfigError, match="empty"):
        found.password()
    password.write_text("hush\nmore\n")
    assert found.password().reveal() == b"hush"  # read anew
    password.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        found.password()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"no certificate"])
def test_a_ca_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    place = TheirPlace(host="localhost", port=1, tls=True, ca_file=tmp_path / "ca.pem", said="a")
    with pytest.raises(ConfigError, match="PEM"):
        way_to(place).tls()
