"""`wardian fl simulate`: a whole run in one process, without keys, sockets or an enclave."""

from pathlib import Path

import click
import numpy as np

from wardian._internal import settings
from wardian._internal.consortium import Consortium
from wardian.cli.files import path_option
from wardian.cli.learning.history import HISTORY, encode_line
from wardian.cli.learning.party import load_app
from wardian.errors import ConfigError
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.messages import RoundLine
from wardian.learning.records import ConfigRecord, RecordDict, Setting
from wardian.learning.simulation import RoundResult, simulate
from wardian.learning.strategies.terms import build_strategy


@click.command("simulate")
@click.option("--app", "app_at", required=True, metavar="FILE[:NAME]", help="Your ClientApp.")
@click.option("--consortium", type=path_option, required=True, help="The plan to try.")
@click.option("--parties", type=click.IntRange(1, 100_000), help="Instead of the plan's.")
@click.option("--rounds", type=click.IntRange(1, 1_000_000), help="Instead of the plan's.")
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="A directory for the history and the model.")  # fmt: skip
def simulate_run(
    *, app_at: str, consortium: Path, parties: int | None, rounds: int | None, out: Path
) -> None:
    """Try a plan with all parties in this process: same app, same strategy, no protection.

    Each party's node_config has `partition-id`, from 0, and `num-partitions`. `wardian fl report`
    shows what came of it.
    """
    plan, app = settings.load(consortium, Consortium), load_app(app_at)
    if plan.strategy is None or not isinstance(app, ClientApp):
        raise ConfigError(
            f"{consortium}: a simulation is of [strategy] and a ClientApp; a plan with [psi] or "
            "[vertical] runs by `wardian aggregator` and `wardian party` alone"
        )
    number = parties or len(plan.parties)
    history = simulate(
        app,
        build_strategy(plan.strategy),
        number,
        _first_model(app, plan, number),
        rounds or plan.run.rounds,
        config=dict(plan.app),
        seed=plan.run.seed,
        sample=plan.run.sample,
        quorum=min(plan.run.quorum, number),
        attempts=plan.run.attempts,
        evaluate_every=plan.run.evaluate_every,
    )
    out.mkdir(parents=True, exist_ok=True)
    lines = [encode_line(_line(each)) for each in history.rounds]
    (out / HISTORY).write_bytes(b"".join(lines))
    np.savez(out / "model.npz", allow_pickle=False, **dict(history.arrays))
    last = history.rounds[-1]
    told = {**last.metrics, **last.evaluation}
    numbers = "  ".join(f"{k} {v:.4g}" for k, v in told.items() if isinstance(v, int | float))
    click.echo(f"{len(history.rounds)} rounds of {number} parties: {numbers}")
    click.echo(f"{out / HISTORY}, {out / 'model.npz'}: written")


def _first_model(app: ClientApp, plan: Consortium, parties: int) -> ArrayRecord:
    """Return what the app's `query` gives, as the party that is asked first would."""
    node: dict[str, Setting] = {"partition-id": 0, "num-partitions": parties}
    config = ConfigRecord({**plan.app, **node})
    metadata = Metadata(run="", round=0, party="party-0", message_type=MessageType.QUERY)
    message = Message(RecordDict({"config": config}), metadata=metadata)
    context = Context(party="party-0", run_config=config, node_config=ConfigRecord(node))
    model = app(message, context).content.array_records.get("arrays")
    if model is None:
        raise ConfigError('the app\'s query returned no array record "arrays": the first model')
    return model


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
