"""`wardian party`: take part in a federated run, in the foreground."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import click

from wardian._internal import log as logs
from wardian._internal import settings
from wardian._internal.clock import unix_time
from wardian._internal.consortium import Consortium
from wardian._internal.operator import CollateralPlace
from wardian.attestation.appraisal.policy_file import load_policy
from wardian.attestation.collateral.pccs_source import open_source
from wardian.cli.audit.source import parse_address
from wardian.cli.files import path_option
from wardian.cli.learning.apps import taking_part
from wardian.cli.learning.arrays_file import write_arrays
from wardian.cli.learning.history import HISTORY, encode_line
from wardian.cli.learning.kept import forget_model, keep_model, kept_model
from wardian.cli.learning.loading import client_app, load_any_app, setting
from wardian.cli.learning.publication import demand_publishable
from wardian.cli.learning.publish import publish_model, publish_option
from wardian.cli.learning.telling import told
from wardian.cli.owner.keys import read_owner_key
from wardian.cli.resolving import resolve
from wardian.errors import ConfigError, JobFailed
from wardian.learning.app import Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.messages import RoundLine
from wardian.learning.party.link import CoordinatorLink
from wardian.learning.party.memory import MemoryFile
from wardian.learning.party.resident import Party
from wardian.learning.planned import verify_plan
from wardian.learning.records import ConfigRecord


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
@click.option(
    "-o", "--out", type=path_option, help="Write what is yours here, in the clear (.npz)."
)
@publish_option
@click.option(
    "--publish-version",
    type=click.IntRange(1, 2**31 - 1),
    default=1,
    show_default=True,
    help="Of the model, where one of this name is served already.",
)
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
    publish: Path | None,
    publish_version: int,
) -> None:
    """Take part as NAME in the run of a consortium, until it is over.

    Nothing but the name leaves this machine before the aggregator has proved that it runs what
    POLICY accepts. Start the command again after whatever ended it: it goes on where it was.
    """
    logs.configure(role="party", level="info")
    plan = settings.load(consortium, Consortium)
    verify_plan(plan)
    if name not in plan.parties:
        raise ConfigError(f"{consortium}: names no party {name!r}")
    signer = read_owner_key(key, passphrase_file)
    if signer.public.hex() != plan.parties[name].key:
        raise ConfigError(f"{key}: is not the key that {consortium} names for {name!r}")
    app = load_any_app(app_at)
    if publish is not None:
        demand_publishable(client_app(app), publish)
    handler, outcome = taking_part(app, plan, name=name, signer=signer)
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
        for each in told(line, rounds=plan.run.rounds):
            click.echo(each)

    node_config = ConfigRecord(dict(setting(each) for each in given))

    def keep(model: ArrayRecord) -> None:
        _keep(model, out=out, state=None if publish is None else state, name=plan.name)

    with _one_of(state):
        memory = MemoryFile(state)
        resident = Party(
            name,
            handler,
            dial=dial,
            memory=memory,
            run_config=ConfigRecord(plan.app),
            node_config=node_config,
            tell=tell,
            keep=keep,
            outcome=outcome,
        )
        kept = kept_model(state, name=plan.name) if publish is not None else None
        model = kept or _attend(resident)
        if kept is not None:
            _keep(kept, out=out, state=None, name=plan.name)
        if publish is not None:
            context = Context(
                party=name,
                run_config=ConfigRecord(plan.app),
                node_config=node_config,
                state=dict(memory.load().state),
            )
            publish_model(
                client_app(app),
                model,
                context,
                directory=publish,
                name=plan.name,
                version=publish_version,
            )
            forget_model(state)


def _attend(resident: Party) -> ArrayRecord:
    model = asyncio.run(resident.attend())
    if model is None:
        raise JobFailed("the run failed; see the log")
    click.echo(f"the run is over: {len(model)} arrays, {model.nbytes:,} bytes")
    return model


def _keep(model: ArrayRecord, *, out: Path | None, state: Path | None, name: str) -> None:
    """Write `model` to `out`, and, sealed, to `state` until it is published."""
    if state is not None:
        keep_model(state, model, name=name)
    if out is not None:
        with out.open("wb") as file:
            write_arrays(file, model)
        click.echo(f"{out}: written")


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
