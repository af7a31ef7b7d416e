"""What the guide "Change a mesh" says, done as it says, while clients ask: no request is lost.

Every command is taken from the guide. Two releases of Wardian, the second with other code, run one
mesh in turn; a balancer that passes TLS through stands before them. The tests go on from each other.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from mesh import DIGITS, REPOSITORY
from numpy.typing import NDArray
from onnx import numpy_helper
from rolling import Balancer, Load, Process, Site, wait_for

import wardian
from wardian.cli.host import free_port
from wardian.inference.model import load_model

pytestmark = pytest.mark.slow

CLASSES = 10
PORTS = ("7441", "7442", "8441", "8442")
GUIDE = REPOSITORY / "docs" / "how-to" / "change-a-mesh.md"
BEGIN = "What the examples assume"
VERSION = "A new version of a model"
UPGRADE = "Another `wardian.toml`, or another Wardian"
BACK = "Back again"
BOTH = "client-policy-both.toml"
NEXT_RELEASE = {
    "__init__.py": (f'__version__ = "{wardian.__version__}"', '__version__ = "99.0.0"'),
    "tee/role_table.py": ("svn: int = 1", "svn: int = 2"),
}
MEASURED = """
for role in broker frontend worker; do
    wardian enclave build $role --deployment wardian.toml -o now/enclave
