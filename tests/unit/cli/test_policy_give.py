"""`wardian policy give`: a signed policy and a table's key, brought to a broker."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

import toy_jobs
from toy_desks import open_desks
from toy_mesh import NOW
from toy_tables import TABLE_KEYS, A, Ask, B, TableBroker, hospitals, signed_policy

from wardian._internal import wire
from wardian.cli.audit import lines
from wardian.cli.main import cli
from wardian.crypto.owner_key import encode_owner_key
from wardian.errors import ConfigError, PolicyDenied


class Desk:
    """What lies on the desk of hospital a."""

    def __init__(self, root: Path, broker: TableBroker) -> None:
        self.root, self.broker = root, broker
        self.write("wardian.toml", broker.mesh.agreed_toml)
        self.write("now.json", wire.encode(broker.authority.manifest.signed))
        self.write("owner.key", encode_owner_key(toy_jobs.KEYS[A]).reveal()).chmod(0o600)
        key = TABLE_KEYS[A].key.reveal().hex().encode()
        self.write("records.key", key + b"\n").chmod(0o600)

    def write(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.write_bytes(content)
        return path

    def give(self, *more: str, **changes: Any) -> str:
        self.write("records.policy", wire.encode(signed_policy(**changes)))
        return self.run("records.policy", *more)

    def run(self, policy: str, *more: str) -> str:
        at = {"--agreed": "wardian.toml", "--manifest": "now.json", "--key": "owner.key"}
        files = [part for name, file in at.items() for part in (name, str(self.root / file))]
        done = CliRunner().invoke(
            cli,
            [
                "policy",
                "give",
                str(self.root / policy),
                "--broker",
                "localhost:7443",
                *files,
                *more,
            ],
            catch_exceptions=False,
            standalone_mode=False,
        )
        return done.output

    @property
    def with_key(self) -> tuple[str, str]:
        return "--table-key", str(self.root / "records.key")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr("wardian.cli.policy.give.unix_time", lambda: NOW)
    with closing(TableBroker(hospitals(), tmp_path / "broker.db", given=False)) as broker:
        desks = open_desks(broker, monkeypatch)
        yield Desk(tmp_path, broker)
        desks.office.close()


def test_from_a_signed_file_to_a_job_that_gets_the_table(desk: Desk) -> None:
    said = desk.give(*desk.with_key)
    assert "Broker    verified, SIMULATED" in said
    key_id = TABLE_KEYS[A].key_id.hex()
    assert f"table records, serial 1: key {key_id}; so far 0 release(s), epsilon 0" in said
    assert TABLE_KEYS[A].key.reveal().hex() not in said
    desk.broker.consent(B)
    Ask(desk.broker).whole()
    assert "so far 1 release(s), epsilon 0.5, delta 1e-07" in desk.give(serial=2)
    held = json.loads(desk.give("--json", serial=3))["receipt"]["policy"]
    assert (held["serial"], held["uses"], held["epsilon"]) == (3, 1, "1/2")
    assert "serial 4: withdrawn" in desk.give(serial=4, revoked=True)
    told = [lines.sentence(each) for each in desk.broker.entries()]
    assert "gave a policy over table records, serial 1" in told
    assert f"gave key {key_id[:8]} of table records" in told
    assert "withdrew table records, serial 4" in told
    assert any(
        each.startswith(f"got key {key_id[:8]} of table records, use 1, eps") for each in told
    )


def test_what_is_not_signed_or_has_no_key(desk: Desk) -> None:
    desk.write("policy.toml", toy_jobs.toml(toy_jobs.policy_table()))
    with pytest.raises(ConfigError, match="is not signed"):
        desk.run("policy.toml")
    with pytest.raises(PolicyDenied, match="key of table records is missing") as caught:
        desk.give()
    assert caught.value.rule == "key-given"
    told = [lines.sentence(each) for each in desk.broker.entries()]
    assert "gave a policy over table records, serial 1: REFUSED by key-given" in told


def test_a_key_never_stands_on_the_command_line(desk: Desk) -> None:
    with pytest.raises(Exception, match="does not exist"):
        desk.give("--table-key", TABLE_KEYS[A].key.reveal().hex())
