"""What the operator's files become for each role: settings, and what the kernel opens for it."""

import json
import socket
from pathlib import Path

import pytest

from wardian._internal import wire
from wardian.cli import host, resolving
from wardian.cli.state import StateDir
from wardian.cli.traffic import TrafficWatch, traffic_file
from wardian.errors import ConfigError, FormatError
from wardian.roles.host import HostSettings


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir.open(tmp_path / "state")
    state.broker_address.write_text("127.0.0.1:4444\n")
    return state


def operator(state: StateDir, text: str) -> None:
    state.operator.write_text(text)


def test_what_cannot_leave_an_enclave_is_refused(state: StateDir) -> None:
    with pytest.raises(ConfigError, match=r"give \[queue\] a port"):
        host.place_frontend(state, port=9000).inside()
    state.broker_address.unlink()
    with pytest.raises(ConfigError, match=r"give \[broker\] or \[keeper\] a port"):
        host.place_broker(state).inside()


def test_a_self_test_writes_only_where_its_role_does(state: StateDir) -> None:
    from wardian.cli.processes import place_self_test

    assert place_self_test("broker", state).reach.write == (state.store.parent,)
    for role in ("frontend", "worker"):
        assert place_self_test(role, state).reach == host.Reach()
    assert place_self_test("broker", state).inside().store == "/broker.db"


def test_a_broker_reaches_its_keepers_and_a_keeper_nobody(state: StateDir) -> None:
    operator(state, "[broker]\nkeepers = { a = '127.0.0.1:7001', b = 'localhost:7002' }\n")
    placed = host.place_broker(state)
    assert placed.settings.keepers["a"] == ("127.0.0.1", 7001)
    assert placed.settings.keepers["b"][1] == 7002
    assert set(placed.reach.connect) == {7001, 7002}
    operator(state, "[keeper]\nport = 7003\n")
    keeper = host.place_keeper(state)
    assert keeper.reach == host.Reach(write=(state.keeper,), bind=(7003,))
    assert keeper.inside().store == "state"
    operator(state, "[keeper]\n")
    with pytest.raises(ConfigError, match=r"\[keeper\] a port"):
        host.place_keeper(state).inside()


def test_a_keeper_s_self_test_leaves_its_numbers_alone(state: StateDir) -> None:
    from wardian.cli.processes import place_self_test

    (written,) = place_self_test("keeper", state).reach.write
    assert written != state.keeper
    assert not any(state.keeper.iterdir())


@pytest.mark.parametrize("text", ["a = ':7001'", "a = 'host'", "a = 'no such host:7001'"])
def test_a_keeper_s_address_is_one(state: StateDir, text: str) -> None:
    operator(state, f"[broker]\nkeepers = {{ {text} }}\n")
    with pytest.raises(ConfigError):
        host.place_broker(state)


def test_a_broker_writes_its_state_and_listens(state: StateDir) -> None:
    operator(state, "[broker]\nport = 4545\n")
    placed = host.place_broker(state)
    assert placed.settings.listen == (("127.0.0.1", 4545),)
    assert placed.reach.write == (state.store.parent,)
    assert (placed.reach.bind, placed.reach.connect, placed.reach.read) == ((4545,), (), ())
    assert placed.inside().store == "state/broker.db"


def test_clients_of_the_kbs_protocol_are_served_where_the_operator_says(state: StateDir) -> None:
    assert host.place_broker(state).settings.kbs_listen is None
    operator(state, '[broker]\nport = 4545\nkbs_port = 4546\nnames = ["kbs.example"]\n')
    placed = host.place_broker(state)
    assert placed.settings.kbs_listen == ("127.0.0.1", 4546)
    assert placed.settings.names == ("kbs.example",)
    assert placed.reach.bind == (4545, 4546)
    assert placed.inside().kbs_listen == ("127.0.0.1", 4546)


def test_a_port_that_only_the_broker_knows_cannot_leave_an_enclave(state: StateDir) -> None:
    operator(state, "[broker]\nport = 4545\nkbs_port = 0\n")
    placed = host.place_broker(state)
    assert placed.reach.bind == (4545, 0)
    with pytest.raises(ConfigError, match="kbs_port"):
        placed.inside()