done
wardian enclave measure now/enclave/*.manifest -o reference-values.toml
"""
SEALED = """
wardian seal digits.onnx --name digits --version 1 --new-key digits.key -o digits-1.sealed
wardian owner model digits-1.sealed --broker-key digits.key --agreed wardian.toml --key owner.key \
    --role worker --reference-values reference-values.toml -o digits.line
cp digits-1.sealed now/models/
"""
IN_FORCE = """
root=$(sha256sum now/simulation/root.der | cut -d ' ' -f 1)
wardian mesh new --agreed wardian.toml --reference-values reference-values.toml \
    --simulation-root $root --line digits.line -o manifest.json
wardian mesh sign manifest.json --agreed wardian.toml --key owner.key
wardian mesh propose manifest.json --agreed wardian.toml --key owner.key --state now \
    --model-key digits.key --mesh-ca mesh-ca.pem
"""


class Guide:
    """The guide's blocks of commands, by the heading above them, at ports that are free here."""

    def __init__(self) -> None:
        text = GUIDE.read_text()
        self.ports = {port: str(free_port(["127.0.0.1"])) for port in PORTS}
        for port, free in self.ports.items():
            text = text.replace(port, free)
        self.blocks: dict[str, list[str]] = {}
        for part in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
            heading, _, rest = part.partition("\n")
            found = re.findall(r"^```(?:toml)?\n(.*?)^```$", rest, re.DOTALL | re.MULTILINE)
            self.blocks[heading] = found
        self.unused = {
            (head, at) for head, found in self.blocks.items() for at in range(len(found))
        }

    def block(self, heading: str, number: int) -> str:
        self.unused.discard((heading, number))
        return self.blocks[heading][number]


def another_version(content: bytes) -> bytes:
    """Return the model with its classes the other way round: each of its answers is another one."""
    model = onnx.load_model_from_string(content)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.shape[-1] == CLASSES:
            tensor.CopyFrom(numpy_helper.from_array(values[..., ::-1].copy(), tensor.name))
    return bytes(model.SerializeToString())


def answers_of(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    model = load_model(content, media_type="application/onnx", engine="openvino", threads=1)
    try:
        return model.infer({"image": images})["probabilities"].copy()
    finally:
        model.close()


class Mesh:
    """The mesh of the guide: its owner, its operator, and what stands before it."""

    broker: Process
    serving: list[Process]
    """The front end that clients are led to, and its worker."""
    balancer: Balancer

    def __init__(self, root: Path) -> None:
        self.guide, self.site, self.root = Guide(), Site(root), root
        content = (DIGITS / "digits.onnx").read_bytes()
        other = another_version(content)
        with np.load(DIGITS / "heldout.npz") as data:
            self.images = (data["image"][:64] / 16).astype(np.float32)
        self.right = {1: answers_of(content, self.images), 2: answers_of(other, self.images)}
        for name, model in (("digits", content), ("digits-2", other), ("faces", content)):
            (root / f"{name}.onnx").write_bytes(model)

    def run(self, heading: str, *numbers: int) -> None:
        for number in numbers:
            self.site.run(self.guide.block(heading, number))

    def start(self, heading: str, number: int) -> list[Process]:
        return [self.site.start(line) for line in self.guide.block(heading, number).splitlines()]

    def serve(self, heading: str, number: int) -> list[Process]:
        """Start a front end and a worker of the guide; return when both are ready."""
        frontend, worker = self.start(heading, number)
        frontend.until("frontend.ready")
        worker.until("worker.ready")
        return [frontend, worker]

    def place(self, state: str, operator: str) -> None:
        (self.root / state).mkdir(mode=0o700, exist_ok=True)
        (self.root / state / "operator.toml").write_text(operator)

    def split(self, traffic: str) -> None:
        """Have the operator of the front end say `traffic` beside what it says."""
        path = self.root / "now" / "operator.toml"
        said = path.read_text() if path.exists() else ""
        path.write_text(said.partition("\n[models.digits.traffic]")[0] + traffic)

    def set_up(self) -> None:
        """Do what "Own a mesh" says, and install two releases."""
        site, root = self.site, self.root
        site.install("venv", changes={})
        site.install("venv-next", changes=NEXT_RELEASE)
        public = site.run("wardian owner keygen --out owner.key").strip()
        agreed = (DIGITS / "wardian.toml").read_text().replace("[]", f'["{public}"]')
        (root / "wardian.toml").write_text(agreed)
        longer = agreed.replace("deadline_ms = 10000", "deadline_ms = 20000")
        (root / "wardian-next.toml").write_text(f"{longer}\n[models.faces]\n")
        self.place("now", self.guide.block(BEGIN, 0))
        site.run(MEASURED)
        broker, frontend, worker = self.guide.block(BEGIN, 1).splitlines()
        self.broker = site.start(broker)
        self.broker.until("broker.listening")  # by then it has made the directories of its state
        site.run(SEALED)
        site.run(IN_FORCE)
        self.serving = [site.start(frontend), site.start(worker)]
        self.balancer = Balancer(self.serving[0].until("frontend.ready")["port"])
        self.serving[1].until("worker.ready")
        self.run(BEGIN, 2)

    def end(self) -> None:
        self.site.end()
        if hasattr(self, "balancer"):
            self.balancer.close()

    def load(self, policy: str) -> Load:
        return Load(
            self.balancer.url, policy=self.root / policy, images=self.images, right=self.right
        )

    def move(self, load: Load, *, to: list[Process]) -> None:
        """Lead the clients to another front end; stop the one that served, then its worker."""
        port = to[0].until("frontend.ready")["port"]
        with wardian.connect(f"https://127.0.0.1:{port}", policy=self.root / BOTH) as client:
            wait_for(client.ready)
        self.balancer.targets.append(port)
        load.goes_on()
        self.balancer.targets = [port]
        load.goes_on()
        assert [process.stop() for process in self.serving] == [0, 0]
        load.goes_on()
        self.serving = to

    def hand_over(self, heading: str, number: int) -> None:
        """Start the other broker; the one of before ends."""
        (successor,) = self.start(heading, number)
        began = successor.until("broker.listening")["time"]
        assert self.broker.ended() == 1
        (given,) = (
            each for each in self.broker.said("broker.standby") if each["rule"] == "handed-over"
        )
        print(f"no broker for {began - given['time']:.2f} s")
        self.broker = successor

    def audit(self, port: str) -> list[dict[str, object]]:
        """Return every audit line, each of which follows the one before up to the signed head."""
        said = self.site.run(
            f"wardian audit show --all --json --broker 127.0.0.1:{self.guide.ports[port]} "
            "--ca mesh-ca.pem"
        )
        return [json.loads(line) for line in said.splitlines()]

    def measured(self, state: str) -> dict[str, str]:
        """Return the measurements of a state directory's enclaves, by role."""
        said = self.site.run(f"wardian enclave measure {state}/enclave/*.manifest --json")
        return {role: each["measurements"][0] for role, each in json.loads(said)["roles"].items()}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path_factory.mktemp("rolling"))
    try:
        mesh.set_up()
        yield mesh
    finally:
        mesh.end()


def every_request_had_its_answer(load: Load) -> None:
    told = load.told()
    print(told)
    assert load.failures == []
    assert told["answered"] == told["requests"]


def test_a_new_version_of_a_model_and_back(mesh: Mesh) -> None:
    with mesh.load("client-policy.toml") as load:
        (again,) = mesh.start(VERSION, 3)
        again.until("worker.ready")
        load.goes_on()
        assert mesh.serving[1].stop() == 0  # one that is busy
        load.goes_on()
        mesh.serving[1] = again

        mesh.run(VERSION, 0, 1)
        (second,) = mesh.start(VERSION, 2)
        second.until("worker.ready")
        load.until_only(2)
        for taker in (1, 2):  # both have a worker; the front end goes on
            mesh.split(f'\n[models.digits.traffic]\n"{taker}" = 1\n')
            load.until_only(taker)
        mesh.split("")
        assert mesh.serving[1].stop() == 0
        load.goes_on()

        (first,) = mesh.start(VERSION, 3)
        first.until("worker.ready")
        assert load.goes_on() == {2}
        mesh.run(VERSION, 4)
        load.until_only(1)
        assert second.stop() == 0
        mesh.serving[1] = first
        load.goes_on()
    every_request_had_its_answer(load)
    assert all(order == [1, 2, 1, 2, 1] for order in load.versions_in_order())


def test_another_wardian_under_another_agreement(mesh: Mesh) -> None:
    """Up to the manifest that admits both; all that serves is the new code."""
    mesh.place("next", mesh.guide.block(UPGRADE, 0))
    mesh.run(UPGRADE, 1, 2, 3)
    before = mesh.audit("7441")
    with mesh.load(BOTH) as load:
        mesh.run(UPGRADE, 4)
        mesh.hand_over(UPGRADE, 5)
        load.goes_on()
        mesh.move(load, to=mesh.serve(UPGRADE, 6))
    every_request_had_its_answer(load)
    after = mesh.audit("7442")
    assert after[: len(before)] == before
    assert handovers(after) == [mesh.measured("next")["broker"]]


def handovers(lines: list[dict[str, object]]) -> list[object]:
    """Return to which measurements the mesh was handed over; each took it over."""
    entries = [line["entry"] for line in lines]
    given, taken = (
        [each["measurement"] for each in entries if each["rule"] == rule]
        for rule in ("handed-over", "took-over")
    )
    assert given == taken
    return given


def test_the_broker_of_before_decides_nothing_any_more(mesh: Mesh) -> None:
    """It is started again, as a service manager does, and sends everybody on."""
    broker, _, worker = mesh.guide.block(BEGIN, 1).splitlines()
    old = mesh.site.start(broker)
    old.until("broker.handed-over")
    late = mesh.site.start(worker)
    late.until("role.started")
    said = mesh.site.run(
        "wardian mesh propose both.json --agreed wardian.toml --key owner.key "
        f"--broker 127.0.0.1:{mesh.guide.ports['7441']}",
        status=1,
    )
    assert "handed its mesh over" in said
    assert late.popen.poll() is None  # it asks again and again
    assert not late.said("role.admitted")
    late.stop()
    assert old.stop() == 0


def test_back_before_the_door_is_shut_and_forth_again(mesh: Mesh) -> None:
    with mesh.load(BOTH) as load:
        mesh.hand_over(BACK, 0)
        mesh.move(load, to=mesh.serve(BACK, 1))
        mesh.hand_over(UPGRADE, 5)
        mesh.move(load, to=mesh.serve(UPGRADE, 6))
    every_request_had_its_answer(load)
    now, later = mesh.measured("now")["broker"], mesh.measured("next")["broker"]
    assert handovers(mesh.audit("7442")) == [later, now, later]


def test_t21_the_door_is_shut_and_the_old_code_gets_nothing_any_more(mesh: Mesh) -> None:
    """Its host leads it to the new broker; it is who it always was, and that is the reason."""
    ports, operator = mesh.guide.ports, mesh.guide.block(BEGIN, 0)
    with mesh.load(BOTH) as load:
        mesh.run(UPGRADE, 7)
        load.goes_on()
        mesh.place("now", operator.replace(ports["7441"], ports["7442"]))
        late = [mesh.site.start(line) for line in mesh.guide.block(BEGIN, 1).splitlines()[1:]]
        assert [process.ended() for process in late] == [3, 3]
        mesh.place("now", operator)
        (broker,) = mesh.start(BACK, 0)
        assert broker.ended() == 3
    every_request_had_its_answer(load)
    lines = [line["entry"] for line in mesh.audit("7442")]
    last = max(at for at, each in enumerate(lines) if each["event"] == "provision")
    later = lines[last + 1 :]
    refused = [each for each in later if each["event"] == "refusal"]
    assert sorted(each["role"] for each in refused) == ["broker", "frontend", "worker"]
    old = mesh.measured("now").values()
    assert not any(each["measurement"] in old for each in later if each["outcome"] == "granted")


def test_a_model_comes_that_the_old_agreement_did_not_name(mesh: Mesh) -> None:
    with mesh.load(BOTH) as load:
        mesh.run(UPGRADE, 8)
        (faces,) = mesh.start(UPGRADE, 9)
        faces.until("worker.ready")
        load.goes_on()
    every_request_had_its_answer(load)
    with wardian.connect(mesh.balancer.url, policy=mesh.root / BOTH) as client:
        wait_for(lambda: any(each["name"] == "faces" and each["ready"] for each in client.models()))
        answered = client.infer("faces", {"image": mesh.images})["probabilities"]
    np.testing.assert_allclose(answered, mesh.right[1], rtol=1e-4, atol=1e-6)


def test_back_after_the_door_was_shut(mesh: Mesh) -> None:
    with mesh.load(BOTH) as load:
        mesh.run(BACK, 2)
        mesh.hand_over(BACK, 0)
        mesh.move(load, to=mesh.serve(BACK, 1))
        mesh.run(BACK, 3)
        load.goes_on()
    every_request_had_its_answer(load)
    assert len(handovers(mesh.audit("7441"))) == 4
    assert not mesh.guide.unused  # nothing stands there that was not tried
