"""Train the classifier of handwritten digits; write `digits.onnx` and `heldout.npz` beside it.

The data are scikit-learn's bundled digits (1,797 images of 8 x 8 pixels, UCI, CC BY 4.0): two
thirds train the network, one third is held out and travels with the example, so that the self-check
of `wardian up` can measure accuracy. Same seed, same library versions: the same files.

    python examples/digits/train.py        # needs scikit-learn and onnx: pip install 'wardian[dev]'
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).parent
SEED = 7


def as_onnx(network: MLPClassifier) -> onnx.ModelProto:
    """Return `network` as ONNX.

    Input: image FP32 [N, 64]. Outputs: probabilities FP32 [N, 10], label INT64 [N].
    """
    nodes, weights, value = [], [], "image"
    last = len(network.coefs_) - 1
    for index, (matrix, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        weights += [
            numpy_helper.from_array(matrix.astype(np.float32), f"weight{index}"),
            numpy_helper.from_array(bias.astype(np.float32), f"bias{index}"),
        ]
        nodes.append(
            helper.make_node("Gemm", [value, f"weight{index}", f"bias{index}"], [f"sum{index}"])
        )
        value = f"sum{index}"
        if index < last:
            nodes.append(helper.make_node("Relu", [value], [f"hidden{index}"]))
            value = f"hidden{index}"
    nodes += [
        helper.make_node("Softmax", [value], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 64])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Train, say how well it went, and write both files."""
    images, labels = load_digits(return_X_y=True)
    split: list[NDArray[Any]] = train_test_split(
        images, labels, test_size=1 / 3, random_state=SEED, stratify=labels
    )
    train_images, held_images, train_labels, held_labels = split
    network = MLPClassifier((128, 128), alpha=1e-3, max_iter=400, random_state=SEED)
    network.fit((train_images / 16).astype(np.float32), train_labels)
    accuracy = network.score((held_images / 16).astype(np.float32), held_labels)
    raw = as_onnx(network).SerializeToString()
    (HERE / "digits.onnx").write_bytes(raw)
    np.savez_compressed(
        HERE / "heldout.npz",
        image=held_images.astype(np.uint8),
        label=held_labels.astype(np.uint8),
    )
    print(f"digits.onnx: {len(raw):,} bytes; {accuracy:.4f} on {len(held_labels)} held-out images")


if __name__ == "__main__":
    main()
