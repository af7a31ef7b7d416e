"""Which engine generates fastest here, of those that give the same scores.

As `inference.choice` does for other models, but by a trial that such a model can run: a prompt, and
then a token after it with what was kept, whose scores have to be those of the whole run anew.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from wardian._internal.log import event
from wardian._internal.steps import GenerateTerms
from wardian.errors import ConfigError, FormatError, JobFailed, WardianError
from wardian.inference.base import Compiled
from wardian.inference.generate.decoder import Decoder
from wardian.inference.generate.generator import Generator
from wardian.inference.probe import close
from wardian.inference.spec import FREE, Array
from wardian.inference.text.vocabulary import Vocabulary
from wardian.inference.timing import Clock, medians, preferred

log = logging.getLogger(__name__)

BUDGET_S: Final = 0.4
_TRIAL_TOKENS: Final = 12

Load = Callable[[str], Compiled]
"""Loads the model by the engine of that name."""


def choose_generator(
    load: Load,
    names: Sequence[str],
    terms: GenerateTerms,
    vocabulary: Vocabulary,
    *,
    clock: Clock,
) -> Generator:
    """Return the model as it generates fastest, warm.

    Args:
        load: loads it.
        names: engines to choose from, the usual one first.
        terms: of `wardian.toml`.
        vocabulary: that the model carries.
        clock: seconds, monotonic.

    Raises:
        ConfigError: no engine runs it as it has to be run, or they give different scores; or it
            has not the tensors or tokens that `terms` name.
        FormatError: `data` is no model.
    """
    loaded, scores = _load_all(load, names, terms, vocabulary)
    try:
        _expect_one_answer(scores)
        steps = {name: _step(each, vocabulary) for name, each in loaded.items()}
        best = preferred(medians(steps, clock=clock, budget_s=BUDGET_S))
        made = Generator(loaded[best], terms, vocabulary)
    except BaseException:
        for each in loaded.values():
            each.model.close()
        raise
    for name, each in loaded.items():
        if name != best:
            each.model.close()
    event(log, "model.chosen", engine=made.engine, generates=True, caching=loaded[best].caching)
    return made


def _expect_one_answer(scores: Mapping[str, Array]) -> None:
    first, *others = scores.values()
    if not all(close(other, first) for other in others):
        raise ConfigError(
            f"model: {' and '.join(scores)} give different scores; find out which is right, "
            "and name that one as its `engine`"
        )


def _load_all(
    load: Load, names: Sequence[str], terms: GenerateTerms, vocabulary: Vocabulary
) -> tuple[dict[str, Decoder], dict[str, Array]]:
    """Return the engines that can run the model, and the scores that each gives after a prompt."""
    loaded: dict[str, Decoder] = {}
    scores: dict[str, Array] = {}
    errors: list[WardianError] = []
    for name in names:
        try:
            model = load(name)
        except (ConfigError, FormatError) as err:  # not every engine reads all of ONNX
            errors.append(err)
            continue
        try:
            decoder = Decoder(model, terms)
            scores[name] = _trial_scores(decoder, vocabulary)
        except ConfigError as err:
            model.close()
            errors.append(err)
        else:
            loaded[name] = decoder
    if not loaded:
        raise errors[0]
    return loaded, scores


def _trial(decoder: Decoder, vocabulary: Vocabulary) -> list[int]:
    """Return a prompt of some tokens that the model has."""
    known = len(vocabulary.tokens)
    size = known if decoder.vocabulary == FREE else min(known, decoder.vocabulary)
    return [1 + at * 7919 % max(1, size - 1) for at in range(_TRIAL_TOKENS)] if size > 1 else [0]


def _trial_scores(decoder: Decoder, vocabulary: Vocabulary) -> Array:
    """Return the scores after a prompt, found to be the same with what was kept and without.

    Raises:
        ConfigError: they are not, or the model cannot be run so.
    """
    tokens = _trial(decoder, vocabulary)
    try:
        whole, _ = decoder.run(tokens)
        if decoder.caching and len(tokens) > 1:
            _, past = decoder.run(tokens[:-1])
            after, _ = decoder.run(tokens, len(tokens) - 1, past)
            if not close(after, whole):
                raise ConfigError(
                    "`generate`: with the keys and values that it gave, the model gives other "
                    "scores than for the whole text"
                )
    except JobFailed as err:
        raise ConfigError(
            f"`generate`: {decoder.model.engine} cannot run the model on a short prompt"
        ) from err
    return whole


def _step(decoder: Decoder, vocabulary: Vocabulary) -> Callable[[], object]:
    """Return what takes as long as one more token does."""
    tokens = _trial(decoder, vocabulary)
    if not decoder.caching or len(tokens) < 2:
        return lambda: decoder.run(tokens)
    _, past = decoder.run(tokens[:-1])
    return lambda: decoder.run(tokens, len(tokens) - 1, past)
