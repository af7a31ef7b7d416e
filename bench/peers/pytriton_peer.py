"""PyTriton, with batching; its HTTP has no TLS. python pytriton_peer.py MODEL PORT KEY CERT."""

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from session import open_model, run


def main() -> None:
    """Serve until killed."""
    path, port = sys.argv[1], int(sys.argv[2])
    model = open_model(path)
    shape = (3, 224, 224) if "resnet50" in path else (64,)
    wide = 1000 if "resnet50" in path else 10

    @batch
    def infer(x: Any) -> dict[str, Any]:
        return {"y": run(model, x)}

    config = TritonConfig(
        http_port=port,
        grpc_port=port + 1,
        metrics_port=port + 2,
        http_address="127.0.0.1",
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="m",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=shape)],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(wide,))],
            config=ModelConfig(
                max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main()
