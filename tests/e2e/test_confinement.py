"""What the kernel refuses to a role that turned against its host: a process that was confined.

The role here is the probe, launched as any role is; its code plays the exploited worker.
"""

import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from probe import Probe, builder_of

from wardian.errors import FormatError
from wardian.inference import openvino
from wardian.inference.model import load_model
from wardian.tee.launch.landlock import abi

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="roles run on Linux"),
    pytest.mark.skipif(abi() < 4, reason="this kernel's Landlock knows no TCP ports"),
]

HOSTILE = """
import ctypes, json, os, signal, socket, subprocess, threading

PLACE = json.loads({place!r})

def attempt(name, action):
    try:
        found = action()
    except OSError as err:
        return type(err).__name__ if err.errno is None else os.strerror(err.errno)
    except BaseException as err:
        return type(err).__name__
    return f"worked: {{found!r}}"

def opened(path, mode="rb"):
    with open(path, mode) as file:
        return file.read(4) if "r" in mode else file.write(b"x")

def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
    return "done"

def connected(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return "connected"

def listening(port):
    with socket.create_server(("127.0.0.1", port)):
        return "listening"

def main(enclave):
    parent = os.getppid()
    tried = {{
        "unlisted file": lambda: opened("/etc/passwd"),
        "file of the owner": lambda: opened(PLACE["secret"]),
        "library that is installed": lambda: opened(PLACE["library"]),
        "launcher's memory": lambda: opened(f"/proc/{{parent}}/mem"),
        "launcher's environment": lambda: opened(f"/proc/{{parent}}/environ"),
        "write beside the state": lambda: opened(PLACE["outside"], "wb"),
        "write to a trusted file": lambda: opened(PLACE["trusted"], "r+b"),
        "remove a trusted file": lambda: os.unlink(PLACE["trusted"]),
        "list a directory": lambda: os.listdir("/etc"),
        "make a socket elsewhere": lambda: socket.socket(socket.AF_UNIX).bind(PLACE["outside"]),
        "connect to an unlisted port": lambda: connected(PLACE["port"]),
        "listen on an unlisted port": lambda: listening(PLACE["port"] + 1),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "fork": lambda: os.fork(),
        "program": lambda: os.execv("/bin/true", ["true"]),
        "interpreter again": lambda: os.execv(PLACE["interpreter"], ["python"]),
        "child": lambda: subprocess.run(["/bin/true"]),
        "ptrace": lambda: call(PLACE["ptrace"], 16, parent, 0, 0),
        "read the launcher": lambda: call(PLACE["process_vm_readv"], parent, 0, 0, 0, 0, 0),
        "io_uring": lambda: call(425, 8, 0),
        "mount": lambda: call(PLACE["mount"], b"x", b"/tmp", b"tmpfs", 0, 0),
        "kill the launcher": lambda: os.kill(parent, signal.SIGKILL),
        "close the owner's file": lambda: os.chmod(PLACE["secret"], 0),
        "make it executable": lambda: os.chmod(PLACE["secret"], 0o700),
        "own state": lambda: opened(PLACE["state"] + "/mine", "wb"),
        "listed port": lambda: listening(PLACE["listed"]),
    }}
    found = {{name: attempt(name, action) for name, action in tried.items()}}
    done = threading.Event()
    threading.Thread(target=done.set).start()
    found["thread"] = "worked" if done.wait(10) else "no thread"
    enclave.announce("found", json=json.dumps(found))
    return 0
"""
NUMBERS = {
    "x86_64": {"ptrace": 101, "process_vm_readv": 310, "mount": 165},
    "aarch64": {"ptrace": 117, "process_vm_readv": 270, "mount": 40},
}
ALLOWED = {"own state", "listed port", "thread"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def place(probe: Probe, tmp_path: Path):
    state = tmp_path / "kept"
    state.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"canary")
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {
            "secret": str(secret),
            "library": np.__file__,
            "outside": str(tmp_path / "outside"),
            "trusted": str(probe.directory / "wardian.toml"),
            "port": server.getsockname()[1],
            "listed": free_port(),
            "interpreter": os.path.realpath(sys.executable),
            "state": str(state),
            **NUMBERS[os.uname().machine],
        }


