"""Which engine, how many threads and how many rows at a time: measured when a model is loaded.

Nobody can tell from a model's file what runs it fastest: ONNX Runtime answers a small network in a
seventh of the time that OpenVINO takes, and a convolution in more. So each engine runs the model's
probe, in turns, and the medians decide. An engine is only asked to be fast after it was right: if
two engines that can run the model give different answers, neither is believed.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from wardian._internal.log import event
from wardian._internal.steps import GenerateTerms, PostStep, PreStep, TokensStep
from wardian.errors import ConfigError, FormatError, JobFailed, WardianError
from wardian.inference.attached import vocabulary_of
from wardian.inference.base import Compiled
from wardian.inference.dtypes import size_bytes
from wardian.inference.model import ENGINES_OF, USUAL, load_compiled
from wardian.inference.probe import close, probe_rows
from wardian.inference.spec import FREE, Model, Tensors, TensorSpec
from wardian.inference.steps.pipeline import with_steps
from wardian.inference.timing import Clock, medians, preferred

__all__ = ["Chosen", "choose_model", "medians"]

log = logging.getLogger(__name__)

BUDGET_S = 0.4
"""For each of the three questions; a model slower than that is asked once."""
_LONGEST_S = 0.1
"""No batch is tried that is expected to take longer."""
_MAX_PROBE_BYTES = 64 * 1024**2
MAX_COMPARED_BYTES = 512 * 1024**2
"""A larger model is not loaded by several engines at once: it would take the memory twice."""
_NEARLY = 1.1
"""Batches that take up to 10 % longer a row than the best are as good, and sooner ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A model that is ready, and warm.

    Attributes:
        model: with its steps around it.
        max_batch: most rows worth taking at once; never above what was asked for.
    """

    model: Model
    max_batch: int


def choose_model(
    data: bytes | bytearray,
    *,
    media_type: str,
    engine: str = "auto",
    threads: int = 1,
    precision: str = "f32",
    max_batch: int = 64,
    pre: Sequence[PreStep] = (),
    post: Sequence[PostStep] = (),
    generate: GenerateTerms | None = None,
    clock: Clock = time.perf_counter,
) -> Chosen:
    """Return the model in `data` as it runs fastest here, measured for a second or two.

    Args:
        data: the whole model file; may be wiped as soon as this returns.
        media_type: see `load_model`.
        engine: "auto" measures; a name is taken as it is.
        threads: most threads that one inference may use.
        precision: "f32" or "bf16".
        max_batch: most rows of one inference.
        pre: steps before the model.
        post: steps after it.
        generate: the model generates text, so; then it takes one part of an answer at a time.
        clock: seconds, monotonic.

    Raises:
        FormatError: `data` is not a model of that media type.
        ConfigError: nothing here runs it, engines disagree about its answers, or a step does not
            fit it.
    """

    def load(name: str, count: int) -> Compiled:
        return load_compiled(
            data, media_type=media_type, engine=name, threads=count, precision=precision
        )

    if generate is not None:
        return _generator(data, media_type, load, engine, generate, threads=threads,
                          precision=precision, clock=clock)  # fmt: skip
    if engine == "auto":
        names = ENGINES_OF.get((media_type, precision), USUAL)
        if len(data) > MAX_COMPARED_BYTES:
            names, threads = names[:1], 1
        compiled = _fastest(load, names, threads=threads, max_batch=max_batch, clock=clock)
    else:
        compiled = load(engine, threads)
    rows = _best_batch(compiled, max_batch, clock)
    vocabulary = None
    if any(isinstance(ask, TokensStep) for ask in pre):
        vocabulary = vocabulary_of(data, media_type=media_type)
    model = with_steps(compiled, pre=pre, post=post, vocabulary=vocabulary)
    event(
        log,
        "model.chosen",
        engine=compiled.engine,
        max_batch=rows,
        batchable=model.batchable,
    )
    return Chosen(model=model, max_batch=rows)


Load = Callable[[str, int], Compiled]
"""Loads a model by the engine of that name, with so many threads."""


def _generator(
    data: bytes | bytearray,
    media_type: str,
    load: Load,
    engine: str,
    terms: GenerateTerms,
    *,
    threads: int,
    precision: str,
    clock: Clock,
) -> Chosen:
    """Return the model in `data` as one that generates text."""
    # Where texts are generated, and nowhere else.
    from wardian.inference.generate.choice import choose_generator  # noqa: PLC0415

    names: tuple[str, ...] = (engine,)
    if engine == "auto":
        names = ENGINES_OF.get((media_type, precision), USUAL)
        names = names[:1] if len(data) > MAX_COMPARED_BYTES else names
    vocabulary = vocabulary_of(data, media_type=media_type, what="`generate`")
    model = choose_generator(
        lambda name: load(name, threads), names, terms, vocabulary, clock=clock
    )
    return Chosen(model=model, max_batch=1)


def _fastest(
    load: Load, names: tuple[str, ...], *, threads: int, max_batch: int, clock: Clock
) -> Compiled:
    loaded = _load_all(load, names, threads)
    inputs, outputs = _common(loaded)
    if not _agree(list(loaded.values())):
        for model in loaded.values():
            model.close()
        raise ConfigError(
            f"model: {' and '.join(loaded)} give different answers to it; find out which is right, "
            "and name that one as its `engine`"
        )
    batchable = all(model.batchable for model in loaded.values())
    times = _times(loaded, max_batch, clock)
    best = preferred(times)
    for name, model in loaded.items():
        if name != best:
            model.close()
    chosen, count = loaded[best], threads
    if threads > 1:
        chosen, count = _fewer_threads(chosen, load(best, 1), threads, max_batch, clock)
    note = [f"{name} {seconds * 1e6:.0f} us a row" for name, seconds in times.items()]
    note += [f"{name} cannot run it" for name in names if name not in loaded]
    note.append(f"{count} thread{'s' * (count > 1)}")
    chosen.settle(f"auto: {', '.join(note)}", batchable=batchable, inputs=inputs, outputs=outputs)
    return chosen


def _load_all(load: Load, names: tuple[str, ...], threads: int) -> dict[str, Compiled]:
    """Return the engines that can run the model.

    One that loads it and then fails on the probe is none of them, if another does not: failing
    takes no time, and would win.
    """
    loaded: dict[str, Compiled] = {}
    errors: list[WardianError] = []
    for name in names:
        try:
            loaded[name] = load(name, threads)
        except (ConfigError, FormatError) as err:  # not every engine reads all of ONNX
            errors.append(err)
    if not loaded:
        raise errors[0]
    probe = probe_rows(next(iter(loaded.values())).inputs)[-1]
    able = {name for name, model in loaded.items() if _answer(model, probe) is not None}
    for name in [name for name in loaded if able and name not in able]:
        loaded.pop(name).close()
    return loaded


def _common(
    loaded: Mapping[str, Compiled],
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and outputs that all engines describe; an axis open to one is open.

    Raises:
        ConfigError: they describe other tensors.
    """
    first, *others = loaded.values()
    inputs, outputs = first.inputs, first.outputs
    for other in others:
        inputs, outputs = _open(inputs, other.inputs), _open(outputs, other.outputs)
    return inputs, outputs


