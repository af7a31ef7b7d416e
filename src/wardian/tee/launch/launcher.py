"""Starts a role as a simulated enclave and plays processor and host for it until it ends.

In the foreground: one launcher, one role. The launcher does what Gramine does: it hashes every
trusted file of the role's manifest, starts exactly the command line and environment that the
manifest says, confines the process to what the manifest names, answers its questions, and ends as
it ends.
"""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, assert_never

from wardian._internal.log import Field, event
from wardian.errors import ConfigError, SealError, WardianError
from wardian.tee.backend import SealTo
from wardian.tee.launch.attendance import Attendance
from wardian.tee.launch.child import ended, exit_status, forwarded_signals
from wardian.tee.launch.file_counters import FileCounters
from wardian.tee.launch.landlock import Ruleset, abi, unenforced
from wardian.tee.launch.lifeline import Lifeline
from wardian.tee.launch.reach import Reach, access
from wardian.tee.launch.simulation import SimulatedPlatform, open_platform
from wardian.tee.launch.verified import VerifiedManifest, load_manifest
from wardian.tee.manifest.candidates import spec_of
from wardian.tee.role_table import ROLES, RoleSpec
from wardian.tee.simulated import (
    AdvanceCounterQuestion,
    AgreedConfigQuestion,
    Announcement,
    Answer,
    EvidenceQuestion,
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

NEWEST_NEEDED = 6
"""The version of Landlock that enforces all that a role's confinement asks of it."""

Announce: TypeAlias = Callable[[str, Mapping[str, Field]], None]
"""Called with an event and its fields, in the launcher's thread. Both come from the role."""


def counter_directory(state: Path, role: str, measurement: bytes) -> Path:
    """Return where the counters of a role's code (MRENCLAVE, 32 bytes) lie below `state`."""
    return state / COUNTER_DIRECTORY / role / measurement.hex()


def print_announcement(event: str, fields: Mapping[str, Field]) -> None:
    """Write an announcement to standard output as one JSON line."""
    if sys.stdout is None:
        return
    with contextlib.suppress(OSError):  # a full disk costs the line, never the role
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()


def launch_simulated(
    role: str,
    *,
    directory: Path,
    state: Path,
    host_settings: bytes,
    reach: Reach,
    announce: Announce = print_announcement,
    lifeline: Lifeline | None = None,
    roles: Mapping[str, RoleSpec] = ROLES,
) -> int:
    """Run `role` as a simulated enclave; return its exit status once it ended.

    SIGTERM and SIGINT are passed on to the role while it runs (where this is the main thread).
    If the launcher is killed, so is the role.

    Args:
        role: a name in `roles`.
        directory: the role's, with `ROLE.manifest` as `wardian enclave build` wrote it; becomes
            the working directory.
        state: where the simulated platform and the counters live; they are made here.
        host_settings: JSON for the role, unmeasured.
        reach: what the operator's settings let the role reach beside the manifest's files.
        announce: receives what the role announces.
        lifeline: when it is over, the role is told to end.
        roles: the role table.

    Returns:
        The role's exit status; 128 + N if signal N ended it.

    Raises:
        ConfigError: no such role, no manifest, a file that is not as it was measured, or the state
            directory cannot be used.
    """
    spec = spec_of(role, roles)
    manifest = load_manifest(directory / f"{role}.manifest")
    platform = open_platform(state / PLATFORM_DIRECTORY)
    counters = FileCounters(counter_directory(state, role, manifest.mr_enclave))
    ours, theirs = socket.socketpair()
    output, inside = os.pipe()
    with ours, theirs, os.fdopen(output, "rb"), os.fdopen(inside, "wb") as ends:
        with _confinement(manifest, spec, reach, directory) as confine:
            process = _start(manifest, directory, theirs, ends.fileno(), confine)
        theirs.close()
        ends.close()
        desk = _Desk(
            platform=platform,
            manifest=manifest,
            host_settings=host_settings,
            counters=counters,
            announce=announce,
        )
        attendance = Attendance(process, channel=ours, output=output, lifeline=lifeline)
        with ended(process), forwarded_signals(attendance.end):
            attendance.run(desk.answer)
            return exit_status(process.wait())


@contextlib.contextmanager
def _confinement(
    manifest: VerifiedManifest, spec: RoleSpec, reach: Reach, directory: Path
) -> Iterator[Callable[[], None] | None]:
    """Yield what confines a child to what it may touch; None where the kernel cannot."""
    version = abi()
    level = logging.INFO if version >= NEWEST_NEEDED else logging.WARNING
    event(log, "role.confined", level=level, landlock=version, still=" ".join(unenforced(version)))
    if not version:
        yield None
        return
    with Ruleset(access(manifest, spec, reach, directory=directory), abi=version) as rules:
        yield rules.restrict


def _start(
    manifest: VerifiedManifest,
    directory: Path,
    channel: socket.socket,
    output: int,
    confine: Callable[[], None] | None,
) -> subprocess.Popen[bytes]:
    """Start the role with the manifest's command line, confined, in a session of its own."""
    try:
        return subprocess.Popen(
            manifest.argv,
            env=manifest.environment,
            cwd=directory,
            stdin=channel.fileno(),
            stdout=output,  # our standard output carries announcements alone
            stderr=output,  # and neither our terminal nor our log file is the role's
            start_new_session=True,  # a terminal's Ctrl-C reaches it once: through us
            preexec_fn=confine,  # noqa: PLW1509 (a few system calls, and nothing else)
        )
    except (OSError, ValueError, subprocess.SubprocessError) as err:
        raise ConfigError(f"{manifest.argv[0]}: cannot be started confined: {err}") from err


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """Answers the questions of one role."""

    platform: SimulatedPlatform
    manifest: VerifiedManifest
    host_settings: bytes
    counters: FileCounters
    announce: Announce

    def answer(self, channel: socket.socket) -> bool:
        """Answer one question; return whether there may be another.

        A role that broke the protocol is told nothing more.
        """
        try:
            raw = receive_frame(channel)
            if raw is not None:
                send_frame(channel, self._answer(parse_question(raw)))
        except (OSError, WardianError) as err:
            event(log, "role.cut-off", level=logging.WARNING, kind=type(err).__name__)
            return False
        return raw is not None

    def _answer(self, question: Question) -> Answer:
        try:
            return self._answer_or_raise(question)
        except SealError as err:
            return Answer(error=str(err))

    def _answer_or_raise(self, question: Question) -> Answer:  # noqa: PLR0911 (one per question)
        match question:
            case EvidenceQuestion(report_data=report_data):
                evidence = self.platform.evidence(
                    mr_enclave=self.manifest.mr_enclave,
                    report_data=report_data,
                    product_id=self.manifest.product_id,
                    svn=self.manifest.svn,
                )
                return Answer(evidence=evidence)
            case SealingKeyQuestion(to=SealTo.SIGNER):
                key = self.platform.signer_sealing_key(self.manifest.product_id)
                return Answer(content=key.reveal())
            case SealingKeyQuestion():
                return Answer(content=self.platform.sealing_key(self.manifest.mr_enclave).reveal())
            case AgreedConfigQuestion():
                return Answer(content=self.manifest.agreed)
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
