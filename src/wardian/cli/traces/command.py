"""`wardian traces`: what its words mean, and what it tells."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Final

import click

from wardian.cli.traces.collector import Answer, Collector, parse_endpoint
from wardian.cli.traces.reading import Reader, Tail
from wardian.cli.traces.sending import PATIENCE_S, Sender
from wardian.cli.traces.waiting import Waiting
from wardian.errors import ConfigError, JobFailed

MOST_FILES: Final = 64


@click.command()
@click.argument(
    "files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), metavar="[FILE]..."
)
@click.option(
    "--endpoint",
    required=True,
    metavar="URL",
    help="Where a collector takes OTLP over HTTP: http(s)://HOST:PORT/v1/traces.",
)
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Certificates (PEM) that prove the endpoint, instead of the system's.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option(
    "--service", default="wardian-frontend", show_default=True, help="What the spans are called of."
)
def traces(
    *, files: tuple[Path, ...], endpoint: str, ca: Path | None, follow: bool, service: str
) -> None:
    """Send the spans in a front end's log to an OpenTelemetry collector.

    Front ends write spans of those inferences that came with a sampled `traceparent`. They are read
    from FILEs, or from standard input, whose other lines go on to standard output as they are.

    \b
    wardian traces --endpoint http://localhost:4318/v1/traces -f .wardian/logs/frontend.jsonl
    journalctl -fo cat -u wardian-frontend | wardian traces --endpoint https://otel.example/v1/traces

    Runs beside the mesh, never in an enclave. If the collector is away, 8192 spans wait, and the
    oldest are dropped for newer ones; files that are not followed wait themselves, for a minute.
    Ends with 1 if a span did not arrive.
    """  # noqa: D301 (click reads the character \b, not a backslash)
    if follow and not files:
        raise ConfigError("--follow: name the files; standard input is followed as it is")
    if len(files) > MOST_FILES:
        raise ConfigError(f"more than {MOST_FILES} files")
    if not follow:
        for path in files:
            path.open("rb").close()  # a mistyped name is told before anything is sent
    collector = Collector(parse_endpoint(endpoint), ca=ca)
    waiting = Waiting(drops=follow or not files)
    screen = _Screen(waiting)
    sender = Sender(
        screen.shown(collector.post),
        service=service,
        say=screen.say,
        patience_s=None if follow else PATIENCE_S,
    )
    screen.sender = sender
    reader = Reader(waiting.put, others=_discard if files else _pass_on)
    _start_reading(reader, waiting, files, follow=follow)
    if follow:
        screen.say(f"following {', '.join(map(str, files))}")
    try:
        _send(sender, waiting)
    finally:
        screen.close(reader.malformed)
    if sender.lost or sender.refused or waiting.dropped:
        raise JobFailed("not every span arrived")


def _send(sender: Sender, waiting: Waiting) -> None:
    """Send until the input is over or a signal comes."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        sender.send(waiting)
    except KeyboardInterrupt:
        sender.finish(waiting)
    finally:
        signal.signal(signal.SIGTERM, before)


def _start_reading(
    reader: Reader, waiting: Waiting, files: tuple[Path, ...], *, follow: bool
) -> None:
    """Read in the background, so that whoever writes to us never waits for a collector."""

    def read_all() -> None:
        for path in files:
            with path.open("rb") as file:
                reader.read(file.readline)
        if not files:
            # Not `sys.stdin`: what a thread reads cannot be put away when the process ends.
            with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
                reader.read(stream.readline)
        waiting.close()

    def tail(path: Path) -> Callable[[], None]:
        growing = Tail(path, sleep=time.sleep)

        def read() -> None:
            with growing:
                reader.read(growing.read_line)

        return read

    for work in [tail(path) for path in files] if follow else [read_all]:
        Thread(target=_closing_on_error, args=(work, waiting), daemon=True).start()


def _closing_on_error(work: Callable[[], None], waiting: Waiting) -> None:
    try:
        work()
    except Exception as err:  # noqa: BLE001  told by the thread that sends
        waiting.close(err)


def _pass_on(raw: bytes) -> None:
    while raw:
        raw = raw[os.write(sys.stdout.fileno(), raw) :]


def _discard(_raw: bytes) -> None:
    """What is in a file stays there."""


class _Screen:
    """Tells on stderr how it goes: on a terminal in one line that changes, else only trouble.

    Attributes:
        sender: whose counts are shown.
    """

    sender: Sender

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._terminal = sys.stderr.isatty()

    def shown(self, post: Callable[[bytes], Answer]) -> Callable[[bytes], Answer]:
        """Return `post`, which then shows how far we are."""

        def post_and_show(body: bytes) -> Answer:
            try:
                return post(body)
            finally:
                if self._terminal:
                    click.echo(f"\r\x1b[K{self._counts()}", nl=False, err=True)

        return post_and_show

    def say(self, text: str) -> None:
        """Print a line of its own."""
        click.echo(f"\r\x1b[K{text}" if self._terminal else text, err=True)

    def close(self, malformed: int) -> None:
        """Print what became of everything."""
        if malformed:
            self.say(f"{malformed} lines said that they are spans, and were none")
        self.say(self._counts())

    def _counts(self) -> str:
        sender, waiting = self.sender, self._waiting
        return (
            f"spans: {sender.sent} sent, {len(waiting)} waiting, {waiting.dropped} dropped, "
            f"{sender.refused} refused, {sender.lost} given up"
        )
