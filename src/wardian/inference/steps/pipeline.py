"""A model with its steps around it: the tensors that a client sees are those outside of them."""

from collections.abc import Sequence
from typing import Protocol

from typing_extensions import override

from wardian._internal.steps import (
    ImageStep,
    NormaliseStep,
    PostStep,
    PreStep,
    SoftmaxStep,
    TokensStep,
)
from wardian.errors import ConfigError
from wardian.inference.probe import texts_independent
from wardian.inference.spec import Model, Tensors, TensorSpec
from wardian.inference.steps.numbers import Normalise, Softmax, Top
from wardian.inference.text.vocabulary import Vocabulary

Specs = tuple[TensorSpec, ...]


class Step(Protocol):
    """One step, bound to a tensor of a model."""

    name: str
    """Of the tensor that it takes the place of."""

    @property
    def outside(self) -> Specs:
        """What a client sends, or gets, in place of that tensor."""

    def apply(self, tensors: Tensors) -> Tensors:
        """Return `tensors` with the step done; may change and return the same dictionary.

        Raises:
            JobFailed: a value is not what the step takes.
        """


class Pipeline(Model):
    """A model whose inputs and outputs are those of its steps."""

    def __init__(self, model: Model, *, pre: Sequence[Step], post: Sequence[Step],
                 inputs: Specs, outputs: Specs) -> None:  # fmt: skip
        """Run `pre`, `model` and `post`; see `with_steps`."""
        self._model = model
        self._pre, self._post = tuple(pre), tuple(post)
        self._inputs, self._outputs = inputs, outputs
        self._batchable = model.batchable

    def settle_texts(self, name: str) -> None:
        """Find out whether rows are still independent where texts are padded to the longest."""
        self._batchable = self._batchable and texts_independent(
            self.infer, name=name, inputs=self._inputs, outputs=self._outputs
        )

    @property
    @override
    def engine(self) -> str:
        return self._model.engine

    @property
    @override
    def inputs(self) -> Specs:
        return self._inputs

    @property
    @override
    def outputs(self) -> Specs:
        return self._outputs

    @property
    @override
    def batchable(self) -> bool:
        return self._batchable  # each step is row by row, but for the padding of texts

    @override
    def infer(self, inputs: Tensors) -> Tensors:
        tensors = dict(inputs)
        for step in self._pre:
            tensors = step.apply(tensors)
        tensors = self._model.infer(tensors)
        for step in self._post:
            tensors = step.apply(tensors)
        return tensors

    @override
    def close(self) -> None:
        self._model.close()


def with_steps(
    model: Model,
    *,
    pre: Sequence[PreStep],
    post: Sequence[PostStep],
    vocabulary: Vocabulary | None = None,
) -> Model:
    """Return `model` with its steps around it, or itself where there are none.

    Args:
        model: loaded.
        pre: steps before it, in order.
        post: steps after it.
        vocabulary: of the model, for a step that splits texts.

    Raises:
        ConfigError: a step names a tensor that is not there, or that it cannot be used on.
    """
    if not pre and not post:
        return model
    before: list[Step] = []
    after: list[Step] = []
    inputs, outputs = model.inputs, model.outputs
    for ask in reversed(pre):  # the last one is next to the model
        if isinstance(ask, TokensStep):
            inputs, step = _bind_tokens(inputs, ask, vocabulary)
        else:
            inputs, step = _bind(inputs, ask)
        before.insert(0, step)
    for ask_after in post:
        outputs, step = _bind(outputs, ask_after)
        after.append(step)
    made = Pipeline(model, pre=before, post=after, inputs=inputs, outputs=outputs)
    for text in (ask.input for ask in pre if isinstance(ask, TokensStep)):
        made.settle_texts(text)
    return made


def _bind_tokens(
    specs: Specs, ask: TokensStep, vocabulary: Vocabulary | None
) -> tuple[Specs, Step]:
    """Return the tensors outside of a step that splits texts, and the step."""
    from wardian.inference.steps.tokens import bind_tokens  # noqa: PLC0415  where texts are served

    if vocabulary is None:
        raise ConfigError("`pre`: tokens needs a vocabulary")
    around, step = bind_tokens(specs, ask, vocabulary)
    _expect_one_name_each(around, "pre", ask.input)
    return around, step


def _bind(specs: Specs, ask: ImageStep | NormaliseStep | PostStep) -> tuple[Specs, Step]:
    """Return the tensors outside of the step that is asked for, and the step."""
    side = "pre" if isinstance(ask, ImageStep | NormaliseStep) else "post"
    name = ask.input if isinstance(ask, ImageStep | NormaliseStep) else ask.output
    found = next((at for at, spec in enumerate(specs) if spec.name == name), None)
    if found is None:
        known = ", ".join(repr(spec.name[:64]) for spec in specs)
        raise ConfigError(f"`{side}`: no tensor {name!r}; there is: {known}")
    step = _step(specs[found], ask)
    around = (*specs[:found], *step.outside, *specs[found + 1 :])
    _expect_one_name_each(around, side, name)
    return around, step


def _expect_one_name_each(around: Specs, side: str, name: str) -> None:
    if len({spec.name for spec in around}) < len(around):
        raise ConfigError(f"`{side}`: two tensors would have one name after the step on {name!r}")


def _step(spec: TensorSpec, ask: ImageStep | NormaliseStep | PostStep) -> Step:
    match ask:
        case ImageStep():
            from wardian.inference.steps.image import DecodeImage  # noqa: PLC0415  needs Pillow

            return DecodeImage(spec, ask)
        case NormaliseStep():
            return Normalise(spec, ask)
        case SoftmaxStep():
            return Softmax(spec)
        case _:
            return Top(spec, ask)
