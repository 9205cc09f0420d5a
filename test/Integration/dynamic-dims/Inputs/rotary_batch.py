"""RotaryEmbedding with caches of batch 1, as torch exports it at opset 23; onnxruntime has no such broadcast."""
import os
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

import lowbit
from lowbit import Bundle

folder = sys.argv[1]
value = lambda name, *dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
node = helper.make_node("RotaryEmbedding", ["x", "cos", "sin"], ["y"], name="turn")
inputs = [value("x", "b", 2, "s", 6), value("cos", "c", "s", 3), value("sin", "c", "s", 3)]
graph = helper.make_graph([node], "rotary", inputs, [value("y", "b", 2, "s", 6)])
os.makedirs(folder, exist_ok=True)
model, bundle = os.path.join(folder, "rotary.onnx"), os.path.join(folder, "bundle")
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), model)
subprocess.run(["lowbit-compile", model, "--recipe", "fp32", "-o", bundle, "--force"], check=True)
compiled = Bundle(bundle)
rng = np.random.default_rng(0)
for batch, caches, length in ((3, 1, 5), (3, 3, 5), (1, 1, 1), (2, 1, 0), (3, 2, 5)):
    x = rng.standard_normal((batch, 2, length, 6)).astype(np.float32)
    cos, sin = rng.standard_normal((2, caches, length, 3)).astype(np.float32)
    try:
        y = compiled.run({"x": x, "cos": cos, "sin": sin})["y"]
    except lowbit.Error as error:
        print(f"batch {batch}, caches {caches}: {error}")
        continue
    c, s = cos[:, None], sin[:, None]
    expected = np.concatenate([c * x[..., :3] - s * x[..., 3:], s * x[..., :3] + c * x[..., 3:]], -1)
    print(f"batch {batch}, caches {caches}, length {length}:", "equal" if np.allclose(y, expected, 1e-6, 1e-6) else "different")
