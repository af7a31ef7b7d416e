"""`wardian audit witness`: sign the log's newest head, if it goes on from the one signed before."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.transparency.client import Visit, visit
from wardian.broker.transparency.witnessing import WitnessMemory, WitnessSession
from wardian.cli.audit.files import held, keep_refused, load_record, save_record
from wardian.cli.audit.source import Source, existing, file, log_refused, source_options
from wardian.cli.owner.keys import read_owner_key
from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AttestationError,
    AuthenticationFailed,
    ConfigError,
    PolicyDenied,
    TransportError,
)


@click.command()
@click.option("--key", type=existing, required=True, help="The witness's key.")
@click.option("--passphrase-file", type=existing, help="What the key is under.")
@click.option("--memory", type=file, required=True, help="What this witness must never forget.")
@click.option("--first", is_flag=True, help="There is no memory yet: nothing was ever signed.")
@source_options
@click.option("--every", type=click.IntRange(1, 86_400), help="Come again after so many seconds.")
def witness(
    *,
    key: Path,
    passphrase_file: Path | None,
    memory: Path,
    first: bool,
    source: Source,
    every: int | None,
) -> None:
    """Countersign the log's newest head, once or --every so many seconds.

    The log has to go on from the head in the --memory file, which is written before anything is
    signed. Keep that file where neither the broker's operator nor an older backup gets at it: a
    witness that forgot signs a second log. So a memory that is not there is refused; say --first,
    by hand, when this witness begins.

    Ends with 3 if the broker itself shows a log that was altered, cut short or forked; what it
    showed is kept beside the memory. With --every, whatever else goes wrong is said, and passes.
    """
    signer = read_owner_key(key, passphrase_file)
    place = memory.resolve()
    with held(place, wait=False):
        mine = _Witness(signer, place, source, _load(place, first=first))
        while True:
            session = mine.session()
            try:
                with log_refused():
                    mine.come(session)
            except (TransportError, PolicyDenied, AttestationError) as err:
                mine.refuse_wrong_log(session, err)
                if every is None:
                    raise
                click.secho(f"{_now()}  not signed: {wire.printable(str(err))}", fg="yellow")
            if every is None:
                return
            time.sleep(every)


@dataclass(slots=True)
class _Witness:
    """One witness, as long as its command runs: what it remembers it does not read again."""

    key: SigningKey
    place: Path
    source: Source
    memory: WitnessMemory | None

    def session(self) -> WitnessSession:
        """Return the next visit."""
        return WitnessSession(key=self.key, memory=self.memory, ca_spki=self.source.ca_spki)

    def come(self, session: WitnessSession) -> None:
        """Carry out one visit and say what was signed."""
        made: Visit = asyncio.run(
            visit(self.source.address, session, remember=self._remember, now=unix_time)
        )
        audit, mesh = made.signed.audit, wire.printable(made.signed.mesh)
        click.echo(f"{_now()}  signed {audit.count} lines of mesh {mesh}, root {audit.root[:16]}…")
        if made.set_back:
            click.secho(
                f"{self.place} was older than what this key had signed: an older copy was put in "
                "its place, or another witness uses the key",
                fg="yellow",
            )

    def refuse_wrong_log(self, session: WitnessSession, err: Exception) -> None:
        """Return unless the broker itself showed a log that this witness does not sign.

        Raises:
            PolicyDenied: it did; the text says where that is kept.
        """
        if session.offer is None or not isinstance(err.__cause__, AuthenticationFailed):
            return
        kept = keep_refused(self.place, session.offer, session.offer.head)
        raise PolicyDenied(f"{err} ({kept})", rule="audit-log") from err

    def _remember(self, kept: WitnessMemory) -> None:
        save_record(self.place, kept)
        self.memory = kept


def _load(place: Path, *, first: bool) -> WitnessMemory | None:
    """Return what this witness remembers, None where it begins.

    Raises:
        ConfigError: it is damaged; or there is none, or there is one, against what was said.
    """
    memory = load_record(place, WitnessMemory, what="witness memory")
    if first and memory is not None:
        raise ConfigError(f"{place}: this witness has signed before: leave out --first")
    if not first and memory is None:
        raise ConfigError(
            f"{place}: there is no memory. If this witness has signed before, find it: one that "
            "forgot signs a second log. If it never did, say --first"
        )
    return memory


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_time()))
