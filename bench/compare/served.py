"""A mesh and its clear twin behind HTTPS, asked by the same client over one connection each.

The mesh is what `wardian up` starts: front end, queue, workers, key broker, models sealed, every
enclave SIMULATED. Its client is Wardian's, which verifies evidence before it asks. The twin is
`bench/clear_twin.py`: the same front end, queue and worker with nothing sealed and nothing to
verify; its client is the same code without the verification.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from inprocess import Took, took
from measured import cpu_of
from nets import Floats
from processes import AS_A_ROLE, descendants, free_port, process, wait_for
from relay import Relay, relay
from serving import BENCH, identity
from typing_extensions import override

import wardian
from wardian._internal.clock import monotonic
from wardian.errors import WardianError
from wardian.serving.client.connection import ClientConnection, Destination
from wardian.serving.client.links import Link, Links
from wardian.serving.client.messages import Call, build_infer, parse_infer
from wardian.serving.client.origin import parse_origin
from wardian.serving.client.policy import load_client_policy

START_S, CALL_S = 60.0, 30.0
TWIN_MODEL = "digits"
"""What the twin calls whatever it serves."""
MESH = '[mesh]\nname = "compare"\nowners = []\n'
MODEL = """
[models.{name}]
engine = "onnxruntime"
threads = 1
max_batch = 64
batch_across_tenants = true
"""


class Mesh:
    """The mesh, and an attested client of it."""

    def __init__(self, url: str, policy: Path, root: int) -> None:
        """Connect, and verify; `root` is the process above all others of the mesh."""
        self._url, self._policy, self._root = url, policy, root
        self._client = wardian.connect(url, policy=policy)

    def scores(self, name: str, x: Floats) -> Floats:
        """Return the scores of `x`."""
        return self._client.infer(name, {"x": x})["scores"]

    def took(self, name: str, x: Floats) -> Took:
        """Return what one request takes, on a connection that is verified already."""
        return took(
            lambda: self._client.infer(name, {"x": x}),
            elsewhere=lambda: cpu_of(descendants(self._root)),
        )

    def moved(self, name: str, x: Floats) -> tuple[int, int]:
        """Return the bytes of a new connection with its evidence, and of one request on it."""
        with relay(parse_origin(self._url).port) as between:
            url = f"https://localhost:{between.port}"
            with wardian.connect(url, policy=self._policy) as client:
                return _counted(between, lambda: client.infer(name, {"x": x}))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Unverified(ClientConnection):
    """A connection to a server that has nothing to show. Only here is there such a thing."""

    @override
    def recheck(self) -> bool:
        return True

    @override
    def request(self, call: Call) -> bytes:
        return self._send(call)


class Twins(Destination):
    """Where a twin is."""

    @override
    def begin(self, certificate: bytes | None) -> ClientConnection:
        return Unverified(
            self.origin, policy=self._policy, keys=self._keys, certificate=certificate
        )


class Twin:
    """One clear twin, and a client of it."""

    def __init__(self, port: int, policy: Path, pids: list[int]) -> None:
        """Connect; `policy` is the mesh's, which nothing here is compared with."""
        self._port, self._policy, self._pids = port, policy, pids
        self._link = self._connected(port)

    def _connected(self, port: int) -> Link:
        origin = parse_origin(f"https://localhost:{port}")
        links = Links(Twins(origin, load_client_policy(self._policy)))
        return links.take(_deadline(), anew=True)

    def _ask(self, link: Link, x: Floats) -> Floats:
        call = build_infer(TWIN_MODEL, {"x": x}, version=None, outputs=None, timeout_s=CALL_S)
        return parse_infer(link.exchange(link.protocol.request(call), _deadline()))["scores"]

    def scores(self, x: Floats) -> Floats:
        """Return the scores of `x`."""
        return self._ask(self._link, x)

    def took(self, x: Floats) -> Took:
        """Return what one request takes."""
        return took(lambda: self._ask(self._link, x), elsewhere=lambda: cpu_of(self._pids))

    def moved(self, x: Floats) -> tuple[int, int]:
        """Return the bytes of a new connection, and of one request on it."""
        with relay(self._port) as between:
            link = self._connected(between.port)
            found = _counted(between, lambda: self._ask(link, x))
            link.close()
            return found

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


def _counted(between: Relay, ask: Callable[[], object]) -> tuple[int, int]:
    """Return the bytes of connecting, and of one request; TLS ends its part within the first."""
    ask()
    first = sum(between.counted())
    ask()
    request = sum(between.counted()) - first
    return first - request, request


def _deadline() -> float:
    return monotonic() + CALL_S


@contextmanager
def mesh(folder: Path, names: list[str]) -> Iterator[Mesh]:
    """Start a mesh of the models NAME.onnx in `folder`; end it with the block."""
    example, state = folder / "mesh", folder / "mesh-state"
    example.mkdir()
    models = "".join(f'[models.{name}]\nfile = "{name}.onnx"\n\n' for name in names)
    (example / "example.toml").write_text(models)
    (example / "wardian.toml").write_text(MESH + "".join(MODEL.format(name=n) for n in names))
    for name in names:
        shutil.copy(folder / f"{name}.onnx", example)
    up = [sys.executable, "-m", "wardian.cli", "up", str(example), "--state", str(state)]
    with process(*up, "--port", "0", log=folder / "mesh.log") as root:
        url: list[str] = []
        wait_for(
            lambda: _ready(state, url),
            f"the mesh ({folder / 'mesh.log'})",
            timeout_s=START_S,
        )
        verified = Mesh(url[-1], state / "client-policy.toml", root.pid)
        try:
            yield verified
        finally:
            verified.close()


def _ready(state: Path, url: list[str]) -> bool:
    try:
        url.append(json.loads((state / "run" / "status.json").read_text())["url"])
        with wardian.connect(url[-1], policy=state / "client-policy.toml") as client:
            return client.ready()
    except (OSError, ValueError, KeyError, WardianError):
        return False


@contextmanager
def twins(folder: Path, rows: Mapping[str, Floats], policy: Path) -> Iterator[dict[str, Twin]]:
    """Start a clear twin for each model in `folder`, of which `rows` has inputs; end them after."""
    key, _, cert, _ = identity(folder)
    with ExitStack() as stack:
        found: dict[str, Twin] = {}
        for name in rows:
            port, queue = free_port(), folder / f"{name}.sock"
            me, log = [sys.executable, str(BENCH / "clear_twin.py")], folder / f"{name}-twin.log"
            front = [*me, "frontend", str(key), str(cert), str(port), str(queue)]
            fronts = stack.enter_context(process(*front, env=AS_A_ROLE, log=log))
            work = [*me, "worker", str(folder / f"{name}.onnx"), str(queue)]
            works = stack.enter_context(process(*work, env=AS_A_ROLE, log=log))
            pids = [fronts.pid, works.pid]
            twin = _first_answer(lambda: Twin(port, policy, pids), rows[name], log)  # noqa: B023
            stack.callback(twin.close)
            found[name] = twin
        yield found


def _first_answer(connect: Callable[[], Twin], x: Floats, log: Path) -> Twin:
    """Return a twin once it answers."""
    found: list[Twin] = []

    def answers() -> bool:
        try:
            twin = connect()
        except WardianError:
            return False
        try:
            twin.scores(x)
        except WardianError:
            twin.close()
            return False
        found.append(twin)
        return True

    wait_for(answers, f"a clear twin ({log})")
    return found[-1]
