"""Operators on integers of every width and on bools, against numpy: onnxruntime has few of them."""
import sys
import tempfile

import numpy as np
import onnx
from harness import Case, build, close, const, dyn, run_lowbit, supported, var

rng = np.random.default_rng(9)
i64 = lambda *values: np.array(values, np.int64)


def truncated(a, b):
    """Division as C does it, in the arrays' own type."""
    return (np.sign(a.astype(object)) * np.sign(b.astype(object)) * (abs(a.astype(object)) // abs(b.astype(object)))).astype(a.dtype)


def sorted_top(a, k, largest):
    """TopK along the last dim: values and places, the first of equal ones first."""
    key = -a.astype(object) if largest else a.astype(object)
    order = np.argsort(key, axis=-1, kind="stable")[..., :k]
    return [np.take_along_axis(a, order, -1), order.astype(np.int64)]


def numbers(t):
    """Cases for one type, each with what numpy makes of them."""
    info = np.iinfo(t)
    signed = info.min < 0
    wide = rng.integers(max(info.min, -120), min(info.max, 120), (3, 4), dtype=np.int64).astype(t)
    edge = np.array([info.min, info.max, 0, 1, info.max - 1, info.min + 1], t)
    small = rng.integers(1, 5, (3, 4)).astype(t)
    with np.errstate(over="ignore"):
        cases = [(Case("Add", dyn(edge), var(edge[::-1].copy())), edge + edge[::-1]), (Case("Sub", dyn(wide), dyn(small[0])), wide - small[0]),
                 (Case("Mul", var(edge), var(small.ravel()[:6].copy())), edge * small.ravel()[:6]), (Case("Div", var(edge), const(small.ravel()[:6].copy())), truncated(edge, small.ravel()[:6])),
                 (Case("Mod", dyn(wide), dyn(small)), np.mod(wide, small)), (Case("Mod", dyn(wide), dyn(small), fmod=1), np.fmod(wide, small)),
                 (Case("Pow", var(small), const(i64(2))), (small ** 2).astype(t)), (Case("Pow", var(small), const(np.float32(1.5)), f64=True), (small.astype(np.float64) ** 1.5).astype(t)),
                 (Case("Max", dyn(edge), const(t(1))), np.maximum(edge, t(1))), (Case("Min", dyn(edge), const(t(1))), np.minimum(edge, t(1))),
                 (Case("Clip", dyn(edge), const(t(1)), const(t(info.max - 1))), np.clip(edge, 1, t(info.max - 1))),
                 (Case("Abs", var(wide)), np.abs(wide)), (Case("Sign", var(edge)), np.sign(edge)),
                 (Case("Equal", var(edge), const(t(0))), edge == 0), (Case("Less", var(edge), const(t(1))), edge < 1), (Case("GreaterOrEqual", var(edge), const(t(1))), edge >= 1),
                 (Case("BitwiseAnd", var(edge), const(t(3))), edge & t(3)), (Case("BitwiseXor", var(edge), const(t(3))), edge ^ t(3)), (Case("BitwiseNot", var(edge)), ~edge),
                 (Case("BitShift", var(edge), const(t(2)), direction="RIGHT"), edge >> t(2)), (Case("BitShift", var(edge), const(t(1)), direction="LEFT"), edge << t(1)),
                 (Case("ReduceSum", dyn(wide), const(i64(1)), keepdims=0), wide.sum(1, dtype=t)), (Case("ReduceProd", var(small), const(i64(0)), keepdims=0), small.prod(0, dtype=t)),
                 (Case("ReduceMax", dyn(edge)), edge.max(keepdims=True)), (Case("ReduceMin", dyn(edge)), edge.min(keepdims=True)),
                 (Case("ReduceMean", var(wide), const(i64(1)), keepdims=0), truncated(wide.sum(1, dtype=t), t(4) + np.zeros(3, t))),
                 (Case("ReduceL2", var(small), const(i64(1)), keepdims=0), np.sqrt((small.astype(np.float64) ** 2).sum(1)).astype(t)),
                 (Case("ReduceSumSquare", var(small), const(i64(1)), keepdims=0), (small * small).sum(1, dtype=t)),
                 (Case("ArgMax", dyn(wide), axis=1, keepdims=0), wide.argmax(1)), (Case("ArgMin", dyn(edge), axis=0), np.array([edge.argmin()])),
                 (Case("CumSum", dyn(wide), const(np.int64(1))), wide.cumsum(1, dtype=t)), (Case("MatMul", var(wide), var(small.T.copy())), wide @ small.T),
                 (Case("Einsum", dyn(wide), var(small.T.copy()), equation="ij,jk->ik"), wide @ small.T),
                 (Case("ScatterElements", var(wide), const(np.array([[0], [1], [3]])), const(small[:, :1].copy()), axis=1, reduction="max"), None),
                 (Case("Pad", dyn(wide), const(i64(0, 1, 0, 0)), const(t(7))), np.pad(wide, ((0, 0), (1, 0)), constant_values=7)),
                 (Case("Trilu", dyn(wide), const(np.int64(1))), np.triu(wide, 1)), (Case("Where", var(wide > 0), dyn(wide), dyn(small)), np.where(wide > 0, wide, small)),
                 (Case("Shrink", var(wide), lambd=2.5, bias=1.0), np.where(wide > 2.5, wide - t(1), np.where(wide < -2.5, wide + t(1), t(0))).astype(t)),
                 (Case("OneHot", var(small.ravel().copy()), const(t(6)), const(np.array([0, 1], t))), np.eye(6, dtype=t)[small.ravel()]),
                 (Case("NonZero", dyn(wide)), np.array(np.nonzero(wide))), (Case("Unique", dyn(wide)), np.unique(wide)),
                 (Case("Range", var(t(2)), var(t(11)), var(t(4))), np.arange(2, 11, 4, dtype=t)), (Case("TopK", dyn(wide), const(i64(2)), outputs=2), sorted_top(wide, 2, True)),
                 (Case("TopK", dyn(edge), const(i64(3)), outputs=2, largest=0), sorted_top(edge, 3, False)), (Case("Relu", var(wide)), np.maximum(wide, 0)) if signed else None]
        scattered = wide.copy()
        for row, column in enumerate((0, 1, 3)):
            scattered[row, column] = max(scattered[row, column], small[row, 0])
        for other in (np.float32, np.float64, np.float16, bool, np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64):
            number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(other))
            cases.append((Case("Cast", var(wide), to=number), wide.astype(other)))
            cases.append((Case("CastLike", dyn(small.astype(other)), var(wide)), small.astype(other).astype(t)))
        if signed:
            cases.append((Case("Neg", var(edge)), -edge))
    return [(case, scattered if wanted is None else wanted) for case, wanted in filter(None, cases)]


wrong = 0
for t in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
    cases = [pair for pair in numbers(t) if supported([pair[0]])]
    model, feeds, names = build([case for case, _ in cases], 28)
    with tempfile.TemporaryDirectory() as folder:
        found = run_lowbit(model, feeds, folder)
    bad = 0
    for (case, wanted), results in zip(cases, names):
        for name, value in zip(results, wanted if isinstance(wanted, list) else [wanted]):
            problem = close(found[name], np.asarray(value), 1e-3 if found[name].dtype == np.float16 else 1e-6)
            if problem:
                bad += 1
                print(f"{t.__name__} {case.op} {case.attrs}: {problem}")
    print(f"{t.__name__}: {len(cases) - bad} of {len(cases)} operators agree with numpy")
    wrong += bad
sys.exit(1 if wrong else 0)
