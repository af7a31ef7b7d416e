"""Answers for computation among several parties: SPU (SecretFlow), one process for each party.

Runs in the environment of `make mpc`. ABY3: three parties, of whom no two may collude. CHEETAH: two
parties, without a dealer. The client of an inference is none of them: it shares its input, and puts
the shares of the scores together; the owner has shared the weights before. Programs are compiled
and run once before anything is timed: the first run sets up oblivious transfer.

    python bench/compare/mpc.py ABY3|CHEETAH FOLDER BATCH ...
"""

import multiprocessing
import pickle
import socket
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spu.api
from asked import answer_all
from mpc_party import Shared, config_of, from_share, party, silence, to_share
from nets import SIDE, Net, load_net, rows_of
from spu import libspu
from spu.utils import frontend

PARTIES = {"ABY3": 3, "CHEETAH": 2}
NETS = ("lr", "mlp", "mlp-relu", "cnn")
SECRET = libspu.Visibility.VIS_SECRET
SETTLE_S = 0.05
"""After a run, until every link has written what it had to."""


def function_of(net: Net) -> Any:
    """Return the network as SPU takes it: of x and the weights, in the order of their names."""
    names = sorted(net.weights)

    def scores(x: Any, *weights: Any) -> Any:
        given = dict(zip(names, weights, strict=True))
        if net.activation:
            if net.convolves:
                images = x.reshape(-1, 1, SIDE, SIDE)
                maps = jax.lax.conv_general_dilated(images, given["first"], (1, 1), "VALID")
                x = (maps + given["first_bias"][None, :, None, None]).reshape(len(x), -1)
            else:
                x = x @ given["first"] + given["first_bias"]
            x = x * x if net.activation == "square" else jnp.maximum(x, 0)
        return x @ given["last"] + given["last_bias"]

    return scores


def program_of(net: Net, batch: int) -> bytes:
    """Return what SPU runs for `net` and so many rows."""
    names = sorted(net.weights)
    arrays = [np.zeros((batch, net.inputs), np.float32), *(net.weights[name] for name in names)]
    variables = ["x", *(f"{net.name}.{name}" for name in names)]
    program, _ = frontend.compile(
        frontend.Kind.JAX, function_of(net), arrays, {}, variables, [SECRET] * len(arrays),
        lambda _: ["scores"],
    )  # fmt: skip
    raw: bytes = program.SerializeToString()
    return raw


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Client:
    """Whoever wants an inference; it starts the parties, too."""

    def __init__(self, protocol: str, folder: Path, batches: list[int]) -> None:
        """Read nets and inputs from `folder`; start nothing yet."""
        self._protocol, self._batches = protocol, batches
        self._nets = {name: load_net(folder, name) for name in NETS}
        with np.load(folder / "inputs.npz") as data:
            self._inputs = {name: data[name] for name in NETS}
        self._io = spu.api.Io(PARTIES[protocol], config_of(protocol))
        self._pipes: list[Any] = []

    def begin(self) -> dict[str, Any]:
        """Start the parties, share the weights, run everything once."""
        spawn = multiprocessing.get_context("spawn")
        ports = free_ports(PARTIES[self._protocol])
        for rank in range(len(ports)):
            ours, theirs = spawn.Pipe()
            arguments = (rank, ports, self._protocol, theirs)
            spawn.Process(target=party, args=arguments, daemon=True).start()
            theirs.close()
            self._pipes.append(ours)
        owned = {name: self._share_weights(net) for name, net in self._nets.items()}
        once = 0
        for net in self._nets.values():
            for batch in self._batches:
                self._tell_all("program", f"{net.name}@{batch}", program_of(net, batch))
                self.answer(net.name, 0, batch)
                once = once or self._written()  # links, oblivious transfer, the first run
        return {
            "version": f"SPU {version('spu')}",
            "once_bytes": {name: count + once for name, count in owned.items()},
        }

    def answer(self, net: str, start: int, batch: int) -> dict[str, Any]:
        """Return scores, seconds and bytes of one request."""
        x = rows_of(self._inputs[net], start, batch)
        before, program = self._written(), f"{net}@{batch}"
        times, cpu = [time.perf_counter()], time.process_time()
        asked = [from_share(share) for share in self._io.make_shares(x, SECRET)]
        times.append(time.perf_counter())
        for pipe, share in zip(self._pipes, asked, strict=True):
            pipe.send_bytes(pickle.dumps(("run", program, share)))
        told = [pickle.loads(pipe.recv_bytes()) for pipe in self._pipes]
        answered = [share for share, _ in told]
        times.append(time.perf_counter())
        scores = self._io.reconstruct([to_share(each) for each in answered])
        times.append(time.perf_counter())
        cpu = time.process_time() - cpu + sum(spent for _, spent in told)
        time.sleep(SETTLE_S)
        moved = self._written() - before
        return {
            "seconds": times[-1] - times[0],
            "cpu_s": cpu,
            "steps": dict(
                zip(("share", "run", "reconstruct"), np.diff(times).tolist(), strict=True)
            ),
            "bytes": moved + sum(map(share_bytes, (*asked, *answered))),
            "scores": np.asarray(scores, np.float64).tolist(),
        }

    def _share_weights(self, net: Net) -> int:
        """Give each party its shares of the weights; return how many bytes they are together."""
        shares = {
            f"{net.name}.{name}": [from_share(each) for each in self._io.make_shares(array, SECRET)]
            for name, array in net.weights.items()
        }
        for rank, pipe in enumerate(self._pipes):
            mine = {name: each[rank] for name, each in shares.items()}
            pipe.send_bytes(pickle.dumps(("share", "", mine)))
            pickle.loads(pipe.recv_bytes())
        return sum(share_bytes(share) for each in shares.values() for share in each)

    def _tell_all(self, what: str, name: str, content: Any) -> int:
        for pipe in self._pipes:
            pipe.send_bytes(pickle.dumps((what, name, content)))
        return sum(pickle.loads(pipe.recv_bytes()) for pipe in self._pipes)

    def _written(self) -> int:
        """Return how many bytes all parties together wrote to one another so far."""
        return self._tell_all("written", "", None)


def share_bytes(shared: Shared) -> int:
    """Return the bytes of one party's share."""
    meta, pieces = shared
    return len(meta) + sum(map(len, pieces))


if __name__ == "__main__":
    silence()
    client = Client(sys.argv[1], Path(sys.argv[2]), [int(each) for each in sys.argv[3:]])
    answer_all(client.begin, client.answer)
