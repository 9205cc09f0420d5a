"""Forms of com.microsoft operators that are not supported: one line with the reason each, before any code is generated."""
import os
import subprocess
import tempfile

import numpy as np
import onnx
from harness import BIN, const, var
from onnx import TensorProto, helper, numpy_helper

f = lambda *shape: np.zeros(shape, np.float32)
u8 = lambda *shape: np.zeros(shape, np.uint8)
i32 = lambda *values: np.array(values, np.int32)
product = {"K": 64, "N": 8, "bits": 4, "block_size": 32}
weights = [var(f(2, 64)), const(u8(8, 2, 16)), const(f(8, 2))]
group = [var(f(1, 2, 64)), var(f(1, 2, 32)), var(f(1, 2, 32)), None, None, const(i32(1)), const(np.int32(2))]
heads = {"num_heads": 4, "kv_num_heads": 2}
CASES = [
    ("MatMulNBits", weights, {**product, "weight_prepacked": 1}),
    ("MatMulNBits", weights + [None, const(i32(*[0] * 64))], product),
    ("MatMulNBits", [weights[0], var(u8(8, 2, 16)), weights[2]], product),
    ("MatMulNBits", weights, {**product, "bits": 3}),
    ("MatMulNBits", weights, {**product, "fancy": 1}),
    ("MatMulNBits", [weights[0], const(u8(2, 8, 16)), weights[2]], product),
    ("GroupQueryAttention", group, {**heads, "smooth_softmax": 1}),
    ("GroupQueryAttention", group + [None] * 4 + [const(f(4))], heads),
    ("GroupQueryAttention", group, {**heads, "k_quant_type": "PER_TENSOR"}),
    ("GroupQueryAttention", group, {**heads, "sliding_window_cache": 1}),
    ("GroupQueryAttention", group, {**heads, "do_rotary": 1}),
    ("MultiHeadAttention", [var(f(1, 2, 4, 3, 8))], {"num_heads": 4}),
    ("Attention", [var(f(1, 2, 8)), const(f(8, 24))], {"num_heads": 2, "do_rotary": 1}),
    ("RotaryEmbedding", [var(f(1, 2, 16)), var(np.zeros((1, 2), np.int64)), const(f(4, 4)), const(f(4, 4))],
     {"is_packed_batching": 1}),
    ("SkipLayerNormalization", [var(f(1, 2, 16)), var(f(1, 2, 16)), const(f(16))], {"outputs": ["y", "mean"]}),
    ("PagedAttention", [var(f(2, 16))], {}),
]

for op, args, attrs in CASES:
    attrs = dict(attrs)
    outputs = attrs.pop("outputs", ["y"])
    names, inputs, constants = [], [], []
    for i, arg in enumerate(args):
        names.append("" if arg is None else f"x{i}")
        if arg is not None and arg.kind == "const":
            constants.append(numpy_helper.from_array(arg.array, f"x{i}"))
        elif arg is not None:
            inputs.append(helper.make_tensor_value_info(f"x{i}", helper.np_dtype_to_tensor_dtype(arg.array.dtype), arg.array.shape))
    node = helper.make_node(op, names, outputs, name="node", domain="com.microsoft", **attrs)
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        onnx.save(model, path)
        ran = subprocess.run([os.path.join(BIN, "lowbit-compile"), path, "-o", os.path.join(folder, "out")],
                             capture_output=True, text=True)
        print(f"{ran.returncode}: {ran.stderr.strip().splitlines()[-1].replace(folder, '')}")
