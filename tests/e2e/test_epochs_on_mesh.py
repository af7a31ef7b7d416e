"""A whole mesh under continuous load: epochs turn, a manifest changes, the broker is away."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import pytest
from mesh import DIGITS, RunningMesh, children_of

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.manifest import (
    SignedManifest,
    manifest_digest,
    parse_manifest,
    sign_manifest,
)
from wardian.broker.owners.client import order, provision
from wardian.broker.owners.goods import Goods
from wardian.broker.owners.session import Demands
from wardian.broker.status import Status, read_status
from wardian.cli.state import StateDir
from wardian.cli.up.owner import open_owner_key
from wardian.errors import AttestationError, PolicyDenied, TransportError
from wardian.serving.client.policy import ClientPolicy, load_client_policy
from wardian.serving.client.sync import connect

CLIENTS = 4
PICK_UP_S = 6.0
"""Within which a front end and its workers have taken up what is in force: two seconds until it is
asked, and a renewal each, on a machine that does much else."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    running = RunningMesh(state=tmp_path_factory.mktemp("epochs") / "state").start()
    try:
        yield running
    finally:
        running.stop()


class Owner:
    """What the owner of the mesh does on a machine of its own."""

    def __init__(self, mesh: RunningMesh) -> None:
        self.mesh, self.state = mesh, StateDir.open(mesh.state)
        self.key = open_owner_key(self.state)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.state.broker_address.read_text().strip().rpartition(":")
        return host, int(port)

    @property
    def signed(self) -> SignedManifest:
        return wire.decode(self.state.manifest.read_bytes(), SignedManifest, what="manifest")

    @property
    def demands(self) -> Demands:
        return Demands(
            agreed_toml=self.state.agreed.read_bytes(),
            policy=appraisal_policy(parse_manifest(self.signed), "broker"),
        )

    def turn(self) -> int:
        """Order another epoch and return it."""
        done = asyncio.run(
            order(
                self.address, owner=self.key, demands=self.demands, kind="turn-epoch", now=unix_time
            )
        )
        return done.receipt.epoch

    def put_in_force(self) -> int:
        """Sign the manifest anew under the next version, put it in force, return the epoch."""
        manifest = parse_manifest(self.signed)
        following = msgspec.structs.replace(
            manifest,
            version=manifest.version + 1,
            previous=manifest_digest(self.signed).hex(),
        )
        signed = sign_manifest(following, [self.key])
        done = asyncio.run(
            provision(
                self.address,
                owner=self.key,
                demands=self.demands,
                manifest=signed,
                goods=Goods(),
                now=unix_time,
            )
        )
        self.state.manifest.write_bytes(wire.encode(signed))
        return done.receipt.epoch

    def status(self) -> Status:
        return asyncio.run(read_status(self.address))


