"""A causal decoder of one layer and random weights, with and without keys and values kept.

What it says is nonsense, and depends on every token before and on its place.
"""

from functools import cache

import numpy as np
from onnx import TensorProto, helper
from simulators.data_plane import onnx_model

from wardian.inference.attached import with_vocabulary
from wardian.inference.text.vocabulary import BYTE_CHARS, Vocabulary, build_vocabulary

ONNX = "application/onnx"
END = "<|endoftext|>"
HEADS, WIDTH = 2, 8
SIZE = HEADS * WIDTH
POSITIONS = 512
VOCABULARY = Vocabulary(
    kind="byte-bpe",
    tokens=[*BYTE_CHARS, END, "Ġt", "he", "Ġthe", "ab"],
    merges=["Ġ t", "h e", "Ġt he", "a b"],
)
TOKENS = len(VOCABULARY.tokens)
FP, I64 = TensorProto.FLOAT, TensorProto.INT64


def _weights(seed: int, loud: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.normal(size=shape) * scale).astype(np.float32)

    return {
        "embedding": draw(TOKENS, SIZE),
        "places": draw(POSITIONS, SIZE),
        "wq": draw(SIZE, SIZE, scale=0.4),
        "wk": draw(SIZE, SIZE, scale=0.4),
        "wv": draw(SIZE, SIZE, scale=0.8),
        "wo": draw(SIZE, TOKENS, scale=loud),
        "split": np.array([0, 0, HEADS, WIDTH]),
        "merge": np.array([0, 0, SIZE]),
        "root": np.array(WIDTH**-0.5, np.float32),
        "far": np.array(-1e9, np.float32),
    }


@cache
def decoder(*, cached: bool = True, seed: int = 5, loud: float = 0.5) -> bytes:
    """Return the model, its vocabulary within; `loud` weights make the likeliest token clearer."""
    node = helper.make_node
    nodes = [
        node("Gather", ["embedding", "input_ids"], ["e"]),
        node("Gather", ["places", "position_ids"], ["p"]),
        node("Add", ["e", "p"], ["x"]),
    ]
    for name in "qkv":
        nodes += [
            node("MatMul", ["x", f"w{name}"], [f"{name}0"]),
            node("Reshape", [f"{name}0", "split"], [f"{name}1"]),
            node("Transpose", [f"{name}1"], [f"{name}2"], perm=[0, 2, 1, 3]),
        ]
    key, value = "k2", "v2"
    ids = ["N", "L"]
    inputs = [("input_ids", I64, ids), ("attention_mask", I64, ["N", "T"]),
              ("position_ids", I64, ids)]  # fmt: skip
    outputs = [("logits", FP, ["N", "L", TOKENS])]
    if cached:
        for side, made in (("key", "k2"), ("value", "v2")):
            past, present = f"past_key_values.0.{side}", f"present.0.{side}"
            nodes.append(node("Concat", [past, made], [present], axis=2))
            inputs.append((past, FP, ["N", HEADS, "P", WIDTH]))
            outputs.append((present, FP, ["N", HEADS, "T", WIDTH]))
        key, value = "present.0.key", "present.0.value"
    nodes += [
        node("Transpose", [key], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q2", "kt"], ["s0"]),
        node("Mul", ["s0", "root"], ["s1"]),
        # A token sees those at places up to its own: the places of all are 0, 1, ... T - 1.
        node("CumSum", ["attention_mask", "axis_one"], ["count"]),
        node("Sub", ["count", "int_one"], ["all_places"]),
        node("Unsqueeze", ["all_places", "mine_axes"], ["seen"]),  # (N, 1, 1, T)
        node("Unsqueeze", ["position_ids", "own_axes"], ["own"]),  # (N, 1, L, 1)
        node("Greater", ["seen", "own"], ["hidden"]),
        node("Cast", ["hidden"], ["h"], to=FP),
        node("Mul", ["h", "far"], ["bias"]),
        node("Add", ["s1", "bias"], ["s2"]),
        node("Softmax", ["s2"], ["a"], axis=-1),
        node("MatMul", ["a", value], ["o0"]),
        node("Transpose", ["o0"], ["o1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "merge"], ["o2"]),
        node("Add", ["o2", "x"], ["o3"]),
        node("MatMul", ["o3", "wo"], ["logits"]),
    ]
    weights = _weights(seed, loud) | {
        "axis_one": np.array(1),
        "int_one": np.array(1),
        "mine_axes": np.array([1, 2]),
        "own_axes": np.array([1, 3]),
    }
    model = onnx_model(nodes, inputs=inputs, outputs=outputs, weights=weights)
    return with_vocabulary(model, media_type=ONNX, vocabulary=build_vocabulary(VOCABULARY))
