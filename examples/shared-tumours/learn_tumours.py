"""Three owners train one model on sealed tables, each under its own policy: `make learn`.

Every step is a command that an owner or the operator would type; here one process types them all.
SIMULATED: no hardware protects anything on this machine, and all keys lie on it.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import plans
from clear_models import accuracy, trained
from tumour_tables import TABLES, Tumours, load_tumours

from wardian.cli.state import StateDir
from wardian.errors import JobFailed
from wardian.tee.launch.simulation import open_platform

OWNERS = tuple(TABLES)
WARDIAN = (sys.executable, "-m", "wardian.cli")
PATIENCE_S = 60.0
SHUFFLES = 20


class Play:
    """All the parts, on one machine."""

    def __init__(self, place: Path) -> None:
        self.place, self.state = place, place / "mesh"
        self.tumours = load_tumours()
        self.keys: dict[str, tuple[str, str]] = {}
        self.measurement = self.root = ""

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
        """Owners make keys, and agree on code: a broker's and a job's."""
        step("Every owner makes its keys; all sign which code the mesh runs")
        for owner in OWNERS:
            public = self.wardian("owner", "keygen", "--out", self.file(f"{owner}.key"))
            seal_to = self.wardian("keygen", self.file(f"{owner}.identity"), said=False)
            self.keys[owner] = (public, seal_to)
        state = StateDir.open(self.state)
        agreed = plans.agreed({owner: key for owner, (key, _) in self.keys.items()})
        state.agreed.write_text(agreed)
        for role in ("broker", "job"):
            built = self.wardian("enclave", "build", role, "--deployment", state.agreed,
                                 "-o", state.enclave, "--json")  # fmt: skip
            self.measurement = json.loads(built)["simulated_mr_enclave"]
        values = self.file("reference-values.toml")
        manifests = sorted(state.enclave.glob("*.manifest"))
        self.wardian("enclave", "measure", *manifests, "-o", values, said=False)
        self.root = open_platform(state.simulation).root_sha256.hex()
        self.wardian("mesh", "new", "--agreed", state.agreed, "--reference-values", values,
                     "--simulation-root", self.root, "-o", state.manifest)  # fmt: skip
        for owner in OWNERS:
            self.wardian("mesh", "sign", state.manifest, "--agreed", state.agreed,
                         "--key", self.file(f"{owner}.key"))  # fmt: skip

    def await_broker(self) -> None:
        """Wait until the operator's broker listens."""
        late = time.monotonic() + PATIENCE_S
        while not StateDir(self.state).broker_address.exists():
            if time.monotonic() > late:
                raise JobFailed(f"the broker does not listen; see {self.file('broker.log')}")
            time.sleep(0.1)

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
                                 pin=sealed["pin"], measurement=self.measurement,
                                 root=self.root, names=OWNERS)  # fmt: skip
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
        text = plans.job(tumours=self.tumours, parties=self.parties, names=OWNERS)
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
            self.wardian("job", "approve", job, "--key", self.file(f"{owner}.key"))
        self.until(job, "exported")
        print(self.wardian("job", "report", job, "--html", self.file("report.html")))
        found = {}
        for output in ("model", "metrics"):
            out = self.file(f"hospital.{output}")
            self.wardian("job", "result", job, "--party", "hospital", "--output", output,
                         "--identity", self.file("hospital.identity"), "-o", out)  # fmt: skip
            found[output] = out.read_bytes()
        return found

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


def compare(tumours: Tumours, model: bytes) -> None:
    """Try the joint model and that of the pooled clear table; and who is how good on the whole."""
    step(f"On {len(tumours.tried)} tumours that nobody had")
    pooled = trained(tumours, tumours.joint, tumours.names)
    print(f"  pooled, in the clear {accuracy(tumours, pooled, tumours.names):.4f}")
    print(f"  joint, sealed        {accuracy(tumours, model, tumours.names):.4f}")
    if hashlib.sha256(model).digest() != hashlib.sha256(pooled).digest():
        raise JobFailed("the joint model is not the one of the pooled table")
    print("  the two are the same, byte by byte")
    step(
        f"Owners alone and together, on {SHUFFLES} other ways to deal the tumours out, in the clear"
    )
    others = [load_tumours(shuffle=1 + number) for number in range(SHUFFLES)]
    for owner in OWNERS:
        print(f"  {owner:10} alone {mean(alone(each, owner) for each in others):.4f}")
    together = (
        accuracy(each, trained(each, each.joint, each.names), each.names) for each in others
    )
    print(f"  together         {mean(together):.4f}")


def alone(tumours: Tumours, owner: str) -> float:
    """Return how good the model is that `owner` learns from its own table."""
    columns = tumours.columns[owner]
    return accuracy(tumours, trained(tumours, tumours.rows(owner), columns), columns)


def main() -> None:
    """Play all of it in a directory of its own, or in the one that is named."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wardian-") as scratch:
        place = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(scratch)
        place.mkdir(mode=0o700, exist_ok=True)
        play = Play(place)
        play.make_mesh()
        broker = subprocess.Popen(
            [*WARDIAN, "broker", "--state", str(play.state)],
            stdout=(place / "broker.log").open("wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            play.await_broker()
            play.give_tables()
            found = play.run_job()
        finally:
            broker.terminate()
            broker.wait()
        print(found["metrics"].decode())
        compare(play.tumours, found["model"])
    print(f"\n{time.monotonic() - began:.0f} s. SIMULATED: the enclaves were processes.")


if __name__ == "__main__":
    main()
