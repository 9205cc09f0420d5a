"""Nodes of older opsets: imported, upgraded, compiled, and compared with onnxruntime, which reads them as they are."""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "Integration", "onnx-ops", "Inputs"))
from harness import Case, check, const, dyn, var  # noqa: E402

rng = np.random.default_rng(5)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
ints = lambda *values: np.array(values, np.int64)
stats = lambda: [const(f(3)), const(f(3)), const(f(3)), const(np.abs(f(3)) + 0.5)]

check("opset 8", [
    Case("Slice", var(f(6, 5)), starts=[1, -3], ends=[4, 100], axes=[0, 1]), Case("Slice", var(f(6, 5)), starts=[2], ends=[4]),
    Case("TopK", var(f(3, 6)), k=2, outputs=2), Case("Clip", var(f(8)), min=-0.5, max=0.5), Case("Clip", var(f(8)), max=0.5),
    Case("Pad", var(f(2, 3)), pads=[1, 0, 0, 2], value=3.0), Case("Pad", var(f(4, 3)), pads=[1, 0, 0, 2], mode="reflect"),
    Case("BatchNormalization", var(f(2, 3, 4)), *stats()), Case("Dropout", var(f(2, 3)), ratio=0.9),
    Case("Softmax", var(f(2, 3, 4))), Case("Softmax", var(f(2, 3, 4)), axis=2), Case("Softmax", var(f(2, 3, 4)), axis=0),
    Case("LogSoftmax", dyn(f(2, 3, 4)), axis=1), Case("Upsample", var(f(1, 2, 3, 4)), scales=[1.0, 1.0, 2.0, 3.0]),
    Case("Upsample", var(f(1, 2, 3, 4)), scales=[1.0, 1.0, 2.0, 2.0], mode="linear"),
    Case("Gemm", var(f(2, 3)), const(f(3, 4)), const(f(4))), Case("Sum", var(f(2, 3)), var(f(3)))], opset=8)
check("opset 10", [
    Case("Slice", var(f(6, 5)), const(ints(1)), const(ints(5)), const(ints(0)), const(ints(2))),
    Case("Resize", var(f(1, 2, 3, 4)), const(np.float32([1, 1, 2, 2]))), Case("Dropout", var(f(2, 3))),
    Case("Resize", var(f(1, 2, 3, 4)), const(np.float32([1, 1, 2, 2])), mode="linear"),
    Case("TopK", var(f(3, 6)), const(ints(2)), outputs=2)], opset=10)
check("opset 12", [
    Case("Squeeze", var(f(1, 3, 1)), axes=[0]), Case("Squeeze", var(f(1, 3, 1))), Case("Unsqueeze", var(f(3)), axes=[0, 2]),
    Case("ReduceSum", var(f(2, 3, 4)), axes=[1]), Case("ReduceSum", var(f(2, 3)), keepdims=0), Case("ReduceMean", var(f(2, 3, 4)), axes=[-1]),
    Case("ReduceMax", var(f(2, 3)), axes=[0], keepdims=0), Case("ReduceL2", var(f(2, 3)), axes=[0]),
    Case("Split", var(f(6, 2)), split=[2, 4], outputs=2), Case("Split", var(f(6, 2)), outputs=3), Case("Split", dyn(f(6, 2)), outputs=2),
    Case("Softmax", var(f(2, 3, 4)), axis=-1), Case("Clip", var(f(8)), const(np.float32(0))),
    Case("Dropout", var(f(2, 3)), const(np.float32(0.5)), const(np.bool_(False)))], opset=12)
check("opset 17", [Case("ReduceMean", dyn(f(2, 3, 4)), axes=[1, 2], keepdims=0), Case("Split", var(f(6, 2)), const(ints(5, 1)), outputs=2),
                   Case("ReduceMin", var(f(2, 3))), Case("Split", var(f(6, 2)), outputs=2)], opset=17)
