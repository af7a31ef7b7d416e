"""A step that splits texts: what a client sends are texts, what the model sees are numbers."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from simulators.data_plane import (
    LANES,
    Collector,
    MemoryQueue,
    Pipe,
    onnx_digits,
    onnx_model,
    sender,
)

from wardian._internal import settings
from wardian._internal.agreed import Agreed
from wardian._internal.steps import TokensStep
from wardian.cli.files import seal
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, JobFailed
from wardian.inference.attached import with_vocabulary
from wardian.inference.choice import Chosen, choose_model
from wardian.inference.convert.source import convert
from wardian.inference.dtypes import bytes_array
from wardian.inference.steps import tokens as module
from wardian.inference.text.vocabulary import BYTE_CHARS, Vocabulary, build_vocabulary
from wardian.serving.dispatch import Dispatcher

ONNX, IR = "application/onnx", "application/vnd.wardian.openvino-ir"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "owner", "seal", "##s", "a", "model", "é", "."]
PIECES = build_vocabulary(Vocabulary(kind="wordpiece", tokens=WORDS))
PAIRS = build_vocabulary(
    Vocabulary(
        kind="byte-bpe",
        tokens=[*BYTE_CHARS, "<|endoftext|>", "<s>", "Ġa", "he", "the"],
        merges=["Ġ a", "h e", "t he"],
    )
)
SIZE = 300  # of the embedding: more than any of these vocabularies has


def table() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(SIZE, 4)).astype(np.float32)


def embeds(*, masked=True, types=False, length: int | str = "L", kind=TensorProto.INT64) -> bytes:
    """Return scores [N,4]: the sum of the embeddings of a row's tokens, padding left out if masked.

    With `types`, token_type_ids are taken and added: they have to be 0 to change nothing.
    """
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["each"])]
    inputs = [("input_ids", kind, ["N", length])]
    if masked:
        inputs.append(("attention_mask", kind, ["N", length]))
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["m", "last"], ["wide"]),
            helper.make_node("Mul", ["each", "wide"], ["kept"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["each"], ["kept"]))
    nodes.append(helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0))
    if types:
        inputs.append(("token_type_ids", kind, ["N", length]))
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["t"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["t", "middle"], ["tt"], keepdims=1),
            helper.make_node("Add", ["sum", "tt"], ["scores"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["scores"]))
    weights = {"table": table(), "last": np.array([2]), "middle": np.array([1])}
    if not masked:
        del weights["last"]
    return onnx_model(
        nodes, inputs=inputs, outputs=[("scores", TensorProto.FLOAT, ["N", 4])], weights=weights
    )


def load(data: bytes, ask: TokensStep, *, vocabulary: bytes = PIECES, engine="openvino") -> Chosen:
    sealed = with_vocabulary(data, media_type=ONNX, vocabulary=vocabulary)
    return choose_model(sealed, media_type=ONNX, engine=engine, pre=[ask], max_batch=8)


def texts(*rows: str | bytes) -> dict[str, np.ndarray]:
    raw = [row if isinstance(row, bytes) else row.encode() for row in rows]
    return {"text": bytes_array(raw, (len(raw),))}


def scores(*rows: list[int]) -> np.ndarray:
    return np.array([table()[row].sum(axis=0) for row in rows])


CASED = TokensStep()
SEEN = [2, 4, 5, 6, 7, 8, 9, 11, 3]  # [CLS] the owner seal ##s a model . [SEP]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "auto"])
@pytest.mark.parametrize("types", [False, True])
def test_a_client_sends_texts(engine: str, types: bool) -> None:
    model = load(embeds(types=types), CASED, engine=engine).model
    assert [(each.name, each.dtype, each.shape) for each in model.inputs] == [
        ("text", "BYTES", (-1,))
    ]
    assert model.batchable
    answer = model.infer(texts("the owner seals a model.", "", "stranger"))["scores"]
    assert np.allclose(answer, scores(SEEN, [2, 3], [2, 1, 3]), atol=1e-5)


def test_int32_and_a_length_that_the_model_fixes() -> None:
    ask = TokensStep(max_length=6)
    model = load(embeds(length=8, kind=TensorProto.INT32), ask).model
    answer = model.infer(texts("the owner seals a model."))["scores"]
    assert np.allclose(answer, scores([2, 4, 5, 6, 7, 3]), atol=1e-5)  # cut off, and still ended
    with pytest.raises(ConfigError, match="`max_length` 512 is above the model's 8"):
        load(embeds(length=8), CASED)


def test_byte_bpe_with_its_own_special_tokens() -> None:
    ask = TokensStep(first="<s>", last="<|endoftext|>", input="prompt")
    model = load(embeds(), ask, vocabulary=PAIRS).model
    answer = model.infer({"prompt": bytes_array(["the a é".encode()], (1,))})["scores"]
    accent = [0x20, 0xC3, 0xA9]
    assert np.allclose(answer, scores([257, 260, 258, *accent, 256]), atol=1e-5)
    bare = load(embeds(), TokensStep(), vocabulary=PAIRS).model
    assert np.allclose(bare.infer(texts("he"))["scores"], scores([259]), atol=1e-5)


def test_lowercase_drops_accents() -> None:
    model = load(embeds(), TokensStep(lowercase=True)).model
    assert np.allclose(model.infer(texts("THE Ówner"))["scores"], scores([2, 4, 5, 3]), atol=1e-5)


def test_a_model_that_counts_the_padding_gets_each_request_alone() -> None:
    """Else the length of one client's text would show in the answer to another's."""
    assert not load(embeds(masked=False), CASED).model.batchable
    fixed = load(embeds(masked=False, length=16), TokensStep(max_length=16)).model
    assert fixed.batchable  # always the same padding


def test_an_answer_as_long_as_the_text_is_not_stacked() -> None:
    data = onnx_model(
        [helper.make_node("Cast", ["input_ids"], ["seen"], to=TensorProto.FLOAT)],
        inputs=[("input_ids", TensorProto.INT64, ["N", "L"])],
        outputs=[("seen", TensorProto.FLOAT, ["N", "L"])],
    )
    model = load(data, CASED).model
    assert not model.batchable
    assert model.infer(texts("a", "the owner"))["seen"].tolist() == [[2, 8, 3, 0], [2, 4, 5, 3]]


async def test_through_front_end_and_worker_with_a_bad_neighbour() -> None:
    chosen = load(embeds(), TokensStep(max_text_bytes=100))
    queue = MemoryQueue()
    dispatcher = Dispatcher(
        queue=queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=99,
        batch_across_tenants=frozenset({"digits"}),
    )  # fmt: skip
    pipe = Pipe(queue.connect(), chosen.model, max_batch=8, batch_across_tenants=True)
    await pipe.step()
    requests = Collector(dispatcher)
    requests.submit("good", texts("the owner seals a model."))
    requests.submit("long", texts("a" * 101))
    requests.submit("broken", texts(b"\xff"))
    requests.submit("also good", texts("a", "the"))
    with pipe.serving():
        outcomes = await requests.all_done()
    assert np.allclose(outcomes["good"].outputs["scores"], scores(SEEN), atol=1e-5)
    assert np.allclose(
        outcomes["also good"].outputs["scores"], scores([2, 8, 3], [2, 4, 3]), atol=1e-5
    )
    assert isinstance(outcomes["long"].error, JobFailed)
    assert isinstance(outcomes["broken"].error, JobFailed)
    dispatcher.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"\xc3", "not UTF-8"),
        (b"\xed\xa0\x80", "not UTF-8"),  # a surrogate
        (b"a" * 16_385, "more than 16384 bytes"),
        ("a", "no bytes"),
    ],
)
def test_texts_that_are_refused(row: object, says: str) -> None:
    model = load(embeds(), CASED).model
    with pytest.raises(JobFailed, match=says):
        model.infer({"text": np.array([row], object)})


def test_a_text_without_a_token_is_no_row_of_padding() -> None:
    model = load(embeds(), TokensStep(), vocabulary=PAIRS).model
    for rows in (texts(""), texts("a", "")):
        with pytest.raises(JobFailed, match="without any token"):
            model.infer(rows)


def test_many_texts_are_bounded_before_they_are_split(monkeypatch) -> None:
    model = load(embeds(), CASED).model
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(JobFailed, match="too long together"):
        model.infer(texts(*["abc"] * 4))
    monkeypatch.setattr(module, "MAX_NUMBERS", 12)
    with pytest.raises(JobFailed, match="too many texts"):
        model.infer(texts("a", "a", "a", "a a"))
    fixed = load(embeds(length=8), TokensStep(max_length=8)).model
    with pytest.raises(JobFailed, match="too many texts"):
        fixed.infer(texts("a", "a"))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"ids": "ids"}, "no tensor 'ids'; there is: 'input_ids', 'attention_mask'"),
        ({"mask": "mask"}, "no tensor 'mask'"),
        ({"types": "token_type_ids"}, "no tensor 'token_type_ids'"),
        ({"mask": "input_ids"}, "different tensors"),
        ({"input": "attention_mask", "mask": "input_ids"}, "different tensors"),
        ({"first": "<s>"}, "no token '<s>', its `first`"),
        ({"pad": ""}, "no token '', its `pad`"),
        ({"unknown": ""}, "no token '', its `unknown`"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(members: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(embeds(), TokensStep(**members))


def test_what_is_for_wordpiece_alone() -> None:
    for members in ({"lowercase": True}, {"unknown": "a"}):
        with pytest.raises(ConfigError, match="wordpiece alone"):
            load(embeds(), TokensStep(**members), vocabulary=PAIRS)


def test_inputs_that_are_no_rows_of_numbers() -> None:
    with pytest.raises(ConfigError, match=r"INT64 or INT32 of shape \[N, L\]"):
        load(onnx_digits(), TokensStep(ids="image"))


def test_without_a_vocabulary_the_model_is_not_loaded() -> None:
    with pytest.raises(ConfigError, match="wardian seal --vocab"):
        choose_model(embeds(), media_type=ONNX, pre=[CASED])


AGREED = """
[mesh]
name = "m"
owners = ["{key}"]
[models.bert]
pre = [{{ step = "tokens", lowercase = true, {more} }}]
"""


def test_as_it_stands_in_wardian_toml() -> None:
    raw = AGREED.format(key="a" * 64, more="max_length = 128").encode()
    (ask,) = settings.parse(raw, Agreed, name="wardian.toml").models["bert"].pre
    assert ask == TokensStep(lowercase=True, max_length=128)
    for wrong in ("max_length = 1", "max_text_bytes = 2000000", "vocab = 'x'", 'ids = ""'):
        raw = AGREED.format(key="a" * 64, more=wrong).encode()
        with pytest.raises(ConfigError, match="line 6"):
            settings.parse(raw, Agreed, name="wardian.toml")
    assert msgspec.toml.decode(b"max_length = 2", type=TokensStep).max_length == 2


def sealed_by(tmp_path: Path, *arguments: object) -> bytes:
    made, key = tmp_path / "m.sealed", tmp_path / "m.key"
    done = CliRunner().invoke(
        seal, [*map(str, arguments), "-o", str(made), "--new-key", str(key), "--name", "bert"]
    )
    assert done.exit_code == 0, done.output
    media_type = IR if "--from" in arguments else ONNX
    with made.open("rb") as source:
        return bytes(
            open_bytes(
                source,
                identities=[BrokerKey(Secret(bytes.fromhex(key.read_text().strip())))],
                pin=Pin.parse(made.with_name("m.sealed.pin").read_text().strip()),
                media_type=media_type,
                name="bert",
                version=1,
                max_bytes=2**20,
            )
        )


@pytest.mark.parametrize("ir", [False, True])
def test_wardian_seal_puts_the_vocabulary_into_the_model(tmp_path: Path, ir: bool) -> None:
    import openvino as ov

    source, vocab = tmp_path / "bert.onnx", tmp_path / "vocab.txt"
    vocab.write_text("\n".join(WORDS) + "\n")
    source.write_bytes(embeds(types=True))
    arguments: tuple[object, ...] = (source, "--vocab", vocab)
    if ir:
        xml = tmp_path / "bert.xml"
        ov.save_model(ov.Core().read_model(str(source)), str(xml), compress_to_fp16=False)
        assert convert("openvino", xml).media_type == IR
        arguments = (xml, "--from", "openvino", "--vocab", vocab)
    opened = sealed_by(tmp_path, *arguments)
    chosen = choose_model(opened, media_type=IR if ir else ONNX, pre=[CASED])
    answer = chosen.model.infer(texts("the owner seals a model."))["scores"]
    assert np.allclose(answer, scores(SEEN), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--merges", "vocab"], "--merges goes with --vocab"),
        (["--vocab", "vocab", "--media-type", "text/csv"], "--vocab goes into a model"),
        (["--vocab", "model"], "UTF-8"),
        (["--vocab", "vocab", "--merges", "vocab"], "object of numbers"),
    ],
)
def test_wardian_seal_refuses(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "model").write_bytes(onnx_digits())
    (tmp_path / "vocab").write_text("\n".join(WORDS))
    given = [str(tmp_path / each) if each in ("vocab", "model") else each for each in arguments]
    done = CliRunner().invoke(
        seal, [str(tmp_path / "model"), "--new-key", str(tmp_path / "key"), *given]
    )
    assert done.exit_code != 0
    assert says in f"{done.output}{done.exception}"
    assert not (tmp_path / "model.sealed").exists()
