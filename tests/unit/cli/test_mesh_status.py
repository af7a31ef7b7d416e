"""`wardian mesh status` and `wardian status`: what an operator sees at a glance."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from audit_logs import WITNESSES, Watcher
from desk_calls import Desks
from test_broker_release_log import Desk
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.certificates import chain_pem
from wardian.broker.overview.view import Overview, WitnessView
from wardian.broker.status import Status
from wardian.cli import mesh_status
from wardian.cli import status as local_status
from wardian.cli.mesh.group import mesh as mesh_group
from wardian.cli.mesh_status import screen, status_command
from wardian.cli.state import StateDir
from wardian.cli.status import status
from wardian.errors import ConfigError, PolicyDenied

BROKER = ("--broker", "127.0.0.1:1")
CLIENTS = (
    "wardian.broker.status",
    "wardian.broker.transparency.client",
    "wardian.broker.overview.client",
)


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh(witnesses=list(WITNESSES[:2]), head_threshold=1)


@pytest.fixture
def broker(mesh: ToyMesh, tmp_path: Path) -> Iterator[ToyBroker]:
    with closing(ToyBroker(mesh, tmp_path / "broker.db", provisioned=False)) as broker:
        yield broker


@pytest.fixture
def desks(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desks]:
    desks = Desks(broker)
    desks.instead_of_sockets(monkeypatch, *CLIENTS)
    for module in (mesh_status, local_status):
        monkeypatch.setattr(module, "unix_time", lambda: NOW)
    yield desks
    desks.office.close()


def test_the_command_is_one_of_the_group() -> None:
    assert "status" in mesh_group.list_commands(None)  # type: ignore[arg-type]
    assert mesh_group.get_command(None, "status") is status_command  # type: ignore[arg-type]


def test_a_mesh_at_a_glance(mesh: ToyMesh, broker: ToyBroker, desks: Desks, tmp_path: Path) -> None:
    empty = CliRunner().invoke(status_command, BROKER)
    assert empty.exit_code == 0, empty.exception
    assert "there is no mesh manifest" in empty.output
    broker.provision(mesh.signed(secrets=(mesh.secret(),)), keys=(mesh.keys["digits"],))
    Watcher(WITNESSES[0], ca_spki=broker.authority.ca.spki).visit(Desk(broker))
    broker.admit(mesh.workload(), mesh.attest("worker"))
    ca = tmp_path / "mesh-ca.pem"
    ca.write_bytes(chain_pem((broker.authority.ca.certificate,)))
    shown = CliRunner().invoke(status_command, (*BROKER, "--ca", str(ca))).output
    for said in (
        "test  SIMULATED  2026-09-21",
        "manifest    version 1",
        "1 of 1 owners: ",
        "secret license",
        "counter     development: a file counter",
        "standby     none configured",
        f"signed by the mesh CA in {ca}",
        "never",
        "4 lines, 0 s ago",
        "(1 are demanded)",
        "! faces version 1: its owner",
    ):
        assert said in shown, said
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["worker"][0] == "1"
    assert rows["frontend"][0] == "-"
    assert rows["digits"][3:] == ["given", "1"]
    assert rows["faces"][3:] == ["MISSING", "0"]
    told = json.loads(CliRunner().invoke(status_command, (*BROKER, "--json")).output)
    assert told["mesh"]["head"]["count"] == broker.store.audit_head.count
    assert told["mesh"]["head_verified"] is False
    assert told["warnings"]


def test_a_mesh_that_is_well_says_so(broker: ToyBroker, desks: Desks) -> None:
    told = CliRunner().invoke(status_command, (*BROKER, "--json")).output
    seen = msgspec.json.decode(told, type=dict)["mesh"]
    view = msgspec.convert(seen, Overview)
    public = "ab" * 32
    well = msgspec.structs.replace(
        view,
        simulated=False,
        witnesses=(WitnessView(public=public, lines_behind=3, seconds_ago=4),),
        head_threshold=0,
    )
    lines = list(screen(well, (), head_said="signed"))
    assert "hardware" in lines[0]
    assert "nothing to warn of" in lines[-1]
    assert any("abababab 3 lines, 4 s ago" in line for line in lines)
    none = msgspec.structs.replace(well, witnesses=(), mesh="\x1b[2J")
    lines = list(screen(none, ("\x1b]0;x\x07",), head_said="\x1b[2J"))
    assert any(line.endswith("witnesses   none") for line in lines)
    assert not any("\x1b[2J" in line or "\x07" in line for line in lines)


def test_a_broker_that_lies_ends_with_a_refusal(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    from wardian.broker.ca import MeshCa

    other = MeshCa.create(mesh="test", simulated=True, now=NOW)
    broker.authority.transparency._ca = other
    found = CliRunner().invoke(status_command, BROKER)
    assert isinstance(found.exception, PolicyDenied)
    assert "another mesh" in str(found.exception)


# wardian status


def serving(tmp_path: Path) -> StateDir:
    place = StateDir.open(tmp_path / "state")
    place.status.write_text(
        '{"at":1,"state":"serving","url":"https://localhost:1","tee":"simulated","processes":'
        '[{"name":"broker","state":"running","pid":7,"starts":1,"exit_status":null}]}'
    )
    place.broker_address.write_text("127.0.0.1:1\n")
    return place


def test_status_of_a_mesh_on_this_machine(broker: ToyBroker, desks: Desks, tmp_path: Path) -> None:
    place = serving(tmp_path)
    arguments = ("--state", str(place.root))
    with place.locked():
        shown = CliRunner().invoke(status, arguments)
        assert shown.exit_code == 0, shown.exception
        assert "made the mesh CA" in shown.output
        assert "The audit head is UNVERIFIED" in shown.output
        place.mesh_ca.write_bytes(chain_pem((broker.authority.ca.certificate,)))
        assert (
            f"signed by the mesh CA in {place.mesh_ca}"
            in CliRunner().invoke(status, arguments).output
        )
        told = json.loads(CliRunner().invoke(status, (*arguments, "--json")).output)
        assert told["broker"]["witnessed"]["head"]["audit"]["count"] == len(told["audit"])
        desks.carry = _without_the_last_line
        for more in ((), ("--json",)):
            wrong = CliRunner().invoke(status, (*arguments, *more))
            assert "do not end where the log does" in wrong.output
            assert wrong.exit_code == 3
        desks.carry = lambda raw: raw
        genuine, desks.certificate = desks.certificate, lambda: broker.authority.ca.certificate
        wrong = CliRunner().invoke(status, arguments)
        assert "does not end at a broker of this mesh CA" in wrong.output
        assert wrong.exit_code == 3
        desks.certificate = genuine
        place.broker_address.unlink()
        assert "no broker wrote its address" in CliRunner().invoke(status, arguments).output
    crashed = CliRunner().invoke(status, arguments)
    assert crashed.exit_code == 1
    assert "crashed" in crashed.output


@pytest.mark.parametrize("field", ["measurement", "manifest_digest"])
def test_a_broker_does_not_move_the_cursor(
    broker: ToyBroker, desks: Desks, tmp_path: Path, field: str
) -> None:
    place = serving(tmp_path)

    def carry(raw: bytes) -> bytes:
        shown = wire.decode(raw, Status, what="x")
        return wire.encode(msgspec.structs.replace(shown, **{field: "\x1b[2J"}))

    desks.carry = carry
    with place.locked():
        shown = CliRunner().invoke(status, ("--state", str(place.root)))
    assert "\x1b[2J" not in shown.output
    assert shown.exit_code == 3


def test_what_up_wrote_does_not_move_the_cursor(
    broker: ToyBroker, desks: Desks, tmp_path: Path
) -> None:
    place = serving(tmp_path)
    told = json.loads(place.status.read_text())
    told["url"] = told["processes"][0]["name"] = told["processes"][0]["state"] = "\x1b[2J"
    place.status.write_text(json.dumps(told))
    with place.locked():
        shown = CliRunner().invoke(status, ("--state", str(place.root)))
    assert "\x1b[2J" not in shown.output


def _without_the_last_line(raw: bytes) -> bytes:
    shown = wire.decode(raw, Status, what="x")
    return wire.encode(msgspec.structs.replace(shown, lines=shown.lines[:-1]))


def test_status_where_nothing_is(tmp_path: Path) -> None:
    found = CliRunner().invoke(status, ("--state", str(tmp_path / "none")))
    assert isinstance(found.exception, ConfigError)
    (tmp_path / "empty" / "run").mkdir(parents=True)
    stopped = CliRunner().invoke(status, ("--state", str(tmp_path / "empty"), "--json"))
    assert stopped.exit_code == 1
    assert json.loads(stopped.output)["broker"] == "not running"
