"""A model that generates: parts that join to the whole, however it is cut, kept or run anew."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from simulators.data_plane import onnx_model
from simulators.tiny_decoder import END, ONNX, TOKENS, VOCABULARY, decoder

from wardian._internal.agreed import ModelTerms
from wardian._internal.steps import GenerateTerms, SoftmaxStep
from wardian.errors import ConfigError, JobFailed, RequestError
from wardian.inference.attached import with_vocabulary
from wardian.inference.choice import choose_model
from wardian.inference.generate.generator import Generator
from wardian.inference.generate.parts import (
    PARAMETERS,
    TEXT,
    Ask,
    Part,
    build_inputs,
    generates,
    parse_outputs,
)
from wardian.inference.text.vocabulary import build_vocabulary

NO_END = {"end": ()}  # by itself the model would stop anywhere


def load(data: bytes | None = None, *, engine: str = "onnxruntime", **terms: object) -> Generator:
    made = choose_model(
        decoder() if data is None else data,
        media_type=ONNX,
        engine=engine,
        generate=GenerateTerms(**{**NO_END, **terms}),
    )
    assert made.max_batch == 1
    assert isinstance(made.model, Generator)
    return made.model


def part(model: Generator, text: str = "the owner", **ask: object) -> Part:
    return parse_outputs(model.infer(build_inputs(text.encode(), Ask(**ask))))


def chain(model: Generator, text: str, sizes: list[int], **ask: object) -> tuple[bytes, list[int]]:
    """What a front end does: parts of these sizes, the last again and again."""
    tokens: list[int] = []
    said = b""
    while True:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        got = part(model, text, limit=size, tokens=tokens, **ask)
        assert len(got.tokens) <= size
        tokens += got.tokens
        said += got.text
        got.text.decode()  # whole characters
        if got.finish:
            return said, tokens


@pytest.fixture(scope="module")
def model() -> Generator:
    return load()


def test_it_is_known_by_its_tensors(model: Generator, engine: str) -> None:
    assert generates(model.inputs, model.outputs)
    assert not generates(model.inputs[:1], model.outputs)
    assert not model.batchable
    made = load(engine=engine)
    assert made.engine.startswith(engine)
    assert part(made, max_tokens=20).tokens == part(model, max_tokens=20).tokens


def test_parts_join_to_the_whole(model: Generator) -> None:
    whole = part(model, max_tokens=40)
    assert (len(whole.tokens), whole.finish, whole.prompt_tokens) == (40, "length", 8)
    for sizes in ([1], [40], [1, 2, 4, 8, 16], [3], [7, 1]):
        for stream in ("", "ab" * 16):
            said = chain(model, "the owner", sizes[:], max_tokens=40, stream=stream)
            assert said == (whole.text, whole.tokens)
    assert not len(model.caches)  # the answer was over


@pytest.mark.parametrize("drawn", [{}, {"temperature": 1.3, "seed": 7}, {"temperature": 0.8,
    "top_k": 9, "top_p": 0.9, "seed": 2**63 - 1}])  # fmt: skip
def test_with_and_without_keys_and_values(drawn: dict) -> None:
    kept, none, bare = load(), load(cache_bytes=0), load(decoder(cached=False))
    said = [
        chain(each, "the owner", [1, 2, 4, 8, 16], max_tokens=60, stream="01" * 16, **drawn)
        for each in (kept, none, bare)
    ]
    assert said[0] == said[1] == said[2]
    assert len(said[0][1]) == 60


def test_what_was_kept_saves_the_run(model: Generator) -> None:
    lengths: list[int] = []
    inner = model._decoder.model

    class Watched:
        engine = inner.engine

        def infer(self, inputs):
            lengths.append(inputs["input_ids"].shape[1])
            return inner.infer(inputs)

    model._decoder.model = Watched()
    try:
        first = part(model, max_tokens=9, limit=2, stream="cd" * 16)
        part(model, max_tokens=9, limit=2, stream="cd" * 16, tokens=first.tokens)
        assert lengths == [8, 1, 1, 1]
        part(model, max_tokens=9, limit=2, stream="ee" * 16, tokens=first.tokens)
        assert lengths[4:] == [10, 1]  # another stream, the same words
        part(model, "the owners", max_tokens=9, limit=1, stream="cd" * 16, tokens=first.tokens)
        assert lengths[6] > 7  # the same number, other words
    finally:
        model._decoder.model = inner
        model.caches.close()


def test_a_seed_settles_the_answer(model: Generator) -> None:
    ask = {"max_tokens": 30, "temperature": 1.0}
    one = part(model, seed=1, **ask).tokens
    assert part(model, seed=1, **ask).tokens == one
    assert part(model, seed=2, **ask).tokens != one
    assert part(model, max_tokens=30).tokens != one


def test_ends_by_a_token_of_the_vocabulary() -> None:
    endless = load()
    tokens = part(endless, max_tokens=30).tokens
    last = next(at for at, token in enumerate(tokens) if token not in tokens[:at] and at > 3)
    ending = load(end=(VOCABULARY.tokens[tokens[last]],))
    got = part(ending, max_tokens=30, stream="aa" * 16)
    assert (got.tokens, got.finish) == (tokens[:last], "stop")
    assert not len(ending.caches)
    assert load(end=None)._end == {VOCABULARY.tokens.index(END)}


def test_ends_before_a_stop_text(model: Generator) -> None:
    whole = part(model, max_tokens=60).text.decode()
    stop = whole[10:13]
    cut = whole[: whole.index(stop)]
    for sizes in ([60], [1], [1, 2, 4]):
        said, _ = chain(model, "the owner", sizes[:], max_tokens=60, stop=("never", stop))
        assert said.decode() == cut


def test_none_and_the_owners_bound(model: Generator) -> None:
    got = part(model, max_tokens=0)
    assert (got.text, got.tokens, got.finish, got.prompt_tokens) == (b"", [], "length", 8)
    bounded = load(most_tokens=5, most_prompt_tokens=8)
    assert len(part(bounded, max_tokens=100).tokens) == 5
    assert part(bounded, max_tokens=100, tokens=[1] * 5).finish == "length"
    assert part(bounded, "the owner!").finish == "prompt_too_long"
    assert part(bounded, "the owner" * 100).prompt_tokens == 9  # no more is counted
    assert part(load(max_text_bytes=4), "owner").finish == "prompt_too_long"
    assert part(model, "").finish == "no_prompt"
    assert part(load(first=END), "", max_tokens=3).finish == "length"


def test_a_prompt_in_numbers(model: Generator) -> None:
    numbers = model._prompt(b"the owner", Ask())
    assert part(model, "", input_ids=numbers, max_tokens=9) == part(model, max_tokens=9)


def test_what_is_not_of_the_form_is_refused(model: Generator) -> None:
    for text, raw in (
        (b"\xff\xfe", b"{}"),
        (b"a", b"{"),
        (b"a", b"[]"),
        (b"a", b'{"temperature":-1}'),
        (b"a", b'{"temperature":"hot"}'),
        (b"a", b'{"top_p":0}'),
        (b"a", b'{"max_tokens":-1}'),
        (b"a", b'{"max_tokens":40000}'),
        (b"a", b'{"seed":9223372036854775808}'),
        (b"a", b'{"stop":["a","b","c","d","e"]}'),
        (b"a", b'{"stop":[""]}'),
        (b"a", b'{"stream":"zz"}'),
        (b"a", b'{"tokens":[%d]}' % TOKENS),
        (b"", b'{"input_ids":[%d]}' % TOKENS),
        (b"a", b'{"input_ids":[1]}'),
        (b"a", b'{"model":"other"}'),
        (b"a", b"\xff"),
        (b"a", b"[" * 100_000),
        (b"a", b" " * (1024**2 + 1)),
    ):
        inputs = {TEXT: np.array([text], object), PARAMETERS: np.array([raw], object)}
        with pytest.raises(RequestError):
            model.infer(inputs)


def test_scores_that_are_none() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["t", "input_ids"], ["e"]),
        helper.make_node("Sqrt", ["e"], ["logits"]),  # of negative numbers
    ]
    data = onnx_model(
        nodes,
        inputs=[("input_ids", TensorProto.INT64, ["N", "L"])],
        outputs=[("logits", TensorProto.FLOAT, ["N", "L", TOKENS])],
        weights={"t": -1 - rng.random((TOKENS, TOKENS)).astype(np.float32)},
    )
    broken = with_vocabulary(data, media_type=ONNX, vocabulary=build_vocabulary(VOCABULARY))
    with pytest.raises(JobFailed, match="no numbers"):
        part(load(broken))


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"ids": "ids"}, "no input 'ids'"),
        ({"mask": "masks"}, "no input 'masks'"),
        ({"logits": "scores"}, "no output 'scores'"),
        ({"ids": "past_key_values.0.key"}, "INT64 or INT32"),
        ({"logits": "present.0.key"}, "of shape"),
        ({"past": "old"}, "nothing is known to put into"),
        ({"present": "new"}, "nothing is known to put into"),
        ({"end": ("nowhere",)}, "no token 'nowhere'"),
        ({"first": "nowhere"}, "no token 'nowhere'"),
        ({"lowercase": True}, "wordpiece alone"),
    ],
)
def test_terms_that_do_not_fit(terms: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(**terms)


def test_steps_and_generate_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="takes the place"):
        ModelTerms(generate=GenerateTerms(), post=(SoftmaxStep(output="logits"),))


def test_auto_measures_what_generates() -> None:
    made = load(engine="auto")
    assert made.engine.startswith(("openvino", "onnxruntime"))
    assert part(made, max_tokens=20).tokens == part(load(), max_tokens=20).tokens


def test_a_model_without_vocabulary_is_refused() -> None:
    data = onnx_model(
        [helper.make_node("Gather", ["t", "input_ids"], ["logits"])],
        inputs=[("input_ids", TensorProto.INT64, ["N", "L"])],
        outputs=[("logits", TensorProto.FLOAT, ["N", "L", 4])],
        weights={"t": np.eye(4, dtype=np.float32)},
    )
    with pytest.raises(ConfigError, match="generate.*needs the model's"):
        load(data)
