"""Writes the two models that every peer serves: nothing is downloaded, the weights are random.

    python bench/peers/models.py DIRECTORY

`mlp.onnx` is 64-128-128-10, `resnet50.onnx` has the layers of ResNet-50 (He et al. 2015, table 1;
the stride lies in the 3x3 convolution, as in the reference implementations of today). Batch
normalisation is folded into the convolutions, as every engine does before it runs.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks and first stride of each stage."""


class Graph:
    """Nodes and weights in the order in which they are added."""

    def __init__(self) -> None:
        """Empty."""
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(1)

    def weight(self, *shape: int) -> str:
        """Add random weights, scaled so that activations neither grow nor vanish (He)."""
        name = f"w{len(self.weights)}"
        scale = np.sqrt(2.0 / max(1, int(np.prod(shape[1:]))))
        values = (self._random.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node and return its output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def conv(self, given: str, wide: int, out: int, size: int, stride: int = 1) -> str:
        """Add a convolution that keeps the size but for its stride."""
        weight, pad = self.weight(out, wide, size, size), size // 2
        return self.node("Conv", given, weight, strides=[stride, stride], pads=[pad, pad, pad, pad])

    def relu(self, given: str) -> str:
        """Add a rectifier."""
        return self.node("Relu", given)

    def dense(self, given: str, wide: int, out: int) -> str:
        """Add a fully connected layer."""
        return self.node("Gemm", given, self.weight(out, wide), transB=1)

    def save(self, path: Path, *, given: list[int], output: str, wide: int) -> None:
        """Write the graph as a model with the input "x" and the output "y"."""
        self.nodes.append(helper.make_node("Softmax", [output], ["y"], axis=-1))
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *given])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", wide])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        onnx.save(model, path)


def mlp(path: Path) -> None:
    """Write the small model."""
    graph = Graph()
    first = graph.relu(graph.dense("x", 64, 128))
    second = graph.relu(graph.dense(first, 128, 128))
    graph.save(path, given=[64], output=graph.dense(second, 128, 10), wide=10)


def bottleneck(graph: Graph, given: str, wide: int, width: int, stride: int) -> str:
    """Add one block of three convolutions around its short cut."""
    inner = graph.relu(graph.conv(given, wide, width, 1))
    inner = graph.relu(graph.conv(inner, width, width, 3, stride))
    inner = graph.conv(inner, width, 4 * width, 1)
    short = given if wide == 4 * width else graph.conv(given, wide, 4 * width, 1, stride)
    # The branch is damped: without normalisation the sum would grow with each of 16 blocks.
    scale = numpy_helper.from_array(np.float32(0.3), f"w{len(graph.weights)}")
    graph.weights.append(scale)
    return graph.relu(graph.node("Add", graph.node("Mul", inner, scale.name), short))


def resnet50(path: Path) -> None:
    """Write the large model, about 100 MB."""
    graph = Graph()
    at = graph.relu(graph.conv("x", 3, 64, 7, 2))
    at, wide = graph.node("MaxPool", at, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for width, blocks, stride in STAGES:
        for number in range(blocks):
            at = bottleneck(graph, at, wide, width, stride if number == 0 else 1)
            wide = 4 * width
    flat = graph.node("Flatten", graph.node("GlobalAveragePool", at))
    graph.save(path, given=[3, 224, 224], output=graph.dense(flat, wide, 1000), wide=1000)


def main() -> None:
    """Write both models into the directory that is named."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    mlp(directory / "mlp.onnx")
    resnet50(directory / "resnet50.onnx")


if __name__ == "__main__":
    main()
