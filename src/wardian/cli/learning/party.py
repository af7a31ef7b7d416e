"""`wardian party`: take part in a federated run, in the foreground."""

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from wardian._internal import log as logs
from wardian._internal import settings
from wardian._internal.clock import unix_time
from wardian._internal.consortium import Consortium
from wardian._internal.operator import CollateralPlace
from wardian.attestation.appraisal.policy_file import load_policy
from wardian.attestation.collateral.pccs_source import open_source
from wardian.cli.audit.source import parse_address
from wardian.cli.files import path_option
from wardian.cli.learning.apps import app_for
from wardian.cli.learning.history import HISTORY, encode_line
from wardian.cli.owner.keys import read_owner_key
from wardian.cli.resolving import resolve
from wardian.errors import ConfigError, JobFailed
from wardian.learning.app import ClientApp
from wardian.learning.messages import RoundLine
from wardian.learning.party.link import CoordinatorLink
from wardian.learning.party.memory import MemoryFile
from wardian.learning.party.resident import Party
from wardian.learning.records import ConfigRecord
from wardian.learning.vertical.app import ColumnsApp


@click.command()
@click.argument("name")
@click.option(
    "--app", "app_at", required=True, metavar="FILE[:NAME]", help="Your ClientApp, or ColumnsApp."
)
@click.option("--aggregator", required=True, metavar="HOST:PORT")
@click.option("--consortium", type=path_option, required=True, help="What you agreed to.")
@click.option("--policy", type=path_option, required=True, help="What the aggregator has to be.")
@click.option("--key", type=path_option, required=True, help="Yours (`wardian owner keygen`).")
@click.option("--passphrase-file", type=path_option, help="Its first line opens the key.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="A directory for what this party remembers.")  # fmt: skip
@click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE", help="For your app: node_config."
)
@click.option("--pccs", metavar="URL", help="Where the vendor's statements come from (hardware).")
@click.option("-o", "--out", type=path_option, help="Write what you have of it here (.npz).")
def party(
    *,
    name: str,
    app_at: str,
    aggregator: str,
    consortium: Path,
    policy: Path,
    key: Path,
    passphrase_file: Path | None,
    state: Path,
    given: tuple[str, ...],
    pccs: str | None,
    out: Path | None,
) -> None:
    """Take part as NAME in the run of a consortium, until it is over.

    Nothing but the name leaves this machine before the aggregator has proved that it runs what
    POLICY accepts. Start the command again after whatever ended it: it goes on where it was.
    """
    logs.configure(role="party", level="info")
    plan = settings.load(consortium, Consortium)
    if name not in plan.parties:
        raise ConfigError(f"{consortium}: names no party {name!r}")
    signer = read_owner_key(key, passphrase_file)
    if signer.public.hex() != plan.parties[name].key:
        raise ConfigError(f"{key}: is not the key that {consortium} names for {name!r}")
    demanded = load_policy(settings.read(policy), name=str(policy))
    source = open_source(CollateralPlace(pccs=pccs))
    address = resolve(*parse_address(aggregator, what="aggregator"))[0]

    async def dial() -> CoordinatorLink:
        return await CoordinatorLink.open(
            address,
            party=name,
            key=signer,
            policy=demanded,
            complete=lambda evidence, roots, now: source.complete(evidence, roots=roots, now=now),
            now=unix_time,
            max_bytes=plan.run.max_update_bytes * 4,
        )

    def tell(line: RoundLine) -> None:
        with (state / HISTORY).open("ab") as file:
            file.write(encode_line(line))
        told = {**line.metrics, **line.evaluation}
        numbers = "  ".join(f"{k} {v:.4g}" for k, v in told.items() if isinstance(v, int | float))
        click.echo(
            f"round {line.round} of {plan.run.rounds}: {len(line.cohort)} parties, "
            f"{line.bytes:,} bytes, {line.seconds:.2f} s  {numbers}"
        )
        for other, reason in line.dropped.items():
            click.echo(f"  {other} does not count: {reason}")

    with _one_of(state):
        taking_part = Party(
            name,
            app_for(load_app(app_at), plan, name=name, signer=signer),
            dial=dial,
            memory=MemoryFile(state),
            run_config=ConfigRecord(plan.app),
            node_config=ConfigRecord(dict(_setting(each) for each in given)),
            tell=tell,
        )
        model = asyncio.run(taking_part.attend())
    if model is None:
        raise JobFailed("the run failed; see the log")
    click.echo(f"the run is over: {len(model)} arrays, {model.nbytes:,} bytes")
    if out is not None:
        with out.open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(model))
        click.echo(f"{out}: written")


def load_app(at: str) -> ClientApp | ColumnsApp:
    """Return the app at FILE[:NAME], by default the name `app`.

    Raises:
        ConfigError: there is no such file, or it has no app of that name.
    """
    path, _, name = at.partition(":")
    spec = importlib.util.spec_from_file_location("wardian_party_app", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise ConfigError(f"--app {at}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec.loader.exec_module(module)
    found = getattr(module, name or "app", None)
    if not isinstance(found, ClientApp | ColumnsApp):
        raise ConfigError(f"--app {at}: has no ClientApp or ColumnsApp called {name or 'app'!r}")
    return found


def _setting(text: str) -> tuple[str, bool | int | float | str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: KEY=VALUE was expected")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return key, kind(value)
    return key, {"true": True, "false": False}.get(value, value)


@contextlib.contextmanager
def _one_of(state: Path) -> Iterator[None]:
    """Let no second process remember in `state` meanwhile.

    Raises:
        ConfigError: another process does.
    """
    import fcntl  # noqa: PLC0415 (not everywhere)

    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise ConfigError(f"{state}: another party's process is at work there") from err
        yield
