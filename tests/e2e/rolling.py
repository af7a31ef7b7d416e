"""A mesh that changes while clients ask it: its commands, a balancer before it, and the load."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import wardian

PATIENCE_S = 40.0
"""The machine is shared."""
PASSED_ON = ("LANG", "LC_ALL", "TMPDIR")
BETWEEN_S = 0.005
"""Between an answer and the next request of the same client; what changes needs cores, too."""
RELEASES = ("venv", "venv-next")


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class Process:
    """One of the mesh's processes, as a service manager has it."""

    def __init__(self, site: "Site", line: str) -> None:
        self.line = line
        self.log = site.root / f"process-{len(site.processes)}.log"
        with self.log.open("w") as output:
            self.popen = subprocess.Popen(
                line.split(),
                cwd=site.root,
                env=site.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        site.processes.append(self)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return what it announced or logged as `event`, the oldest first."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [record for line in lines if (record := json.loads(line)).get("event") == event]

    def until(self, event: str) -> dict[str, Any]:
        """Return the first `event`; waits for it."""
        end = time.monotonic() + PATIENCE_S
        while not (found := self.said(event)):
            assert self.popen.poll() is None, f"{self.line} ended:\n{self.log.read_text()}"
            assert time.monotonic() < end, f"{self.line}: no {event}:\n{self.log.read_text()}"
            time.sleep(0.02)
        return found[0]

    def ended(self) -> int:
        """Return its exit status; waits for it."""
        return self.popen.wait(PATIENCE_S)

    def stop(self) -> int:
        """End it as a service manager does, and return its exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.ended()


@dataclass
class Site:
    """A directory in which the commands of the guide are run, with two releases of Wardian."""

    root: Path
    processes: list[Process] = field(default_factory=list)

    def install(self, release: str, *, changes: Mapping[str, tuple[str, str]]) -> None:
        """Install Wardian, with `changes` (file: old and new text), as `RELEASE/bin/wardian`."""
        package = self.root / release / "lib" / "wardian"
        source = Path(wardian.__file__).parent
        shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
        for name, (old, new) in changes.items():
            text = (package / name).read_text()
            assert text.count(old) == 1, (name, old)
            (package / name).write_text(text.replace(old, new))
        program = self.root / release / "bin" / "wardian"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH="{package.parent}" exec "{sys.executable}" -P -m wardian.cli "$@"\n'
        )
        program.chmod(0o700)

    @property
    def environment(self) -> dict[str, str]:
        known = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return {**known, "PATH": f"{self.root / RELEASES[0] / 'bin'}:{os.environ['PATH']}"}

    def run(self, script: str, *, status: int = 0) -> str:
        """Run `script` as a shell does, and return what it printed."""
        done = subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=4 * PATIENCE_S,
        )
        assert done.returncode == status, f"{script}\n{done.stdout}"
        return done.stdout

    def start(self, line: str) -> Process:
        """Start a process of the mesh."""
        return Process(self, line)

    def end(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.ended()
            process.popen.kill()


class Balancer:
    """Passes TCP connections through to its targets in turn; sees TLS records and opens none."""

    def __init__(self, *ports: int) -> None:
        self.targets = list(ports)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Accept nothing more; connections end by themselves."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(PATIENCE_S)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        for number in itertools.count():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            targets = self.targets
            self._start(self._pass_through, client, targets[number % len(targets)])

    def _start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()
        return thread

    def _pass_through(self, client: socket.socket, port: int) -> None:
        with (
            client,
            contextlib.suppress(OSError),  # nobody listens there: the client is cut off
            socket.create_connection(("127.0.0.1", port), PATIENCE_S) as target,
        ):
            target.settimeout(None)
            answers = self._start(_copy, target, client)
            _copy(client, target)
            answers.join(PATIENCE_S)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on bytes until there are no more, and then that."""
    with contextlib.suppress(OSError):
        while data := source.recv(64 * 1024):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@dataclass
class Asked:
    """What became of one request; times of a monotonic clock."""

    began: float
    ended: float
    version: int


class Load:
    """Clients that ask all the time, and look at every answer.

    `right` says what each version of the model answers to each of `images`.
    """

    def __init__(
        self,
        url: str,
        *,
        policy: Path,
        images: NDArray[np.float32],
        right: Mapping[int, NDArray[np.float32]],
        clients: int = 4,
    ) -> None:
        self.url, self.policy, self.images, self.right = url, policy, images, right
        self.asked: list[list[Asked]] = [[] for _ in range(clients)]
        self.begun = [0] * clients
        self.failures: list[Exception] = []
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(clients)
        ]

    def _ask(self, number: int) -> None:
        with wardian.connect(self.url, policy=self.policy) as client:
            while not self._stopped.is_set():
                row = self.begun[number] % len(self.images)
                self.begun[number] += 1
                began = time.monotonic()
                try:
                    got = client.infer("digits", {"image": self.images[row : row + 1]})
                    version = self._version(row, got["probabilities"])
                except Exception as err:  # noqa: BLE001 (the test tells of it)
                    self.failures.append(err)
                    return
                self.asked[number].append(Asked(began, time.monotonic(), version))
                time.sleep(BETWEEN_S)

    def _version(self, row: int, got: NDArray[Any]) -> int:
        """Return the one version whose answer `got` is."""
        (version,) = (
            version
            for version, right in self.right.items()
            if np.allclose(got[0], right[row], rtol=1e-4, atol=1e-6)
        )
        return version

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def goes_on(self, answers: int = 20) -> set[int]:
        """Return which versions answer now; fail unless every client gets so many answers."""
        before = [len(asked) for asked in self.asked]
        end = time.monotonic() + PATIENCE_S
        while any(len(a) < b + answers for a, b in zip(self.asked, before, strict=True)):
            assert self.failures == [], self.failures[:3]
            assert time.monotonic() < end, self.told()
            time.sleep(0.02)
        recent = (asked[then:] for asked, then in zip(self.asked, before, strict=True))
        return {each.version for asked in recent for each in asked}

    def until_only(self, version: int) -> None:
        """Return once everybody gets answers of `version` and of no other."""
        end = time.monotonic() + PATIENCE_S
        while self.goes_on() != {version}:
            assert time.monotonic() < end, self.told()

    def told(self) -> dict[str, Any]:
        """Return the numbers."""
        all_of = sorted((each.ended, each.ended - each.began) for a in self.asked for each in a)
        ends = [ended for ended, _ in all_of]
        return {
            "requests": sum(self.begun),
            "answered": len(all_of),
            "failures": len(self.failures),
            "seconds": round(ends[-1] - ends[0], 1) if ends else 0,
            "slowest_s": round(max((took for _, took in all_of), default=0), 3),
            "longest_gap_s": round(max((b - a for a, b in itertools.pairwise(ends)), default=0), 3),
        }

    def versions_in_order(self) -> Iterator[list[int]]:
        """Yield, for each client, the versions that answered it, without repetition."""
        for asked in self.asked:
            seen: list[int] = []
            for each in asked:
                if seen[-1:] != [each.version]:
                    seen.append(each.version)
            yield seen
