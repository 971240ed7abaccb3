"""Writes tests/reference/operators.json: models of one or few nodes, and what ONNX Runtime makes of them.

Needs numpy, onnx and onnxruntime: `python tests/reference/operators.py`.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROWS = 2


def numbers(shape, factor=37, modulus=101, scale=1.0):
    n = int(np.prod(shape))
    values = [(i * factor % modulus) / (modulus // 2) - 1.0 for i in range(n)]
    return (np.array(values, dtype=np.float32) * scale).reshape(shape)


def weight(*shape, scale=1.0, offset=0.0):
    return (numbers(shape, 29, 61) * scale + offset).astype(np.float32)


def ints(*values):
    return np.array(values, dtype=np.int64)


def one(op, shape, constants=(), **attributes):
    """One node that reads x `[rows, *shape]` and constants; `None` leaves an input out."""
    names, tensors = ["x"], []
    for i, constant in enumerate(constants):
        names.append("" if constant is None else f"c{i}")
        if constant is not None:
            tensors.append(numpy_helper.from_array(np.asarray(constant), f"c{i}"))
    return shape, [helper.make_node(op, names, ["y"], **attributes)], tensors


def chain(shape, nodes, **constants):
    """Nodes as (operator, inputs, output, attributes)."""
    made = [helper.make_node(op, i, [o], name=o, **attributes) for op, i, o, attributes in nodes]
    return shape, made, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]


f = np.float32
CASES = {
    "conv": one("Conv", [3, 6, 5], [weight(4, 3, 3, 2), weight(4)], strides=[2, 1], pads=[1, 0, 2, 1]),
    "conv_groups": one("Conv", [4, 5, 5], [weight(6, 2, 3, 3)], group=2, dilations=[2, 1], pads=[2, 1, 2, 1]),
    "conv_depthwise": one("Conv", [3, 6, 6], [weight(6, 1, 3, 3), weight(6)], group=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    "conv_same": one("Conv", [2, 5, 6], [weight(3, 2, 3, 3)], auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv_1d": one("Conv", [3, 7], [weight(4, 3, 3), weight(4)], pads=[1, 1]),
    "conv_transpose": one("ConvTranspose", [3, 4, 3], [weight(3, 2, 3, 3), weight(2)], strides=[2, 2], pads=[1, 1, 0, 1], output_padding=[1, 0]),
    "conv_transpose_groups": one("ConvTranspose", [4, 3, 3], [weight(4, 2, 2, 2)], group=2, strides=[2, 2]),
    "max_pool": one("MaxPool", [2, 7, 6], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
    "average_pool": one("AveragePool", [2, 6, 6], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    "average_pool_pads": one("AveragePool", [2, 6, 6], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    "global_pool": one("GlobalAveragePool", [3, 4, 5]),
    "batch_norm": one("BatchNormalization", [3, 2, 2], [weight(3), weight(3), weight(3, scale=0.3), weight(3, scale=0.2, offset=1.0)], epsilon=1e-3),
    "layer_norm": one("LayerNormalization", [3, 6], [weight(6), weight(6)], epsilon=1e-6),
    "gemm": one("Gemm", [5], [weight(5, 4), weight(4)]),
    "softmax": one("Softmax", [3, 4], axis=1),
    "reduce_mean": one("ReduceMean", [3, 4, 2], axes=[1, 3], keepdims=0),
    "slice": one("Slice", [6, 5], [ints(1, -4), ints(6, 1000), ints(1, 2), ints(2, 1)]),
    "gather": one("Gather", [5, 3], [ints(3, 0, 3)], axis=1),
    "pad": one("Pad", [2, 3], [ints(0, 1, 0, 0, 0, 2), f(0.5)]),
    "resize_nearest": one("Resize", [2, 3, 4], [None, np.array([1, 1, 2, 2], f)], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
    "resize_linear": one("Resize", [2, 3, 4], [None, None, ints(ROWS, 2, 5, 7)], mode="linear"),
    "resize_corners": one("Resize", [2, 3, 4], [None, None, ints(ROWS, 2, 6, 5)], mode="linear", coordinate_transformation_mode="align_corners"),
    "hard_swish": one("HardSwish", [9]),
    "hard_sigmoid": one("HardSigmoid", [9], alpha=0.3, beta=0.4),
    "leaky_relu": one("LeakyRelu", [9], alpha=0.2),
    "clip": one("Clip", [9], [f(-0.3), f(0.6)]),
    "erf": one("Erf", [9]),
    "tanh": one("Tanh", [9]),
    "power": one("Pow", [9], [f(3.0)]),
    "difference": one("Sub", [2, 3], [weight(2, 1)]),
    "join": chain([2, 3], [("Relu", ["x"], "a", {}), ("Concat", ["a", "x", "a"], "y", {"axis": 2})]),
    "gelu": chain(
        [7],
        [("Div", ["x", "root"], "a", {}), ("Erf", ["a"], "b", {}), ("Add", ["b", "one"], "c", {}), ("Mul", ["x", "c"], "d", {}), ("Mul", ["d", "half"], "y", {})],
        root=f(np.sqrt(2)), one=f(1), half=f(0.5),
    ),
    "silu": chain([7], [("Sigmoid", ["x"], "a", {}), ("Mul", ["x", "a"], "y", {})]),
    "spelled_layer_norm": chain(
        [3, 6],
        [
            ("ReduceMean", ["x"], "m", {"axes": [-1]}), ("Sub", ["x", "m"], "d", {}), ("Pow", ["d", "two"], "s", {}),
            ("ReduceMean", ["s"], "v", {"axes": [-1]}), ("Add", ["v", "eps"], "e", {}), ("Sqrt", ["e"], "r", {}),
            ("Div", ["d", "r"], "n", {}), ("Mul", ["n", "scale"], "a", {}), ("Add", ["a", "bias"], "y", {}),
        ],
        two=f(2), eps=f(1e-5), scale=weight(6), bias=weight(6),
    ),
    "squeeze_and_excitation": chain(
        [4, 3, 3],
        [("GlobalAveragePool", ["x"], "p", {}), ("Conv", ["p", "w"], "q", {}), ("Sigmoid", ["q"], "g", {}), ("Mul", ["g", "x"], "y", {})],
        w=weight(4, 4, 1, 1),
    ),
    "channels_last": chain(
        [4, 3, 2],
        [
            ("Transpose", ["x"], "a", {"perm": [0, 2, 3, 1]}), ("MatMul", ["a", "w"], "b", {}), ("Mul", ["b", "scale"], "c", {}),
            ("Transpose", ["c"], "d", {"perm": [0, 3, 1, 2]}), ("Add", ["x", "d"], "y", {}),
        ],
        w=weight(4, 4), scale=weight(4),
    ),
    "heads": chain(
        [5, 6],
        [
            ("MatMul", ["x", "w"], "a", {}), ("Reshape", ["a", "split"], "b", {}), ("Transpose", ["b"], "c", {"perm": [2, 0, 3, 1, 4]}),
            ("Gather", ["c", "i0"], "q", {"axis": 0}), ("Gather", ["c", "i1"], "k", {"axis": 0}), ("Gather", ["c", "i2"], "v", {"axis": 0}),
            ("Transpose", ["k"], "t", {"perm": [0, 1, 3, 2]}), ("MatMul", ["q", "t"], "s", {}), ("Mul", ["s", "scale"], "z", {}),
            ("Softmax", ["z"], "p", {"axis": -1}), ("MatMul", ["p", "v"], "o", {}), ("Transpose", ["o"], "u", {"perm": [0, 2, 1, 3]}),
            ("Reshape", ["u", "back"], "y", {}),
        ],
        w=weight(6, 18), split=ints(-1, 5, 3, 2, 3), back=ints(-1, 5, 6), scale=f(0.57), i0=np.int64(0), i1=np.int64(1), i2=np.int64(2),
    ),
}


def case(shape, nodes, tensors):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x": numbers([ROWS, *shape], scale=2.0)})
    return {"model": model.SerializeToString().hex(), "shape": list(shape), "output": [float(f"{v:.7g}") for v in out.flatten().tolist()]}


def main():
    results = {name: case(*parts) for name, parts in CASES.items()}
    text = ",\n".join(f' "{name}": {json.dumps(result)}' for name, result in results.items())
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text("{\n" + text + "\n}\n")
    print(path.stat().st_size)


main()
