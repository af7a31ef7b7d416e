"""Writes the list of files that each role really opens, for this Python and this kind of machine.

Runs every role's self-test under strace, and with it what the end-to-end tests do to whole meshes,
and keeps the files that were opened. For the standard library it adds what the opened modules
import only later, inside their functions, and what that needs in turn: an error path must not end
in a module that nobody traced. Wardian's own modules are not listed: the role table names them.

Run it (`make trace`) after a change of the lock file or of what a role imports; commit the result.
"""

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
from wardian.tee.manifest.bytecode import FOLDER
from wardian.tee.manifest.candidates import find_candidates
from wardian.tee.manifest.file_lists import (
    FOLDER as LISTS,
)
from wardian.tee.manifest.file_lists import (
    FORMAT,
    installed_versions,
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
    *("tests/fault/test_keepers_killed.py", "tests/e2e/test_redis_mesh.py"),
    *("tests/e2e/test_grpc_on_mesh.py", "tests/e2e/test_zoo_redis_on_mesh.py"),
    *("tests/e2e/test_zoo_https_on_mesh.py", "tests/e2e/test_federated_processes.py"),
    *(
        "tests/e2e/test_readme.py",
        "tests/e2e/test_key_refused.py",
        "tests/fault/test_worker_killed.py",
    ),
)
"""Tests that drive whole meshes, into their errors too."""

_EXEC = re.compile(r'execve\(".*?", \[.*?"wardian\.roles\.(\w+)"')
_CLONE = re.compile(r"clone3?\(.*\) = (\d+)$")
_OPENED = re.compile(r"openat\(.*\) = \d+<(.*?)>$")


def main() -> int:
    """Trace, and write the list."""
    if shutil.which("strace") is None:
        print("trace: strace is not installed", file=sys.stderr)
        return 1
    TARGET.unlink(missing_ok=True)  # so that roles may open every candidate
    opened: dict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory(prefix="wardian-trace-") as scratch:
        state = Path(scratch) / "state"
        run("up", Path(scratch), sys.executable, "-m", "wardian.cli", "up", str(EXAMPLE),
            "--state", str(state), "--once", "--port", "0")  # fmt: skip
        keeper = Path(scratch) / "keeper.toml"
        keeper.write_text('service = "keeper"\n')
        run("build", Path(scratch), sys.executable, "-m", "wardian.cli", "enclave", "build",
            "keeper", "--deployment", str(keeper), "-o", str(state / "keeper-enclave"))  # fmt: skip
        run("build-zoo", Path(scratch), sys.executable, "-m", "wardian.cli", "enclave", "build",
            "zoo", "--deployment", str(state / "wardian.toml"),
            "-o", str(state / "enclave"))  # fmt: skip
        for role in ROLES:
            run(role, Path(scratch), sys.executable, "-m", "wardian.cli", "enclave", "run", role,
                "--state", str(state), "--self-test")  # fmt: skip
        tests = ("-q", "-x", "--timeout", "600", *WORKLOAD)
        run("tests", Path(scratch), sys.executable, "-m", "pytest", *tests)
        for role, path in traced(Path(scratch)):
            opened[role].add(path)
    roles = {role: sorted(listed(role, opened[role])) for role in sorted(ROLES)}
    TARGET.parent.mkdir(exist_ok=True)
    lists = {
        "format": FORMAT,
        "lock_sha256": hashlib.sha256((REPOSITORY / "requirements.lock").read_bytes()).hexdigest(),
        "distributions": installed_versions(
            tuple(sorted({name for spec in ROLES.values() for name in spec.distributions}))
        ),
        "roles": roles,
    }
    TARGET.write_text(json.dumps(lists, indent=1) + "\n")
    for role, names in roles.items():
        print(f"{role}: {len(names)} files")
    return 0


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
