"""Writes the list of files that each role really opens, for this Python and this kind of machine.

Runs every role's self-test under strace, and with it what the end-to-end tests do to whole meshes,
and keeps the files that were opened. For the standard library it adds what the opened modules
import only later, inside their functions, and what that needs in turn: an error path must not end
in a module that nobody traced. Wardian's own modules are not listed: the role table names them.

Run it (`make trace`) after a change of the lock file or of what a role imports; commit the result.
"""

import argparse
import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import wardian
from wardian.cli.state import StateDir
from wardian.tee.manifest.bytecode import FOLDER
from wardian.tee.manifest.candidates import find_candidates, installed_versions
from wardian.tee.manifest.file_lists import (
    FOLDER as LISTS,
)
from wardian.tee.manifest.file_lists import (
    FORMAT,
    list_name,
)
from wardian.tee.role_table import ROLES

REPOSITORY = Path(__file__).parents[1]
TARGET = Path(wardian.__file__).parent / "tee" / "manifest" / LISTS / list_name()
EXAMPLE = REPOSITORY / "examples" / "digits"
WORKLOAD = (
    *("tests/e2e/test_up.py", "tests/e2e/test_bad_input.py", "tests/e2e/test_triton_on_mesh.py"),
    *("tests/e2e/test_kbs.py", "tests/fault/test_broker_killed.py"),
    *("tests/e2e/test_sealed_on_mesh.py", "tests/e2e/test_tenants_on_mesh.py"),
    "tests/e2e/test_redis_mesh.py",
    *("tests/e2e/test_grpc_on_mesh.py", "tests/e2e/test_zoo_redis_on_mesh.py"),
    "tests/e2e/test_zoo_https_on_mesh.py",
    *(
        "tests/e2e/test_readme.py",
        "tests/e2e/test_key_refused.py",
        "tests/fault/test_worker_killed.py",
    ),
)
"""Tests that drive whole meshes, into their errors too."""
OF_THEIR_OWN = {
    "aggregator": (
        (
            'name = "one"\nrun = { rounds = 1, quorum = 1 }\nstrategy = { name = "fedavg" }\n'
            f'parties = {{ a = {{ key = "{"ab" * 32}" }} }}\n'
        ),
        "tests/e2e/test_federated_processes.py",
    ),
    "keeper": ('service = "keeper"\n', "tests/fault/test_keepers_killed.py"),
    "job": (
        f'[mesh]\nname = "one"\nowners = ["{"ab" * 32}"]\n[models.m]\n',
        "tests/e2e/test_learn_tumours.py",
    ),
}
"""Roles that `wardian up` has not: what is agreed of them, and the tests that drive them."""

_EXEC = re.compile(r'execve\(".*?", \[.*?"wardian\.roles\.(\w+)"')
_CLONE = re.compile(r"clone3?\(.*\) = (\d+)$")
_OPENED = re.compile(r"openat\(.*\) = \d+<(.*?)>$")


