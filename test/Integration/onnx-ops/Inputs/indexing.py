"""Gathers, reductions, normalizations and selections; an index out of range fails the run."""
import tempfile

import numpy as np
from harness import Case, build, check, const, dyn, run_lowbit, var

rng = np.random.default_rng(3)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
ints = lambda *values: np.array(values, np.int64)

cases = [
    Case("Gather", var(f(5, 3)), const(ints(0, 4, -1))), Case("Gather", var(f(5, 3)), var(ints(0, 4, -5))),
    Case("Gather", var(f(5, 3)), var(np.array([[0, 1], [2, -3]], np.int32)), axis=1), Case("Gather", dyn(f(5, 3)), dyn(ints(0, 4)), axis=0),
    Case("Gather", var(f(5, 3)), const(np.int64(2))), Case("Gather", dyn(f(2, 5, 3)), var(np.int64(-1)), axis=1),
    Case("GatherElements", var(f(3, 4)), var(rng.integers(-4, 4, (3, 2)).astype(np.int64)), axis=1),
    Case("GatherElements", dyn(f(3, 4)), dyn(rng.integers(-3, 3, (2, 4)).astype(np.int64)), axis=0),
    Case("GatherND", var(f(3, 4, 5)), var(np.array([[0, 1], [-1, -2]], np.int64))),
    Case("GatherND", var(f(3, 4)), var(np.array([[[0, 1]], [[2, -2]]], np.int64))),
    Case("GatherND", var(f(2, 4, 5)), var(np.array([[[1], [2]], [[3], [0]]], np.int64)), batch_dims=1),
    Case("GatherND", dyn(f(3, 4)), dyn(np.array([[0, 1], [2, 2]], np.int64), "n =")),
    Case("ScatterND", var(f(4, 3)), var(np.array([[1], [3]], np.int64)), var(f(2, 3))),
    Case("ScatterND", var(f(4, 3)), var(np.array([[1, 2], [3, 0]], np.int64)), var(f(2)), reduction="add"),
]
for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]:
    cases += [Case(op, var(f(2, 3, 4)), const(ints(1))), Case(op, var(f(2, 3, 4)), const(ints(0, -1)), keepdims=0),
              Case(op, var(f(2, 3))), Case(op, dyn(f(2, 3, 4)), const(ints(-1)))]
cases += [Case("ReduceSum", var(f(2, 3)), const(np.zeros(0, np.int64)), noop_with_empty_axes=1), Case("ReduceSum", var(ints(1, 2, 3)), keepdims=0),
          Case("ReduceMax", var(np.array([3, 250, 7], np.uint8)), keepdims=0)]
cases += [Case("Softmax", var(f(2, 5) * 50)), Case("Softmax", var(f(2, 3, 4)), axis=1), Case("Softmax", dyn(f(2, 3, 4))), Case("LogSoftmax", var(f(3, 4))),
          Case("Softmax", var(np.array([[-np.inf, 0, 1]], np.float32))),
          Case("LayerNormalization", var(f(2, 3, 8)), const(f(8)), const(f(8))), Case("LayerNormalization", dyn(f(2, 3, 8), "a b ="), const(f(8))),
          Case("LayerNormalization", var(f(2, 3, 4)), const(f(3, 4)), const(f(3, 4)), axis=1, epsilon=0.1),
          Case("BatchNormalization", var(f(2, 3, 4, 4)), const(f(3)), const(f(3)), const(f(3)), const(np.abs(f(3)) + 0.5)),
          Case("BatchNormalization", dyn(f(2, 3, 4), "n = l"), const(f(3)), const(f(3)), const(f(3)), const(np.abs(f(3)) + 0.5), epsilon=0.01),
          Case("InstanceNormalization", var(f(2, 3, 4, 4)), const(f(3)), const(f(3)))]
cases += [Case("ArgMax", var(f(3, 4))), Case("ArgMax", var(f(3, 4)), axis=1, keepdims=0), Case("ArgMin", var(f(3, 4)), axis=-1), Case("ArgMax", dyn(f(3, 4)), axis=1),
          Case("ArgMax", var(np.array([[1, 3, 3, 2]], np.float32)), axis=1), Case("ArgMax", var(np.array([[1, 3, 3, 2]], np.float32)), axis=1, select_last_index=1),
          Case("TopK", var(f(3, 7)), const(ints(3)), outputs=2), Case("TopK", var(f(3, 7)), const(ints(2)), axis=0, largest=0, outputs=2),
          Case("TopK", dyn(f(3, 7)), var(ints(4)), outputs=2), Case("TopK", var(np.array([2, 1, 2, 2, 0], np.float32)), const(ints(3)), outputs=2),
          Case("CumSum", var(f(3, 4)), const(np.int64(1))), Case("CumSum", var(f(3, 4)), const(np.int64(0)), exclusive=1, reverse=1), Case("CumSum", dyn(ints(1, 2, 3)), const(np.int64(0)))]
check("indexing", cases)
check("indexing, opset 23", [Case("RMSNormalization", var(f(2, 3, 8)), const(f(8))), Case("RMSNormalization", dyn(f(2, 3, 8), "a b ="), const(f(8)), epsilon=0.1)], opset=23)

for bad in (Case("Gather", var(f(5, 3)), var(ints(0, 5))), Case("Gather", var(f(5, 3)), var(ints(-6))),
            Case("GatherND", var(f(3, 4)), var(np.array([[0, 4]], np.int64))), Case("GatherElements", var(f(3)), var(ints(3)), axis=0),
            Case("Add", dyn(f(3)), dyn(f(2))), Case("Add", dyn(f(3)), var(f(2))), Case("MatMul", dyn(f(2, 3)), dyn(f(2, 3))), Case("Reshape", dyn(f(5)), const(ints(2, 2))),
            Case("Concat", dyn(f(2, 3)), dyn(f(3, 3)), axis=1), Case("Expand", dyn(f(3)), var(ints(2)))):
    model, feeds, _ = build([bad], 21)
    with tempfile.TemporaryDirectory() as folder:
        ran = run_lowbit(model, feeds, folder, expect_failure=True)
        line = ran.stderr.strip()
        assert ran.returncode == 2 and "case0_" in line and line.count("\n") == 0, (bad.op, ran.returncode, line)
        print(line)