def events(mesh: RunningMesh, process: str) -> list[dict[str, object]]:
    lines = (mesh.state / "logs" / f"{process}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def taken_up(mesh: RunningMesh, epoch: int) -> float:
    """Return when the front end took up `epoch`, by its log; waits for it."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for each in events(mesh, "frontend"):
            if each["event"] == "epoch.taken-up" and each["epoch"] == epoch:
                return float(each["time"])  # type: ignore[arg-type]
        time.sleep(0.05)
    raise AssertionError(f"epoch {epoch} was not taken up: {events(mesh, 'frontend')[-5:]}")


def policy_of(mesh: RunningMesh) -> ClientPolicy:
    """A policy that lists every role, as a client has it that does not pin one manifest."""
    pinned = load_client_policy(mesh.policy)
    manifest = parse_manifest(Owner(mesh).signed)
    roles = {
        role: frozenset(bytes.fromhex(each) for each in reference.measurements)
        for role, reference in manifest.roles.items()
    }
    return ClientPolicy(evidence=pinned.evidence, roles=roles)


class Load:
    """Clients that ask without a pause and look at every answer."""

    def __init__(self, mesh: RunningMesh) -> None:
        with np.load(DIGITS / "heldout.npz") as data:
            self.images = (data["image"][:32] / 16).astype(np.float32)
        self.url, self.policy = mesh.url, policy_of(mesh)
        self.stopped = threading.Event()
        self.failures: list[Exception] = []
        self.answered = [0] * CLIENTS
        self.slowest_s = 0.0
        with connect(self.url, policy=self.policy) as client:
            self.name = client.models()[0]["name"]
            self.input = client.metadata(self.name)["inputs"][0]["name"]
            self.expected = client.infer(self.name, {self.input: self.images})
        self.threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(CLIENTS)]

    def ask(self, number: int) -> None:
        with connect(self.url, policy=self.policy) as client:
            while not self.stopped.is_set():
                began = time.monotonic()
                try:
                    got = client.infer(self.name, {self.input: self.images})
                    for name, array in self.expected.items():
                        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6)
                except Exception as err:  # noqa: BLE001 (the test tells of it)
                    self.failures.append(err)
                    continue
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.answered[number] += 1

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)

    def goes_on(self, seconds: float = 1.0) -> None:
        """Fail unless every client gets answers, and no failure, for so long."""
        before = list(self.answered)
        time.sleep(seconds)
        assert self.failures == []
        assert all(now > then for now, then in zip(self.answered, before, strict=True))


@pytest.mark.slow
def test_turned_epochs_and_a_new_manifest_cost_no_request(mesh: RunningMesh) -> None:
    owner = Owner(mesh)
    delays = []
    with Load(mesh) as load:
        for _ in range(3):
            epoch = owner.turn()
            turned = time.time()
            delays.append(taken_up(mesh, epoch) - turned)
            load.goes_on()
        epoch = owner.put_in_force()
        changed = time.time()
        delays.append(taken_up(mesh, epoch) - changed)
        load.goes_on(2.0)
    assert load.failures == []
    assert sum(load.answered) > 100
    assert max(delays) < PICK_UP_S, delays
    assert load.slowest_s < PICK_UP_S
    print(f"taken up after {[round(delay, 2) for delay in delays]} s; slowest {load.slowest_s:.2f}")
    starts = {each["name"]: each["starts"] for each in mesh.status["processes"]}
    assert set(starts.values()) == {1}  # nobody was started anew for it
    assert owner.status().epoch == epoch


def test_t21_who_pinned_the_manifest_of_before_is_not_served(mesh: RunningMesh) -> None:
    pinned = load_client_policy(mesh.policy)
    owner = Owner(mesh)
    taken_up(mesh, owner.put_in_force())
    with (
        pytest.raises((PolicyDenied, AttestationError)) as caught,
        connect(mesh.url, policy=pinned) as client,
    ):
        client.ready()
    assert "does not pin" in str(caught.value)


def test_curl_and_the_ca_file_of_the_start_still_work(
    mesh: RunningMesh, need_program: object
) -> None:
    """The mesh CA has not changed; the front end sends the new issuing CA along."""
    import subprocess

    curl = need_program("curl")  # type: ignore[operator]
    done = subprocess.run(
        [curl, "-sS", "--cacert", str(mesh.ca), f"{mesh.url}/v2/health/ready"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, json.loads(done.stdout)) == (0, {"ready": True}), done.stderr


@pytest.mark.slow
def test_workers_and_front_end_serve_while_no_broker_answers(mesh: RunningMesh) -> None:
    """It is stopped, so that whoever asks it waits; then killed, and it comes back by itself."""
    owner = Owner(mesh)
    pid = mesh.role_pid("broker")
    with Load(mesh) as load:
        os.kill(pid, signal.SIGSTOP)
        try:
            load.goes_on(5.0)
            assert not answers(owner)
        finally:
            os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)
        load.goes_on(1.0)
        end = time.monotonic() + 30
        while True:
            try:
                epoch = owner.turn()
                break
            except TransportError:
                assert time.monotonic() < end
                time.sleep(0.2)
        taken_up(mesh, epoch)  # where it listened before
        load.goes_on(1.0)
    assert load.failures == []
    starts = {each["name"]: each["starts"] for each in mesh.status["processes"]}
    assert starts.pop("broker") == 2
    assert set(starts.values()) == {1}


def answers(owner: Owner) -> bool:
    """Return whether the broker says anything within a second."""

    async def ask() -> None:
        async with asyncio.timeout(1):
            await read_status(owner.address)

    try:
        asyncio.run(ask())
    except (TransportError, TimeoutError):
        return False
    return True


def test_nothing_was_left_behind(mesh: RunningMesh, tmp_path: Path) -> None:
    """All of that in one mesh, whose every process is still the child of its engine."""
    assert len(mesh.pids()) >= 1 + 3
    assert children_of(mesh.process.pid)
    assert mesh.stop() == 0, mesh.screen
