"""The general families with dynamic shapes, runtime axes and every element type that onnxruntime has for them."""
import numpy as np
from harness import Case, check, const, dyn, var

rng = np.random.default_rng(3)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
d = lambda *shape: rng.standard_normal(shape)
i = lambda *shape: rng.integers(-9, 10, shape).astype(np.int64)
u = lambda dtype, *shape: rng.integers(0, 100, shape).astype(dtype)
flags = lambda *shape: rng.integers(0, 2, shape).astype(bool)
i64 = lambda *values: np.array(values, np.int64)
unit = lambda *shape: (rng.random(shape) * 1.8 - 0.9).astype(np.float32)

cases = [Case(op, dyn(unit(2, 5))) for op in ["Acos", "Asin", "Atan", "Asinh", "Atanh", "Cosh", "Sinh", "Tan"]]
cases += [Case("Acosh", dyn(np.abs(f(4)) + 1))]
cases += [Case(op, dyn(f(3, 4) * 2)) for op in ["Celu", "Mish", "Selu", "ThresholdedRelu", "Shrink"]]
cases += [Case("Celu", var(f(9)), alpha=2.0), Case("Selu", var(f(9)), alpha=1.1, gamma=2.0), Case("ThresholdedRelu", var(f(9)), alpha=0.2),
          Case("Shrink", var(f(9) * 3), lambd=1.5, bias=1.5), Case("Shrink", var(i(9)), lambd=1.5, bias=1.0)]
cases += [Case("BitShift", dyn(u(t, 2, 3)), dyn(u(t, 3) % 8), direction=way)
          for t in (np.uint8, np.uint32, np.uint64) for way in ("LEFT", "RIGHT")]
cases += [Case(op, dyn(i(2, 3).astype(t)), dyn(i(3).astype(t))) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
          for t in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64)]
cases += [Case("BitwiseNot", dyn(i(4).astype(t))) for t in (np.int8, np.int32, np.uint16)]
cases += [Case("PRelu", dyn(f(3, 4)), const(f(1)))]
cases += [Case("Mod", dyn(f(6) * 9), var(f(6)), fmod=1), Case("Mod", dyn(i(6)), const(i64(3, -3, 5, -5, 7, 2)))]
check("elements", cases)

# Reductions: constant axes, axes that only the run knows, none; whole and part of a dynamic shape.
sums = ["ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ReduceMax", "ReduceMin"]
positive = lambda *shape: (rng.random(shape) + 0.5).astype(np.float32)
cases = []
for op in sums:
    cases += [Case(op, dyn(positive(2, 3, 4)), const(i64(1))), Case(op, dyn(positive(2, 3, 4)), const(i64(-1, 0)), keepdims=0),
              Case(op, dyn(positive(2, 3)), keepdims=0), Case(op, var(positive(2, 3, 4)), var(i64(1, -1))),
              Case(op, dyn(positive(2, 3, 4)), var(i64(-2)), keepdims=0), Case(op, var(positive(2, 3)), const(i64()), noop_with_empty_axes=0)]
