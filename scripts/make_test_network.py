"""Write tests/fixtures/moments.onnx: a network whose outputs can be worked out by hand. Needs onnx (extra `train`).

(N, 3, H, W) float32 -> score (N, 1): the mean of everything; embedding (N, 6): the mean of each channel, and
the mean of its square.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "moments.onnx"


def main() -> None:
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("ReduceMean", ["crops", "space"], ["means"], keepdims=0),
        helper.make_node("Mul", ["crops", "crops"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "space"], ["powers"], keepdims=0),
        helper.make_node("Concat", ["means", "powers"], ["embedding"], axis=1),
        helper.make_node("ReduceMean", ["means", "channel"], ["score"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "moments",
        [value("crops", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [value("score", TensorProto.FLOAT, ["n", 1]), value("embedding", TensorProto.FLOAT, ["n", 6])],
        [
            numpy_helper.from_array(np.array([2, 3], np.int64), "space"),
            numpy_helper.from_array(np.array([1], np.int64), "channel"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(model.SerializeToString())
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
