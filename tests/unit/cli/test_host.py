"""What the operator's files become for each role: settings, and what the kernel opens for it."""

import socket
from pathlib import Path

import pytest

from wardian.cli import host
from wardian.cli.state import StateDir
from wardian.errors import ConfigError


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
    with pytest.raises(ConfigError, match=r"give \[broker\] a port"):
        host.place_broker(state).inside()


def test_a_self_test_writes_only_where_its_role_does(state: StateDir) -> None:
    from wardian.cli.processes import place_self_test

    assert place_self_test("broker", state).reach.write == (state.store.parent,)
    for role in ("frontend", "worker"):
        assert place_self_test(role, state).reach == host.Reach()
    assert place_self_test("broker", state).inside().store == "/broker.db"


def test_a_broker_writes_its_state_and_listens(state: StateDir) -> None:
    operator(state, "[broker]\nport = 4545\n")
    placed = host.place_broker(state)
    assert placed.settings.listen == (("127.0.0.1", 4545),)
    assert placed.reach.write == (state.store.parent,)
    assert (placed.reach.bind, placed.reach.connect, placed.reach.read) == ((4545,), (), ())
    assert placed.inside().store == "state/broker.db"


def test_a_front_end_gets_every_address_of_a_name_and_one_port(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(0, 0, 0, "", (address, 0)) for address in ("::1", "127.0.0.1", "::1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    placed = host.place_frontend(state, port=9000)
    assert placed.settings.listen == (("::1", 9000), ("127.0.0.1", 9000))
    assert placed.settings.broker == ("127.0.0.1", 4444)
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
        assert port in host._PORTS


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