def test_a_role_that_turned_reaches_nothing(probe: Probe, place: dict, tmp_path: Path) -> None:
    status, announced = probe.run(
        HOSTILE.format(place=json.dumps(place)),
        write=(Path(place["state"]),),
        bind=(place["listed"],),
    )
    assert status == 0
    found = json.loads(announced[0]["json"])
    refused = {"Permission denied", "Operation not permitted"}
    leaked = {name: told for name, told in found.items() if name not in ALLOWED | {"child"}}
    assert {name: told for name, told in leaked.items() if told not in refused} == {}
    assert not found["child"].startswith("worked")
    assert {name for name in ALLOWED if found[name].startswith("worked")} == ALLOWED
    assert not (tmp_path / "outside").exists()
    assert (probe.directory / "wardian.toml").exists()


def test_the_same_code_unconfined_shows_that_the_attacks_are_real(
    probe: Probe, place: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without Landlock: the role starts, and what only Landlock refuses then works."""
    from wardian.tee.launch import launcher

    monkeypatch.setattr(launcher, "abi", lambda: 0)
    status, announced = probe.run(
        HOSTILE.format(place=json.dumps(place | {"trusted": place["secret"]}))
    )
    assert status == 0
    found = json.loads(announced[0]["json"])
    for name in ("unlisted file", "file of the owner", "list a directory", "library that is installed",
                 "connect to an unlisted port", "write beside the state"):  # fmt: skip
        assert found[name].startswith("worked"), name
    for name in ("fork", "program", "ptrace", "udp", "io_uring"):
        assert found[name] == "Operation not permitted", name


@pytest.fixture
def modelling_probe(tmp_path: Path) -> Probe:
    package, directory = tmp_path / "code" / "wardian", tmp_path / "enclave"
    builder = builder_of(package, directory, like="worker")
    return Probe((package, directory, builder), tmp_path / "state")


@pytest.mark.slow
def test_a_model_that_names_a_file_does_not_get_it(
    modelling_probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX lets a model keep its weights in a file beside it: the file's content would be served.

    `load_model` does not let such a model near an engine; here the engine is asked all the same.
    """
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.array([4242.0, 17.0], np.float32).tobytes())
    raw = model_with_weights_in("secret.bin")
    monkeypatch.chdir(tmp_path)
    core = openvino.ov.Core()
    stolen = core.compile_model(core.read_model(model=raw), "CPU")
    assert stolen([np.zeros((1, 2), np.float32)])[0].tolist() == [[4242, 17]]
    with pytest.raises(FormatError, match="another file"):
        load_model(raw, media_type="application/onnx", engine="openvino", threads=1)
    status, announced = modelling_probe.run(
        f"""
        import os
        import numpy as np
        from wardian.inference import openvino

        def main(enclave):
            os.chdir({str(tmp_path)!r})
            raw = bytes.fromhex({raw.hex()!r})
            core = openvino.ov.Core()
            try:
                model = core.compile_model(core.read_model(model=raw), "CPU")
            except RuntimeError as err:
                enclave.announce("refused", why=str(err)[:100])
                return 0
            answer = model([np.zeros((1, 2), np.float32)])[0].tolist()
            enclave.announce("served", answer=str(answer))
            return 0
        """
    )
    assert (status, announced[0]["event"]) == (0, "refused")


def model_with_weights_in(place: str) -> bytes:
    """Return y = x + w, whose weights lie in the file `place`."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2], np.zeros(2, np.float32))
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": place, "offset": "0", "length": "8"}.items():
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", rows[:1], rows[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()