def _open(mine: tuple[TensorSpec, ...], other: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    by_name = {spec.name: spec for spec in other}
    merged = []
    for spec in mine:
        theirs = by_name.pop(spec.name, None)
        if theirs is None or (theirs.dtype, len(theirs.shape)) != (spec.dtype, len(spec.shape)):
            raise ConfigError(
                f"model: engines describe tensor {spec.name[:64]!r} differently; name its `engine`"
            )
        axes = zip(spec.shape, theirs.shape, strict=True)
        merged.append(replace(spec, shape=tuple(a if a == b else FREE for a, b in axes)))
    if by_name:
        raise ConfigError("model: engines describe different tensors; name its `engine`")
    return tuple(merged)


def _agree(models: Sequence[Model]) -> bool:
    """Return whether all answer alike wherever two or more of them answer at all."""
    for inputs in probe_rows(models[0].inputs, rows=2):
        answers = [answer for model in models if (answer := _answer(model, inputs)) is not None]
        for other in answers[1:]:
            if not all(close(other[name], array) for name, array in answers[0].items()):
                return False
    return True


def _answer(model: Model, inputs: Tensors) -> Tensors | None:
    try:
        return model.infer(inputs)
    except JobFailed:
        return None


def _times(loaded: Mapping[str, Compiled], max_batch: int, clock: Clock) -> dict[str, float]:
    """Return seconds a row of each engine: the mean of one row alone and of rows in a batch."""
    singles = {name: _one(model, 1) for name, model in loaded.items()}
    alone = medians(singles, clock=clock, budget_s=BUDGET_S / 2)
    rows = 1
    if all(model.batchable for model in loaded.values()):
        model = next(iter(loaded.values()))
        while rows * 2 <= min(max_batch, 32) and _affordable(model, rows * 2, max(alone.values())):
            rows *= 2
    if rows == 1:
        return alone
    many = {name: _one(model, rows) for name, model in loaded.items()}
    together = medians(many, clock=clock, budget_s=BUDGET_S / 2)
    # Geometric: twice as fast for one weighs as much as twice as fast for many.
    return {name: (alone[name] * together[name] / rows) ** 0.5 for name in loaded}


def _fewer_threads(
    many: Compiled, one: Compiled, threads: int, max_batch: int, clock: Clock
) -> tuple[Compiled, int]:
    """Return the faster of the two, one thread unless more are clearly faster; close the other."""
    times = _times({"one": one, "many": many}, max_batch, clock)
    if preferred(times) == "many":
        one.close()
        return many, threads
    many.close()
    return one, 1


def _best_batch(model: Compiled, most: int, clock: Clock) -> int:
    """Return the fewest rows that take hardly longer a row than the best number; `most` at most.

    At least 2 where `most` is: 1 would mean that requests are run whole, however many rows.
    """
    runs = {1: _one(model, 1)}
    alone = medians(runs, clock=clock, budget_s=BUDGET_S / 4)[1]  # a warm-up in any case
    if most == 1 or not model.batchable:
        return most
    rows = 1
    while rows < most and _affordable(model, min(2 * rows, most), alone):
        rows = min(2 * rows, most)
        runs[rows] = _one(model, rows)
    times = medians(runs, clock=clock, budget_s=BUDGET_S)
    each = {rows: seconds / rows for rows, seconds in times.items()}
    best = min(each.values())
    return max(2, min(rows for rows, seconds in each.items() if seconds <= _NEARLY * best))


def _affordable(model: Model, rows: int, alone_s: float) -> bool:
    """Return whether so many rows can be tried in short time and little memory."""
    row = probe_rows(model.inputs)[-1]
    size = sum(map(size_bytes, row.values()))
    return rows * alone_s <= _LONGEST_S and rows * size <= _MAX_PROBE_BYTES


def _one(model: Model, rows: int) -> Callable[[], object]:
    inputs = probe_rows(model.inputs, rows=rows)[-1]
    return lambda: _answer(model, inputs)