def main() -> int:
    """Trace, and write the list; with names those roles' alone, and the others' stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roles", nargs="*", metavar="ROLE", help=" or ".join(OF_THEIR_OWN))
    only = frozenset(parser.parse_args().roles)
    if shutil.which("strace") is None or not only <= OF_THEIR_OWN.keys():
        print("trace: strace is not installed, or no such role", file=sys.stderr)
        return 1
    kept = json.loads(TARGET.read_text())["roles"] if only else {}
    kept = {role: names for role, names in kept.items() if role not in only}
    write_lists(kept)  # so that roles may open every candidate
    opened: dict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory(prefix="wardian-trace-") as scratch:
        trace(Path(scratch), only)
        for role, path in traced(Path(scratch)):
            opened[role].add(path)
    found = {role: sorted(listed(role, opened[role])) for role in ROLES if role not in kept}
    write_lists(kept | found)
    for role, names in found.items():
        print(f"{role}: {len(names)} files")
    return 0


def trace(scratch: Path, only: frozenset[str]) -> None:
    """Have roles do what they do, under strace: all, or those of `only`."""
    state, cli = scratch / "state", (sys.executable, "-m", "wardian.cli")
    state.mkdir(mode=0o700, exist_ok=True)
    if not only:
        run("up", scratch, *cli, "up", str(EXAMPLE), "--state", str(state), "--once", "--port", "0")
        run("build-zoo", scratch, *cli, "enclave", "build", "zoo", "--deployment",
            str(state / "wardian.toml"), "-o", str(state / "enclave"))  # fmt: skip
    for role in only or OF_THEIR_OWN:
        agreed = scratch / f"{role}.toml"
        agreed.write_text(OF_THEIR_OWN[role][0])
        run(f"build-{role}", scratch, *cli, "enclave", "build", role, "--deployment", str(agreed),
            "-o", str(StateDir(state).enclave_of(role)))  # fmt: skip
    for role in only or ROLES:
        run(role, scratch, *cli, "enclave", "run", role, "--state", str(state), "--self-test")
    own = [OF_THEIR_OWN[role][1] for role in sorted(only or OF_THEIR_OWN)]
    tests = ("-q", "-x", "--timeout", "600", *(() if only else WORKLOAD), *own)
    run("tests", scratch, sys.executable, "-m", "pytest", *tests)


def write_lists(roles: Mapping[str, list[str]]) -> None:
    """Write which files each role opens, as `file_lists` reads it."""
    TARGET.parent.mkdir(exist_ok=True)
    used = {name for spec in ROLES.values() for name in (*spec.distributions, *spec.optional)}
    lists = {
        "format": FORMAT,
        "lock_sha256": hashlib.sha256((REPOSITORY / "requirements.lock").read_bytes()).hexdigest(),
        "distributions": installed_versions(tuple(sorted(used))),
        "roles": dict(sorted(roles.items())),
    }
    TARGET.write_text(json.dumps(lists, indent=1) + "\n")


def run(name: str, scratch: Path, *command: str) -> None:
    """Run `command` under strace; its traces go to `scratch`."""
    print(f"trace: {name} ...", flush=True)
    output = str(scratch / f"trace-{name}")
    tracer = ("strace", "-ff", "--seccomp-bpf", "-y", "-s", "4096")
    calls = "trace=openat,execve,clone,clone3"
    done = subprocess.run([*tracer, "-e", calls, "-o", output, *command], cwd=REPOSITORY,
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode != 0:
        print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr)
        raise SystemExit(f"trace: {name} failed under strace with status {done.returncode}")


def traced(scratch: Path) -> Iterator[tuple[str, str]]:
    """Yield (role, path) for each file that a thread of a role's process opened."""
    lines = {path.name.rpartition(".")[2]: path for path in scratch.glob("trace-*.*")}
    for path in lines.values():
        text = path.read_text(errors="replace")
        if (found := _EXEC.search(text)) is None or found.group(1) not in ROLES:
            continue
        todo, seen = [text[found.end() :]], set()
        while todo:
            part = todo.pop()
            for line in part.splitlines():
                if opened := _OPENED.search(line):
                    yield found.group(1), opened.group(1)
                if (thread := _CLONE.search(line)) and thread.group(1) not in seen:
                    seen.add(thread.group(1))
                    if thread.group(1) in lines:
                        todo.append(lines[thread.group(1)].read_text(errors="replace"))


def listed(role: str, opened: Iterable[str]) -> set[str]:
    """Return the names of the candidates among the `opened` paths, with what they import later."""
    candidates = find_candidates(role)
    names = {sought(path): name for name, path in candidates.items()}
    found = {names[path] for path in map(source_of, opened) if path in names}
    found |= later_imports(found, candidates)
    return {name for name in found if not name.startswith(("app/", "python/"))}


def sought(path: Path) -> str:
    """Return what `source_of` makes of the trace of `path`: extension modules keep their names."""
    return str(path.resolve())


def source_of(opened: str) -> str:
    """Return the source whose bytecode was `opened`, or the path itself."""
    _, found, place = opened.partition(f"enclave/{FOLDER}/")  # also keeper-enclave/
    if not found:
        return opened
    folder, _, name = place.rpartition("/")
    return f"/{folder}/{name.partition('.')[0]}.py"


def later_imports(found: set[str], candidates: Mapping[str, Path]) -> set[str]:
    """Return what modules of the standard library in `found` import when a function runs."""
    library = {name: path for name, path in candidates.items() if name.startswith("stdlib/")}
    known = {module_name(name): name for name in library if name.endswith(".py")}
    dynload = {
        name.partition("/")[2].partition(".")[0]: name
        for name in candidates
        if name.startswith("dynload/")
    }
    added: set[str] = set()
    todo = [(name, True) for name in found if name in library]
    while todo:
        name, anywhere = todo.pop()
        for module in imports(library[name], module_name(name), anywhere=anywhere):
            if module in dynload:
                added.add(dynload[module])
            listed_name = known.get(module)
            if listed_name and listed_name not in found | added:
                added.add(listed_name)
                todo.append((listed_name, False))
    return added


def module_name(name: str) -> str:
    """Return the module that `stdlib/a/b.py` is."""
    return name.removeprefix("stdlib/").removesuffix(".py").removesuffix("/__init__").replace(
        "/", "."
    )  # fmt: skip


def imports(path: Path, module: str, *, anywhere: bool) -> set[str]:
    """Return the modules that the file imports: at its top level, or `anywhere` in it."""
    tree = ast.parse(path.read_bytes())
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree) if anywhere else top_level(tree.body):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join((above if node.level else []) + ([node.module] if node.module else []))
            found.update({base, *(f"{base}.{alias.name}" for alias in node.names)})
    return {
        ".".join(name.split(".")[:end]) for name in found for end in range(1, name.count(".") + 2)
    }


def top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported, those in branches included."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from top_level(getattr(node, part, ()))


if __name__ == "__main__":
    sys.exit(main())