def test_two_brokers_of_one_machine_serve_them_at_two_ports(state: StateDir) -> None:
    text = "[broker]\nport = 4545\nkbs_port = 4546\nstandby = true\nstandby_port = 4547\n"
    operator(state, text)
    assert host.place_broker(state).settings.kbs_listen == ("127.0.0.1", 4546)
    assert host.place_broker(state, second=True).settings.kbs_listen is None
    operator(state, text + "standby_kbs_port = 4548\n")
    second = host.place_broker(state, second=True)
    assert second.settings.kbs_listen == ("127.0.0.1", 4548)
    assert second.reach.bind == (4547, 4548)


def test_a_broker_reads_collateral_where_the_operator_keeps_it(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator(state, '[broker]\nport = 1\n[collateral]\ncache = "here/collateral"\n')
    monkeypatch.chdir(state.root)
    placed = host.place_broker(state)
    cache = state.root / "here" / "collateral"
    assert cache.is_dir()
    assert placed.settings.collateral.cache == str(cache)
    assert placed.reach.read == (cache,)
    with pytest.raises(ConfigError, match="under Gramine the broker reads no directory"):
        placed.inside()
    (state.root / "file").touch()
    operator(state, '[collateral]\ncache = "file"\n')
    with pytest.raises(ConfigError, match=r"\[collateral\] cache"):
        host.place_broker(state)


def test_a_broker_that_asks_a_pccs_is_told_where_it_is(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role resolves no names: its addresses, and the ports it may reach, come from outside."""
    operator(
        state,
        '[broker]\nport = 1\n[collateral]\npccs = "http://localhost:8081"\ncache = "c"\n',
    )
    monkeypatch.chdir(state.root)
    placed = host.place_broker(state)
    assert list(placed.settings.collateral_hosts) == ["localhost"]
    assert 8081 in placed.reach.connect
    assert state.root / "c" in placed.reach.write
    assert placed.inside().collateral.cache == "state/collateral"
    assert placed.reach.read == ()
    operator(state, '[broker]\nport = 1\n[collateral]\npccs = "ftp://localhost"\n')
    with pytest.raises(ConfigError, match="PCCS"):
        host.place_broker(state)


def test_a_broker_that_is_started_anew_listens_where_it_did(state: StateDir) -> None:
    """Who it admitted finds it there, and renews."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    state.broker_address.write_text(f"127.0.0.1:{port}\n")
    placed = host.place_broker(state)
    assert placed.settings.listen == (("127.0.0.1", port),)
    assert placed.reach.bind == (port,)


@pytest.mark.parametrize("written", ["", "nonsense", "10.9.8.7:4444", "127.0.0.1:99999"])
def test_a_broker_that_cannot_listen_where_it_did(state: StateDir, written: str) -> None:
    state.broker_address.write_text(written)
    assert host.place_broker(state).settings.listen == (("127.0.0.1", 0),)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        state.broker_address.write_text(f"127.0.0.1:{taken.getsockname()[1]}\n")
        assert host.place_broker(state).settings.listen == (("127.0.0.1", 0),)


def test_a_front_end_gets_every_address_of_a_name_and_one_port(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(0, 0, 0, "", (address, 0)) for address in ("::1", "127.0.0.1", "::1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    placed = host.place_frontend(state, port=9000)
    assert placed.settings.listen == (("::1", 9000), ("127.0.0.1", 9000))
    assert placed.settings.brokers == (("127.0.0.1", 4444),)
    assert placed.reach.bind == (9000,)
    assert placed.reach.connect == (4444,)
    assert placed.reach.sockets == (Path(state.queue).parent,)
    assert placed.reach.write == ()


def test_a_queue_on_tcp_is_a_port_and_no_directory(state: StateDir) -> None:
    operator(state, "[queue]\nport = 5555\n")
    frontend = host.place_frontend(state, port=9000)
    worker = host.place_worker(state, model="m")
    assert frontend.settings.queues == worker.settings.queues == ("tcp:127.0.0.1:5555",)
    assert (frontend.reach.bind, frontend.reach.sockets) == ((9000, 5555), ())
    assert worker.reach.connect == (4444, 5555)


def test_a_worker_reads_its_own_model_s_versions(state: StateDir) -> None:
    for name in ("m-1.sealed", "m-12.sealed", "other-3.sealed", "m-x.sealed", "m-2.txt"):
        (state.root / "models" / name).write_bytes(b"")
    placed = host.place_worker(state, model="m")
    assert set(placed.settings.sealed_models) == {"m:1", "m:12"}
    assert placed.reach.read == (state.root / "models",)
    assert placed.files == {"model.sealed": state.root / "models" / "m-12.sealed"}
    operator(state, "[queue]\nport = 5555\n")
    assert host.place_worker(state, model="m").inside().sealed_models == {"m:12": "model.sealed"}


def test_a_free_port_is_one_on_which_one_can_listen() -> None:
    port = host.free_port(["127.0.0.1"])
    with socket.create_server(("127.0.0.1", port)):
        assert port in resolving._PORTS


def test_no_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object, **__: object) -> None:
        raise OSError(98, "in use")

    monkeypatch.setattr(socket, "create_server", taken)
    with pytest.raises(ConfigError, match="no free port"):
        host.free_port(["127.0.0.1"])


def test_a_name_without_an_address(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match="does not resolve"):
        host.place_frontend(state, port=9000)


def test_no_broker_yet(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no broker wrote its address"):
        host.place_worker(StateDir.open(tmp_path / "other"), model="m")


# A second broker


def test_two_brokers_of_one_directory_know_each_other_before_they_listen(state: StateDir) -> None:
    operator(state, "[broker]\nstandby = true\ntakeover_s = 2.5\n")
    first, second = host.place_broker(state), host.place_broker(state, second=True)
    (here,), (there,) = first.settings.listen, second.settings.listen
    assert 0 not in (here[1], there[1])
    assert here != there
    assert (first.settings.peer, second.settings.peer) == (there, here)
    assert (first.settings.standby, second.settings.standby) == (False, True)
    assert first.settings.takeover_s == second.settings.takeover_s == 2.5
    assert (first.settings.store, second.settings.store) == (
        str(state.store),
        str(state.second_store),
    )
    assert (first.reach.connect, second.reach.connect) == ((there[1],), (here[1],))
    assert second.reach.write == (state.second_store.parent,)
    again = host.place_broker(state)  # it is started anew, and found where it was
    assert again.settings.listen == (here,)
    frontend, worker = host.place_frontend(state, port=9000), host.place_worker(state, model="m")
    assert frontend.settings.brokers == worker.settings.brokers == (here, there)
    assert frontend.reach.connect == worker.reach.connect == (here[1], there[1])
    state.broker_pair.write_text("nonsense\n")
    with pytest.raises(ConfigError, match="damaged"):
        host.place_broker(state)


def test_ports_that_the_operator_gives_two_brokers(state: StateDir) -> None:
    operator(state, "[broker]\nport = 4545\nstandby = true\nstandby_port = 4646\n")
    assert host.place_broker(state).settings.peer == ("127.0.0.1", 4646)
    assert host.place_broker(state, second=True).settings.peer == ("127.0.0.1", 4545)


def test_a_broker_on_another_machine(state: StateDir) -> None:
    operator(state, '[broker]\nport = 4545\npeer = "127.0.0.2:4646"\n')
    placed = host.place_broker(state)
    assert (placed.settings.listen, placed.settings.peer) == (
        (("127.0.0.1", 4545),),
        ("127.0.0.2", 4646),
    )
    waits = host.place_broker(state, second=True)
    assert (waits.settings.standby, waits.settings.store) == (True, str(state.store))
    assert host.place_worker(state, model="m").settings.brokers == (
        ("127.0.0.1", 4545),
        ("127.0.0.2", 4646),
    )


@pytest.mark.parametrize(
    "wrong", ['peer = "x:1"', 'port = 1\nstandby = true\npeer = "x:1"', 'port = 1\npeer = "x"']
)
def test_a_peer_that_is_none(state: StateDir, wrong: str) -> None:
    operator(state, f"[broker]\n{wrong}\n")
    with pytest.raises(ConfigError):
        host.place_broker(state)


def test_one_broker_has_no_second(state: StateDir) -> None:
    with pytest.raises(ConfigError, match="names no second broker"):
        host.place_broker(state, second=True)
    assert host.place_broker(state).settings.peer is None


# Taking over, and coming back


def test_a_broker_that_takes_over_reaches_the_older_one(state: StateDir) -> None:
    placed = host.place_broker(state, take_over="127.0.0.3:5000", recover=True)
    assert (placed.settings.take_over, placed.settings.recover) == (("127.0.0.3", 5000), True)
    assert placed.reach.connect == (5000,)
    for wrong in ("5000", ":5000", "host:", "host:x"):
        with pytest.raises(ConfigError, match="HOST:PORT"):
            host.place_broker(state, take_over=wrong)


def test_a_backup_is_put_in_place_by_the_enclave_whose_files_they_are(state: StateDir) -> None:
    state.to_restore.write_bytes(b"")
    assert host.place_broker(state).settings.backup is None  # here the command did it
    operator(state, 'tee = "gramine"\n[broker]\nport = 4545\nstandby = true\nstandby_port = 4646\n')
    placed = host.place_broker(state)
    assert placed.inside().backup == "backup"
    assert placed.files["backup"] == state.to_restore
    assert host.place_broker(state, second=True).inside().backup is None
    state.to_restore.unlink()
    assert host.place_broker(state).inside().backup is None


def test_a_worker_of_one_version_reads_and_serves_that_one(state: StateDir) -> None:
    for version in (1, 2, 12):
        (state.root / "models" / f"m-{version}.sealed").write_bytes(b"")
    placed = host.place_worker(state, model="m:2")
    assert (placed.settings.model, placed.settings.version) == ("m", 2)
    assert set(placed.settings.sealed_models) == {"m:2"}
    assert placed.files == {"model.sealed": state.root / "models" / "m-2.sealed"}
    assert host.place_worker(state, model="m").settings.version is None
    assert host.place_worker(state, model="m:3").files == {}


@pytest.mark.parametrize(
    "version", ["", "0", "01", "-1", "1.0", "x", "²", "2147483648", "9" * 5000]
)
def test_a_version_that_is_no_number(state: StateDir, version: str) -> None:
    with pytest.raises(ConfigError, match="NAME or NAME:VERSION"):
        host.place_worker(state, model=f"m:{version}")


AGREED = '[mesh]\nname = "m"\nowners = ["{}"]\n[models.digits]\n[models.faces]\n'


def test_a_front_end_is_told_how_versions_share(state: StateDir) -> None:
    operator(state, '[models.digits.traffic]\n"1" = 90\n"2" = 10\n[models.faces]\n')
    assert host.place_frontend(state).settings.traffic == {"digits": {"1": 90, "2": 10}}
    state.agreed.write_text(AGREED.format("a" * 64))
    told = wire.encode(host.place_frontend(state).settings)
    assert wire.decode(told, HostSettings, what="x").traffic == {"digits": {"1": 90, "2": 10}}


def test_traffic_of_a_model_that_there_is_not_is_refused_with_its_line(state: StateDir) -> None:
    state.agreed.write_text(AGREED.format("a" * 64))
    operator(state, '[models.digits]\n[models.digit.traffic]\n"1" = 1\n')
    with pytest.raises(ConfigError, match=r"operator\.toml, line 2: .*no model 'digit'; it has: "):
        host.place_frontend(state)


@pytest.mark.parametrize(
    "traffic",
    [{"digits": {"0": 1}}, {"digits": {"x": 1}}, {"digits": {"1": -1}}, {"../x": {"1": 1}}],
)
def test_a_front_end_refuses_traffic_that_is_none(traffic: object) -> None:
    """Whoever starts it may say anything."""
    with pytest.raises(FormatError):
        wire.decode(wire.encode({"traffic": traffic}), HostSettings, what="host settings")


def test_traffic_is_handed_on_when_it_changes_and_stays_when_it_is_wrong(
    state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    state.agreed.write_text(AGREED.format("a" * 64))
    operator(state, '[models.digits.traffic]\n"1" = 1\n')
    watch = TrafficWatch(state)

    def told() -> object:
        return json.loads(traffic_file(state).read_text())["traffic"]

    assert told() == {"digits": {"1": 1}}
    operator(state, '[models.digits.traffic]\n"22" = 100\n')
    watch.look()
    assert told() == {"digits": {"22": 100}}
    operator(state, '[models.digits.traffic]\n"22" = -100\n')
    watch.look()
    watch.look()
    assert told() == {"digits": {"22": 100}}
    refused = [each.getMessage() for each in caplog.records if "refused" in each.getMessage()]
    assert len(refused) == 1
    operator(state, "")
    watch.look()
    assert told() == {}
