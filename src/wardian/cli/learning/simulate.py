"""`wardian fl simulate`: a whole run in one process, without keys, sockets or an enclave."""

import secrets
from pathlib import Path

import click
import msgspec

from wardian._internal import settings
from wardian._internal.consortium import Consortium, PartyTerms
from wardian.cli.files import path_option
from wardian.cli.learning.arrays_file import write_arrays
from wardian.cli.learning.columns import try_columns
from wardian.cli.learning.history import HISTORY, encode_line
from wardian.cli.learning.kept import forget_model, keep_model
from wardian.cli.learning.loading import client_app, load_any_app
from wardian.cli.learning.publication import demand_publishable
from wardian.cli.learning.publish import publish_model, publish_option
from wardian.cli.learning.telling import told
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.messages import RoundLine
from wardian.learning.planned import planned_strategy
from wardian.learning.records import ConfigRecord, RecordDict, Setting
from wardian.learning.simulation import RoundResult, simulate


@click.command("simulate")
@click.option(
    "--app", "app_at", required=True, metavar="FILE[:NAME]", help="Your ClientApp, or ColumnsApp."
)
@click.option("--consortium", type=path_option, required=True, help="The plan to try.")
@click.option("--parties", type=click.IntRange(1, 100_000), help="Instead of the plan's.")
@click.option("--rounds", type=click.IntRange(1, 1_000_000), help="Instead of the plan's.")
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="A directory for the history and the model.")  # fmt: skip
@publish_option
def simulate_run(
    *,
    app_at: str,
    consortium: Path,
    parties: int | None,
    rounds: int | None,
    out: Path,
    publish: Path | None,
) -> None:
    """Try a plan with all parties in this process: same app, same strategy, no protection.

    Each party's node_config has `partition-id`, from 0, and `num-partitions`. `wardian fl report`
    shows what came of it. With --publish the model is there alone, sealed; else it is in OUT. Of a
    plan with columns OUT has what each party has, in NAME.npz.
    """
    plan, given = settings.load(consortium, Consortium), load_any_app(app_at)
    if plan.strategy is None:
        if (parties, rounds, publish) != (None, None, None):
            raise ConfigError("--parties, --rounds and --publish are for a plan with a [strategy]")
        try_columns(given, plan, out)
        return
    app = client_app(given)
    if publish is not None:
        demand_publishable(app, publish)
    if parties is not None:
        plan = _of_so_many(plan, parties)
    number = len(plan.parties)
    history = simulate(
        app,
        planned_strategy(plan, run=secrets.token_bytes(32), secret=Secret.random(32)),
        number,
        _first_model(app, plan, number),
        rounds or plan.run.rounds,
        config=dict(plan.app),
        seed=plan.run.seed,
        sample=plan.run.sample,
        quorum=plan.run.quorum,
        attempts=plan.run.attempts,
        evaluate_every=plan.run.evaluate_every,
    )
    out.mkdir(parents=True, exist_ok=True)
    lines = [_line(each) for each in history.rounds]
    (out / HISTORY).write_bytes(b"".join(map(encode_line, lines)))
    if plan.masking is not None:
        click.echo("masks were left out: they change a sum by rounding alone")
    click.echo(f"{len(lines)} rounds of {number} parties")
    for each in told(lines[-1]):
        click.echo(each)
    model = out / "model.npz"
    if publish is None:
        with model.open("wb") as file:
            write_arrays(file, history.arrays)
        click.echo(f"{out / HISTORY}, {model}: written")
        return
    model.unlink(missing_ok=True)  # of an earlier run
    keep_model(out, history.arrays, name=plan.name)
    context = _first_context(plan, number)
    publish_model(app, history.arrays, context, directory=publish, name=plan.name)
    forget_model(out)


def _of_so_many(plan: Consortium, number: int) -> Consortium:
    """Return `plan` with other parties, so many; their keys are numbers."""
    named = {f"party-{place}": PartyTerms(key=f"{place + 1:064x}") for place in range(number)}
    run = msgspec.structs.replace(plan.run, quorum=min(plan.run.quorum, number))
    strategy = {key: value for key, value in (plan.strategy or {}).items() if key != "parties"}
    return msgspec.structs.replace(plan, parties=named, run=run, strategy=strategy, initial=None)


def _first_model(app: ClientApp, plan: Consortium, parties: int) -> ArrayRecord:
    """Return what the app's `query` gives, as the party that is asked first would."""
    context = _first_context(plan, parties)
    metadata = Metadata(run="", round=0, party=context.party, message_type=MessageType.QUERY)
    message = Message(RecordDict({"config": context.run_config}), metadata=metadata)
    model = app(message, context).content.array_records.get("arrays")
    if model is None:
        raise ConfigError('the app\'s query returned no array record "arrays": the first model')
    return model


def _first_context(plan: Consortium, parties: int) -> Context:
    node: dict[str, Setting] = {"partition-id": 0, "num-partitions": parties}
    config = ConfigRecord({**plan.app, **node})
    return Context(party="party-0", run_config=config, node_config=ConfigRecord(node))


def _line(of: RoundResult) -> RoundLine:
    return RoundLine(
        round=of.round,
        cohort=of.cohort,
        dropped=of.dropped,
        bytes=of.received_bytes,
        seconds=0.0,
        metrics=of.metrics,
        evaluation=of.evaluation,
    )