cases += [Case(op, dyn(i(3, 4)), const(i64(0))) for op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")]
cases += [Case(op, dyn(i(3, 4).astype(np.int32)), var(i64(0))) for op in ("ReduceSum", "ReduceL1", "ReduceMean", "ReduceMax")]
cases += [Case(op, var(d(3, 4)), const(i64(1)), f64=op == "ReduceLogSumExp") for op in ("ReduceSum", "ReduceMean", "ReduceLogSumExp")]
cases += [Case("ReduceSum", dyn(f(0, 3)), const(i64(0))), Case("ReduceMax", dyn(flags(2, 3)), const(i64(1)))]
cases += [Case("ReduceLogSumExp", var(np.array([[-np.inf, 1.0], [-np.inf, -np.inf]], np.float32)), const(i64(1)))]
cases += [Case(op, dyn(f(3, 4)), axis=0, select_last_index=last, keepdims=last) for op in ("ArgMax", "ArgMin") for last in (0, 1)]
cases += [Case("CumSum", dyn(f(2, 3, 4)), var(np.int64(axis)), exclusive=e, reverse=r) for axis in (0, -1) for e in (0, 1) for r in (0, 1)]
cases += [Case("CumSum", dyn(i(5)), var(i64(0)))]
check("reductions", cases, opset=20)

cases = [Case("Einsum", dyn(f(2, 3)), dyn(f(3, 4)), equation="ij,jk->ik"), Case("Einsum", dyn(f(2, 3), "a b"), dyn(f(4, 3), "c b"), equation="ij,kj->ik"),
         Case("Einsum", dyn(f(3, 3)), equation="ii->i"), Case("Einsum", dyn(f(2, 3, 4)), equation="...i->..."),
         Case("Einsum", dyn(f(2, 5, 3)), dyn(f(2, 3, 4)), equation="...ij,...jk->...ik"), Case("Einsum", var(f(2, 3)), var(f(2, 3)), equation="ij,ij"),
         Case("Einsum", var(f(2, 3)), var(f(3, 4)), var(f(4, 5)), equation="ab,bc,cd->ad"), Case("Einsum", dyn(f(2, 3)), equation="ij->ji"),
         Case("Einsum", var(f(5, 2, 4, 3)), var(f(5, 2, 6, 3)), equation="bhqd,bhkd->bhqk"),
         Case("Einsum", var(d(2, 3)), var(d(3)), equation="ij,j->i"), Case("Einsum", var(i(2, 3)), var(i(3)), equation="ij,j->i")]
check("Einsum", cases)

rows = i64(1, 0, 2)[:, None] * np.ones(4, np.int64)
cases = [Case("ScatterElements", dyn(f(3, 4)), dyn(rows), dyn(f(3, 4)), axis=0, reduction=r) for r in ("none", "add", "mul", "max", "min")]
cases += [Case("ScatterElements", dyn(i(5)), var(i64(1, -1)), dyn(i(2))), Case("ScatterElements", var(u(np.uint8, 2, 3)), var(np.array([[2]])), var(u(np.uint8, 1, 1)), axis=1)]
cases += [Case("ScatterND", dyn(f(3, 4)), dyn(i64(0, 2)[:, None], "n ="), dyn(f(2, 4)), reduction=r) for r in ("none", "add", "mul", "max", "min")]
cases += [Case("ScatterND", dyn(i(3, 4)), var(np.array([[0, 1], [2, -1]])), dyn(i(2)))]
cases += [Case("ReverseSequence", dyn(f(4, 3, 2)), dyn(i64(1, 4, 2)), batch_axis=1, time_axis=0), Case("ReverseSequence", dyn(f(3, 4)), dyn(i64(1, 4, 2)), batch_axis=0, time_axis=1)]
cases += [Case("DepthToSpace", dyn(f(2, 8, 2, 3)), blocksize=2, mode=m) for m in ("DCR", "CRD")] + [Case("SpaceToDepth", dyn(f(2, 3, 4, 6)), blocksize=2)]
cases += [Case("Trilu", dyn(f(3, 4)), const(np.int64(k)), upper=up) for k in (-1, 0, 2) for up in (0, 1)] + [Case("Trilu", dyn(i(2, 3, 3)), var(np.int64(1)))]
cases += [Case("OneHot", dyn(i(2, 3)), var(np.int64(10)), const(f(2)), axis=a) for a in (-1, 0, 1)] + [Case("OneHot", var(f(3) * 4), const(np.float32(5)), const(f(2)))]
cases += [Case("EyeLike", dyn(f(3, 4)), k=1), Case("EyeLike", dyn(i(3, 2)), dtype=1)]
cases += [Case("Hardmax", dyn(f(3, 4)), axis=a) for a in (0, -1)] + [Case("LogSoftmax", dyn(f(3, 4)), axis=0)]
cases += [Case("Det", dyn(f(2, 4, 4), "n m m"), tolerance=1e-4), Case("Det", var(f(3, 3)))]
cases += [Case("Where", dyn(flags(2, 3)), dyn(v(3)), dyn(v(2, 1))) for v in (f, i, lambda *s: u(np.uint8, *s))]
cases += [Case("Range", var(t(2)), var(t(14)), var(t(3))) for t in (np.int16, np.int32, np.int64, np.float32, np.float64)]
cases += [Case("TopK", dyn(v(3, 6)), var(i64(4)), outputs=2, axis=a, largest=g) for v in (f, i) for a, g in ((1, 1), (1, 0))]
check("movement", cases)

cases = [Case("NonZero", dyn((f(3, 4) > 0).astype(t))) for t in (np.float32, np.int64, np.uint8)] + [Case("NonZero", dyn(flags(2, 3, 2))), Case("NonZero", dyn(np.zeros(4, np.float32)))]
cases += [Case("Compress", dyn(f(3, 4)), dyn(flags(3)), axis=0), Case("Compress", dyn(f(3, 4)), var(np.array([True, False, True])), axis=1), Case("Compress", dyn(i(2, 3)), dyn(flags(5)))]
cases += [Case("Unique", dyn(v), outputs=4, sorted=s) for v in (i(12) // 3, np.round(f(9))) for s in (0, 1)]
cases += [Case("Unique", dyn(i(6, 2) // 9), outputs=4, axis=a) for a in (0, 1)] + [Case("Unique", var(np.round(f(7))), outputs=1)]
check("sparse", cases)

cases = [Case("Slice", dyn(f(4, 5)), var(i64(1)), var(i64(4)), var(i64(-1))), Case("Slice", dyn(f(4, 5)), var(i64(3, 4)), var(i64(-9, 0)), var(i64(0, 1)), var(i64(-1, -2))),
         Case("Slice", dyn(f(4, 5)), var(i64(0, 1)), var(i64(9, 9)), const(i64(0, 1)), var(i64(2, 1))),
         Case("Pad", dyn(f(2, 3)), var(i64(1, 2)), var(np.float32(7)), var(i64(-1))), Case("Pad", dyn(f(4, 3)), var(i64(1, 2)), None, var(i64(0)), mode="reflect")]
cases += [Case("Pad", dyn(f(4, 3)), var(i64(1, 2, 2, 1)), mode=m) for m in ("edge", "reflect", "wrap")] + [Case("Pad", dyn(i(4, 3)), const(i64(-1, 0, 1, 2)), const(np.int64(5)))]
cases += [Case("Squeeze", dyn(f(1, 3, 1)), var(i64(-1))), Case("Unsqueeze", dyn(f(2, 3)), var(i64(0, -1)))]
check("runtime axes", cases)

scores, classes = f(3, 5, 4), rng.integers(0, 5, (3, 4)).astype(np.int64)
cases = []
for reduction in ("none", "sum", "mean"):
    cases += [Case("SoftmaxCrossEntropyLoss", dyn(scores), dyn(classes), const(positive(5)), outputs=2, reduction=reduction, ignore_index=2),
              Case("NegativeLogLikelihoodLoss", dyn(scores), dyn(classes), dyn(positive(5)), reduction=reduction, ignore_index=1),
              Case("NegativeLogLikelihoodLoss", var(scores), var(classes.astype(np.int32)), reduction=reduction)]
x = f(2, 6, 3, 4)
cases += [Case("InstanceNormalization", dyn(x), const(f(6)), const(f(6))), Case("MeanVarianceNormalization", dyn(x)), Case("MeanVarianceNormalization", dyn(x), axes=[0, 1]),
          Case("LpNormalization", dyn(f(3, 4)), axis=0, p=1), Case("LpNormalization", dyn(f(3, 4))),
          Case("LayerNormalization", dyn(f(2, 3, 8), "a b ="), const(f(8)), const(f(8)), outputs=3),
          Case("BatchNormalization", dyn(x, "a = b c"), const(f(6)), const(f(6)), const(f(6)), const(positive(6)), outputs=3, training_mode=1, momentum=0.7)]
check("norms and losses", cases)

wave = f(2, 12, 1)
cases = [Case("DFT", dyn(wave, "a b ="), None, const(np.int64(1)), onesided=o, tolerance=1e-4) for o in (0, 1)]
cases += [Case("DFT", var(f(2, 8, 2)), const(np.int64(6)), var(np.int64(1)), inverse=1, tolerance=1e-4)]
cases += [Case("STFT", var(wave), const(np.int64(3)), const(positive(6)), const(np.int64(6)), onesided=o, tolerance=1e-4) for o in (0, 1)]
cases += [Case(op, const(np.int64(9)), periodic=p) for op in ("HannWindow", "HammingWindow", "BlackmanWindow") for p in (0, 1)]
cases += [Case("MelWeightMatrix", const(np.int64(6)), const(np.int64(32)), const(np.int64(8000)), const(np.float32(0)), const(np.float32(4000)))]
for case in cases:
    case.f64 = case.op in ("DFT", "STFT", "MelWeightMatrix")
check("signals", cases, opset=20)

# As older opsets write it.
cases = [Case(op, dyn(f(2, 3, 4)), axis=a) for op in ("Hardmax", "Softmax", "LogSoftmax") for a in (0, 1, 2)]
cases += [Case(op, dyn(positive(2, 3, 4)), axes=[1], keepdims=0) for op in sums]
cases += [Case("Scatter", dyn(f(5)), var(i64(1, 4)), var(f(2)))]
check("opset 9", cases, opset=9)
cases = [Case("Dropout", dyn(f(3, 4)), const(np.float32(0.3)), outputs=2), Case("Celu", dyn(f(3, 4))), Case("CumSum", dyn(f(3, 4)), const(np.int32(1)))]
check("opset 12", cases, opset=12)
