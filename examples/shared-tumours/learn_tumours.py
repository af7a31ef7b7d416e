"""Three owners train one model on sealed tables, each under its own policy: `make learn`.

Every step is a command that an owner or the operator would type; here one process types them all.
SIMULATED: no hardware protects anything on this machine, and all keys lie on it.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import plans
from clear_models import compare
from tumour_tables import TABLES, load_tumours

import wardian
from wardian.cli.mesh.files import read_manifest
from wardian.cli.state import StateDir
from wardian.cli.up.owner import write_client_policy
from wardian.errors import JobFailed
from wardian.tee.launch.simulation import open_platform

OWNERS = tuple(TABLES)
WARDIAN = (sys.executable, "-m", "wardian.cli")
PATIENCE_S = 60.0


class Play:
    """All the parts, on one machine."""

    def __init__(self, place: Path) -> None:
        self.place, self.state = place, place / "mesh"
        self.tumours = load_tumours()
        self.keys: dict[str, tuple[str, str]] = {}
        self.measured: dict[str, str] = {}
        self.root = ""
        self.processes: list[subprocess.Popen[bytes]] = []

    def wardian(self, *words: object, said: bool = True) -> str:
        """Run a command and return what it prints."""
        command = [str(each) for each in words]
        if said:
            shown = " ".join(word.replace(f"{self.place}/", "") for word in command)
            print(f"  $ wardian {shown[:150]}", flush=True)
        done = subprocess.run(
            [*WARDIAN, *command], capture_output=True, text=True, cwd=self.place, check=False
        )
        if done.returncode:
            raise JobFailed(f"wardian {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def file(self, name: str, content: str | bytes = "") -> Path:
        """Return the file `name`, with `content` if that is given."""
        path = self.place / name
        if content:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def make_mesh(self) -> None:
        """Owners make keys, and agree on code: of a broker, a job, and who serves what it made."""
        step("Every owner makes its keys; all sign which code the mesh runs")
        for owner in OWNERS:
            public = self.wardian("owner", "keygen", "--out", self.file(f"{owner}.key"))
            seal_to = self.wardian("keygen", self.file(f"{owner}.identity"), said=False)
            self.keys[owner] = (public, seal_to)
        state = StateDir.open(self.state)
        agreed = plans.agreed({owner: key for owner, (key, _) in self.keys.items()})
        state.agreed.write_text(agreed)
        for role in ("broker", "job", "frontend", "worker"):
            built = self.wardian("enclave", "build", role, "--deployment", state.agreed,
                                 "-o", state.enclave, "--json")  # fmt: skip
            self.measured[role] = json.loads(built)["simulated_mr_enclave"]
        values = self.file("reference-values.toml")
        manifests = sorted(state.enclave.glob("*.manifest"))
        self.wardian("enclave", "measure", *manifests, "-o", values, said=False)
        self.root = open_platform(state.simulation).root_sha256.hex()
        self.wardian("mesh", "new", "--agreed", state.agreed, "--reference-values", values,
                     "--simulation-root", self.root, "-o", state.manifest)  # fmt: skip
        for owner in OWNERS:
            self.wardian("mesh", "sign", state.manifest, "--agreed", state.agreed,
                         "--key", self.file(f"{owner}.key"))  # fmt: skip

    def give_tables(self) -> None:
        """Every owner seals its table, signs a policy, and gives both to the attested broker."""
        step("Every owner seals its table, and signs what may be learnt from it")
        at_broker = ("--state", self.state)
        self.wardian("mesh", "propose", self.state / "manifest.json", *at_broker,
                     "--key", self.file(f"{OWNERS[0]}.key"))  # fmt: skip
        for owner in OWNERS:
            name, key = TABLES[owner], self.file(f"{owner}.key")
            clear = self.file(f"{name}.csv", self.tumours.table(owner))
            sealed = json.loads(self.wardian("seal", clear, "--new-key",
                                             self.file(f"{name}.key"), "--json"))  # fmt: skip
            clear.unlink()
            draft = plans.policy(owner, tumours=self.tumours, parties=self.parties,
                                 pin=sealed["pin"], measurement=self.measured["job"],
                                 worker=self.measured["worker"], root=self.root,
                                 names=OWNERS)  # fmt: skip
            signed = self.file(f"{name}.policy")
            self.wardian("policy", "sign", self.file(f"{name}.toml", draft), "--key", key,
                         "-o", signed, said=False)  # fmt: skip
            self.wardian("policy", "give", signed, *at_broker, "--key", key,
                         "--table-key", self.file(f"{name}.key"))  # fmt: skip

    @property
    def parties(self) -> str:
        """Who the owners' names are, as every file says it."""
        return plans.parties(self.keys)

    def run_job(self) -> dict[str, bytes]:
        """One plans a job; the operator runs it; two approve; each opens what is its own."""
        step("A job is planned; the operator submits it; it is held until two approve")
        text = plans.job(tumours=self.tumours, parties=self.parties,
                         worker=self.measured["worker"], names=OWNERS)  # fmt: skip
        plan, job = self.file("job.toml", text), self.place / "job"
        policies = [f"--policy={self.file(f'{TABLES[owner]}.policy')}" for owner in OWNERS]
        self.wardian("job", "plan", plan, *policies)
        tables = [
            f"--table={owner}/{name}={self.file(f'{name}.csv.sealed')}"
            for owner, name in TABLES.items()
        ]
        self.wardian("job", "submit", plan, *tables, "--state", self.state, "-d", job)
        self.until(job, "held")
        print(self.wardian("job", "status", job))
        for owner in OWNERS[:2]:
            self.wardian("job", "approve", job, "--state", self.state,
                         "--policy", self.file(f"{TABLES[owner]}.policy"),
                         "--key", self.file(f"{owner}.key"))  # fmt: skip
        self.until(job, "exported")
        print(self.wardian("job", "report", job, "--state", self.state,
                           "--html", self.file("report.html")))  # fmt: skip
        found = {}
        for output in ("model", "metrics"):
            out = self.file(f"hospital.{output}")
            self.wardian("job", "result", job, "--state", self.state, "--party", "hospital",
                         "--output", output, "-o", out,
                         "--identity", self.file("hospital.identity"))  # fmt: skip
            found[output] = out.read_bytes()
        return found

    def serve(self) -> None:
        """One owner writes the line of the model that the job made; all sign; workers serve it."""
        step("The model goes straight to be served: its key never left the broker and the job")
        state, out = StateDir(self.state), self.place / "job" / "out"
        sealed = out / "model.serving.sealed"
        line, newer = self.file("model.line"), self.file("manifest-2.json")
        owner = self.file(f"{OWNERS[0]}.key")
        self.wardian("owner", "model", sealed, "--export", out / "exported.json", "--agreed",
                     state.agreed, "--key", owner, "--measurement", self.measured["worker"],
                     "-o", line)  # fmt: skip
        self.wardian("mesh", "new", "--agreed", state.agreed, "--previous", state.manifest,
                     "--line", line, "-o", newer)  # fmt: skip
        for name in OWNERS:
            self.wardian("mesh", "sign", newer, "--agreed", state.agreed, "--previous",
                         state.manifest, "--key", self.file(f"{name}.key"), said=False)  # fmt: skip
        self.wardian("mesh", "propose", newer, "--state", self.state, "--key", owner)
        shutil.copy(newer, state.manifest)
        shutil.copy(sealed, state.sealed_model(plans.MODEL, 1))
        ready = self.start("frontend", "--port", "0", until="frontend.ready")
        self.start("worker", "--model", plans.MODEL, until="worker.ready")
        signed, _ = read_manifest(state.manifest)
        write_client_policy(
            state.client_policy,
            signed=signed,
            frontend=bytes.fromhex(self.measured["frontend"]),
            simulation_root_sha256=bytes.fromhex(self.root),
        )
        tried = self.tumours.tried
        values = self.tumours.values_of(tried, self.tumours.features()).astype(np.float32)
        url = f"https://{ready['address']}:{ready['port']}"
        with wardian.connect(url, policy=state.client_policy) as client:
            answer = client.infer(plans.MODEL, {"input": values})
        right = (np.ravel(answer["label"]) == self.tumours.labels[tried]).mean()
        print(f"  {len(tried)} tumours asked over HTTPS, after evidence: {right:.4f} right")

    def start(self, *words: str, until: str) -> dict[str, Any]:
        """Start a process of the mesh and return what it announces as the event `until`."""
        log = self.file(f"{words[0]}.log")
        command = [*WARDIAN, *words, "--state", str(self.state)]
        print(f"  $ wardian {' '.join(words)} &")
        with log.open("wb") as output:
            self.processes.append(
                subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            )
        late = time.monotonic() + PATIENCE_S
        while time.monotonic() < late:
            for line in log.read_text().splitlines():
                told: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
                if told.get("event") == until:
                    return told
            time.sleep(0.1)
        raise JobFailed(f"{words[0]} is not there after {PATIENCE_S:.0f} s; see {log}")

    def stop(self) -> None:
        """End every process that was started."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait()

    def until(self, job: Path, state: str) -> None:
        """Wait until the job is in `state`."""
        late = time.monotonic() + PATIENCE_S
        while time.monotonic() < late:
            told = json.loads(self.wardian("job", "status", job, "--json", said=False))["said"]
            if told and told["state"] == state:
                return
            time.sleep(0.2)
        raise JobFailed(f"the job is not {state} after {PATIENCE_S:.0f} s")


def step(text: str) -> None:
    """Say what comes."""
    print(f"\n{text}", flush=True)


def main() -> None:
    """Play all of it in a directory of its own, or in the one that is named."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wardian-") as scratch:
        place = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(scratch)
        place.mkdir(mode=0o700, exist_ok=True)
        play = Play(place)
        play.make_mesh()
        try:
            play.start("broker", until="broker.listening")
            play.give_tables()
            found = play.run_job()
            play.serve()
        finally:
            play.stop()
        print(found["metrics"].decode())
        compare(play.tumours, found["model"])
    print(f"\n{time.monotonic() - began:.0f} s. SIMULATED: the enclaves were processes.")


if __name__ == "__main__":
    main()
