"""A planned model as an enclave opens it, and what its settings have to say of it."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wardian._internal.steps import TopStep
from wardian.compat.zoo.keys import Fate
from wardian.compat.zoo.migration.find_model import FoundModel, GraphMeta
from wardian.compat.zoo.migration.planned import PlannedModel
from wardian.compat.zoo.report import Report
from wardian.errors import ConfigError, FormatError
from wardian.inference.convert.source import Converted, convert
from wardian.inference.model import load_model
from wardian.inference.spec import FREE, Model, TensorSpec
from wardian.inference.steps.numbers import Top


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyModel:
    """A model that is served as it is here.

    Attributes:
        planned: its name, version and threads.
        made: its file and media type.
        top: `post` of it, None for none.
    """

    planned: PlannedModel
    made: Converted
    top: TopStep | None


def ready_model(
    planned: PlannedModel, found: FoundModel, report: Report, *, inputs: Sequence[TensorSpec] = ()
) -> ReadyModel | None:
    """Return the model converted and loaded once; None: it cannot be, and the report says why.

    Args:
        planned: the model.
        found: its file.
        report: takes what becomes of its keys.
        inputs: shapes, for TorchScript and to fix an axis; empty: as the model says.
    """
    number = planned.numbers.get("modelPath")
    try:
        with _readable(found) as path:
            made = convert(found.kind, path, inputs=inputs)
        model = load_model(made.data, media_type=made.media_type, engine=made.engine, threads=1)
        try:
            if found.meta is not None:
                _demand_outputs(model, found.meta)
            top = _top(model, planned, report)
        finally:
            model.close()
    except (ConfigError, FormatError) as err:
        report.amend(number, Fate.CANNOT, str(err))
        report.missing.append(f"{planned.place}: {planned.name}: {err}")
        return None
    inside, outside = (", ".join(map(_told, ports)) for ports in (model.inputs, model.outputs))
    fixed = {spec.shape[0] for spec in model.inputs if spec.shape} - {FREE}
    batch = "".join(f"; a batch is {rows}: --shape -1,... may open it" for rows in sorted(fixed))
    report.amend(number, Fate.WORKS, f"converted; takes {inside}; gives {outside}{batch}")
    return ReadyModel(planned=planned, made=made, top=top)


@contextlib.contextmanager
def _readable(found: FoundModel) -> Iterator[Path]:
    """Yield a path that OpenVINO finds the weights beside, whatever both are called."""
    if found.weights is None:
        yield found.path
        return
    with tempfile.TemporaryDirectory(prefix="wardian-migrate-") as directory:  # mode 0700
        xml = Path(directory) / "model.xml"
        xml.symlink_to(found.path.resolve())
        xml.with_suffix(".bin").symlink_to(found.weights.resolve())
        yield xml


def _demand_outputs(model: Model, meta: GraphMeta) -> None:
    """Return if the graph's own outputs are those that `graph_meta.json` means.

    A graph that was saved with more than one end gives more than was asked for; one whose asked
    outputs are inside gives something else.

    Raises:
        ConfigError: it gives something else.
    """
    for what, names, specs in (
        ("inputs", meta.input_names, model.inputs),
        ("outputs", meta.output_names, model.outputs),
    ):
        there = {spec.name.removesuffix(":0") for spec in specs}
        lost = sorted({name.removesuffix(":0") for name in names} - there)
        if lost:
            raise ConfigError(
                f"the graph's {what} are {', '.join(sorted(there))}, and graph_meta.json means "
                f"{', '.join(lost)}: cut it there (ovc --input, --output) and give the OpenVINO IR"
            )


def _top(model: Model, planned: PlannedModel, report: Report) -> TopStep | None:
    """Return the step that `postProcessing` asks for; None: it does not, or it cannot be done."""
    if planned.top is None:
        return None
    number = planned.numbers.get("postProcessing")
    try:
        step = _top_of(model.outputs, planned.top)
    except ConfigError as err:
        report.amend(number, Fate.CANNOT, str(err))
        return None
    report.amend(
        number, Fate.WORKS,
        f"step `top` with n = {step.n} gives {step.output}_index and {step.output}_value",
    )  # fmt: skip
    return step


def _top_of(outputs: Sequence[TensorSpec], most: int) -> TopStep:
    """Return the step for the one of `outputs`.

    Raises:
        ConfigError: there are several, or it has no `most` numbers.
    """
    if len(outputs) != 1:
        raise ConfigError(
            f"the model has {len(outputs)} outputs: name the one in `post` of wardian.toml"
        )
    step = TopStep(output=outputs[0].name, n=most)
    Top(outputs[0], step)
    return step


def _told(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} {list(spec.shape)}"
