"""Starts a role as a simulated enclave and plays processor and host for it until it ends.

In the foreground: one launcher, one role. The launcher measures the role, starts it with exactly
the command line and environment that it measured, answers its questions, and ends as it ends.
"""

import contextlib
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeAlias, assert_never

from wardian._internal import settings
from wardian._internal.log import Field, event
from wardian.errors import ConfigError, SealError, WardianError
from wardian.tee.launch.file_counters import FileCounters
from wardian.tee.launch.simulation import SimulatedPlatform, open_platform
from wardian.tee.measurement import (
    BOOTSTRAP,
    INTERPRETER,
    RoleManifest,
    locate_role,
    measure_files,
)
from wardian.tee.role_table import ROLES, RoleSpec
from wardian.tee.simulated import (
    AdvanceCounterQuestion,
    AgreedConfigQuestion,
    Announcement,
    Answer,
    EvidenceQuestion,
    FilesQuestion,
    HostSettingsQuestion,
    Question,
    ReadCounterQuestion,
    SealingKeyQuestion,
    parse_question,
    receive_frame,
    send_frame,
)

log = logging.getLogger(__name__)

PLATFORM_DIRECTORY = "simulation"
"""Below the state directory: the simulated platform's keys."""

COUNTER_DIRECTORY = "counters"
AGREED_FILE = "wardian.toml"

Announce: TypeAlias = Callable[[str, Mapping[str, Field]], None]
"""Called with an event and its fields, in the launcher's thread. Both come from the role."""

_STDERR = 2


def print_announcement(event: str, fields: Mapping[str, Field]) -> None:
    """Write an announcement to standard output as one JSON line."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def launch_simulated(
    role: str,
    *,
    state: Path,
    host_settings: bytes,
    agreed: bytes | None = None,
    announce: Announce = print_announcement,
    package: Path | None = None,
    roles: Mapping[str, RoleSpec] = ROLES,
) -> int:
    """Run `role` as a simulated enclave; return its exit status once it ended.

    SIGTERM and SIGINT are passed on to the role while it runs (where this is the main thread).
    If the launcher is killed, so is the role.

    Args:
        role: a name in `roles`.
        state: the state directory; the platform and the counters live in it and are made here.
        host_settings: JSON for the role, unmeasured.
        agreed: the bytes of `wardian.toml`; by default those of the file in `state`. Read once:
            what is measured is what the role gets.
        announce: receives what the role announces.
        package: the directory of the package `wardian`; by default the one that is running.
        roles: the role table.

    Returns:
        The role's exit status; 128 + N if signal N ended it.

    Raises:
        ConfigError: no such role, something that it needs is missing, or the state directory
            cannot be used.
    """
    config = settings.read(state / AGREED_FILE) if agreed is None else agreed
    located = locate_role(role, package=package, roles=roles)
    manifest = measure_files(role, located, agreed=config, roles=roles)
    platform = open_platform(state / PLATFORM_DIRECTORY)
    counters = FileCounters(state / COUNTER_DIRECTORY / role)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = _start(manifest, located, theirs)
        theirs.close()
        desk = _Desk(
            platform=platform,
            manifest=manifest,
            located=located,
            agreed=config,
            host_settings=host_settings,
            counters=counters,
            announce=announce,
        )
        with _ended(process), _forwarded_signals(process):
            desk.serve(ours)
            ours.close()  # a role that broke the protocol must not wait for an answer
            return _status(process.wait())


def _start(
    manifest: RoleManifest, located: Mapping[str, Path], channel: socket.socket
) -> subprocess.Popen[bytes]:
    """Start the role with the manifest's command line, in a session of its own."""
    places = {name: str(located[name]) for name in (INTERPRETER, BOOTSTRAP)}
    try:
        return subprocess.Popen(
            [places.get(argument, argument) for argument in manifest.argv],
            env=manifest.env,
            cwd="/",
            stdin=channel.fileno(),
            stdout=_STDERR,  # our standard output carries announcements alone
            start_new_session=True,  # a terminal's Ctrl-C reaches it once: through us
        )
    except OSError as err:
        raise ConfigError(f"{places[INTERPRETER]}: cannot be started: {err.strerror}") from err


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """Answers the questions of one role."""

    platform: SimulatedPlatform
    manifest: RoleManifest
    located: Mapping[str, Path]
    agreed: bytes
    host_settings: bytes
    counters: FileCounters
    announce: Announce

    def serve(self, channel: socket.socket) -> None:
        """Answer until the role closes its end, which its exit does."""
        try:
            while (raw := receive_frame(channel)) is not None:
                send_frame(channel, self._answer(parse_question(raw)))
        except (OSError, WardianError) as err:  # a broken role is told nothing more
            event(log, "role.cut-off", level=logging.WARNING, kind=type(err).__name__)

    def _answer(self, question: Question) -> Answer:
        try:
            return self._answer_or_raise(question)
        except SealError as err:
            return Answer(error=str(err))

    def _answer_or_raise(self, question: Question) -> Answer:  # noqa: PLR0911 (one per question)
        match question:
            case FilesQuestion():
                return Answer(files=self._files())
            case EvidenceQuestion(report_data=report_data):
                evidence = self.platform.evidence(
                    mr_enclave=self.manifest.mr_enclave,
                    report_data=report_data,
                    product_id=self.manifest.product_id,
                    svn=self.manifest.svn,
                )
                return Answer(evidence=evidence)
            case SealingKeyQuestion():
                return Answer(content=self.platform.sealing_key(self.manifest.mr_enclave).reveal())
            case AgreedConfigQuestion():
                return Answer(content=self.agreed)
            case HostSettingsQuestion():
                return Answer(content=self.host_settings)
            case Announcement(event=what, fields=fields):
                self.announce(what, fields)
                return Answer()
            case ReadCounterQuestion(name=name):
                return Answer(number=self.counters.read(name))
            case AdvanceCounterQuestion(name=name, to=to):
                self.counters.advance(name, to)
                return Answer()
            case _:
                assert_never(question)

    def _files(self) -> tuple[tuple[str, str, str], ...]:
        return tuple(
            (file.path, file.sha256, str(self.located[file.path]))
            for file in self.manifest.files
            if file.path in self.located
        )


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no role behind, whatever happens to the launcher's own code."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _forwarded_signals(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass SIGTERM and SIGINT on to the role. Python lets only the main thread do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def forward(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(returncode: int) -> int:
    """Return an exit status as shells give it: a signal N is 128 + N."""
    return returncode if returncode >= 0 else 128 - returncode
