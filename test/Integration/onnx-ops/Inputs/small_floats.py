"""The float operators on f16, bf16 and f64, between two casts, against their own f32 on the same numbers."""
import sys
import tempfile

import numpy as np
from harness import TARGET, Case, close, const, dyn, run_lowbit, var
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(5)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
positive = lambda *shape: (rng.random(shape) + 0.5).astype(np.float32)
unit = lambda *shape: (rng.random(shape) * 1.6 - 0.8).astype(np.float32)
i64 = lambda *values: np.array(values, np.int64)

cases = [Case(op, dyn(f(3, 4))) for op in
         ["Abs", "Asinh", "Atan", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
          "LeakyRelu", "Mish", "Neg", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Swish", "Tanh",
          "ThresholdedRelu", "Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "Transpose", "Flatten"]]
cases += [Case(op, var(positive(3, 4))) for op in ["Log", "Reciprocal", "Sqrt"]] + [Case("Acosh", var(positive(5) + 1))]
cases += [Case(op, var(unit(6))) for op in ["Acos", "Asin", "Atanh", "Tan"]]
cases += [Case(op, dyn(f(2, 3)), dyn(positive(3))) for op in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"]]
cases += [Case("Pow", dyn(positive(2, 3)), dyn(positive(3))), Case("Mod", dyn(f(2, 3)), var(positive(3)), fmod=1), Case("PRelu", dyn(f(2, 3)), const(f(3)))]
cases += [Case(op, dyn(f(2, 3)), var(f(3))) for op in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]]
cases += [Case(op, dyn(f(3))) for op in ["IsInf", "IsNaN"]]
cases += [Case(op, dyn(positive(3, 4)), const(i64(1))) for op in
          ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"]]
cases += [Case("ArgMax", dyn(f(3, 4)), axis=1), Case("TopK", dyn(f(3, 4)), const(i64(2)), outputs=2), Case("CumSum", dyn(f(3, 4)), const(np.int64(1)))]
cases += [Case("MatMul", dyn(f(3, 4)), const(f(4, 5))), Case("Gemm", dyn(f(3, 4)), const(f(4, 5)), const(f(5))), Case("Einsum", dyn(f(3, 4)), var(f(4, 2)), equation="ij,jk->ik")]
cases += [Case("LayerNormalization", dyn(f(3, 8), "a ="), const(f(8)), const(f(8))), Case("InstanceNormalization", dyn(f(2, 3, 4)), const(f(3)), const(f(3))),
          Case("GroupNormalization", dyn(f(2, 4, 3), "a = b"), const(f(4)), const(f(4)), num_groups=2), Case("MeanVarianceNormalization", dyn(f(2, 3, 2, 2))),
          Case("BatchNormalization", dyn(f(2, 3, 4)), const(f(3)), const(f(3)), const(f(3)), const(positive(3)))]
cases += [Case("Clip", dyn(f(3, 4)), const(np.float32(-0.5)), const(np.float32(0.5))), Case("Concat", dyn(f(2, 3)), dyn(f(1, 3)), axis=0), Case("Trilu", dyn(f(3, 3)))]
cases += [Case("Gather", dyn(f(4, 3)), var(i64(3, 0))), Case("Pad", dyn(f(2, 3)), const(i64(1, 0, 0, 2))), Case("Slice", dyn(f(4, 3)), const(i64(1)), const(i64(3)), const(i64(0)))]
cases += [Case("ScatterElements", dyn(f(4, 3)), var(i64(1, 3)[:, None]), dyn(f(2, 1)), reduction=r) for r in ("none", "add", "max")]
cases += [Case("Expand", dyn(f(3, 1)), const(i64(2, 3, 4))), Case("Tile", dyn(f(2, 3)), const(i64(2, 1))), Case("Compress", dyn(f(5)), var(np.array([True, False, True])))]
cases += [Case("Det", var(f(3, 3))), Case("DepthToSpace", dyn(f(1, 4, 2, 2)), blocksize=2), Case("NonZero", dyn(f(3))), Case("Unique", var(np.round(f(6))), outputs=1)]
cases += [Case("Where", var(np.array([True, False, True])), dyn(f(2, 3)), dyn(f(3)))]


def model(dtype):
    """Every case with its float inputs cast to `dtype` and its float outputs cast back."""
    nodes, inputs, outputs, initializers, feeds, wanted = [], [], [], [], {}, []
    for index, case in enumerate(cases):
        names = []
        for position, arg in enumerate(case.args):
            name = f"c{index}_{position}"
            number = helper.np_dtype_to_tensor_dtype(arg.array.dtype)
            if arg.kind == "const":
                initializers.append(numpy_helper.from_array(arg.array, name))
            else:
                labels = arg.names or [f"n{i}" for i in range(arg.array.ndim)]
                shape = [s if arg.kind == "var" or label == "=" else f"{label}_{index}_{position}" for s, label in zip(arg.array.shape, labels)]
                inputs.append(helper.make_tensor_value_info(name, number, shape))
                feeds[name] = arg.array
            if number == TensorProto.FLOAT:
                nodes.append(helper.make_node("Cast", [name], [name + "t"], to=dtype))
                name += "t"
            names.append(name)
        results = [f"y{index}_{i}" for i in range(len(case.outputs))]
        nodes.append(helper.make_node(case.op, names, [r + "t" for r in results], name=f"case{index}_{case.op}", **case.attrs))
        for result in results:
            nodes.append(helper.make_node("Cast", [result + "t"], [result], to=TensorProto.FLOAT))
            outputs.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, None))
        wanted.append(results)
    graph = helper.make_graph(nodes, "small", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10), feeds, wanted


def rounded(array, dtype):
    """f32 numbers that `dtype` has."""
    if array.dtype != np.float32 or dtype == TensorProto.DOUBLE:
        return array
    if dtype == TensorProto.FLOAT16:
        return array.astype(np.float16).astype(np.float32)
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def run(dtype, kind):
    built, feeds, wanted = model(kind)
    for tensor in built.graph.initializer:
        array = rounded(numpy_helper.to_array(tensor), dtype)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    with tempfile.TemporaryDirectory() as folder:
        return run_lowbit(built, {name: rounded(array, dtype) for name, array in feeds.items()}, folder), wanted


wrong = 0
for title, dtype, tolerance in (("f16", TensorProto.FLOAT16, 4e-3), ("bf16", TensorProto.BFLOAT16, 3e-2), ("f64", TensorProto.DOUBLE, 1e-5)):
    if dtype == TensorProto.DOUBLE and TARGET == "cuda":
        break  # GPUs have these functions in f32 only
    (found, wanted), (reference, _) = run(dtype, dtype), run(dtype, TensorProto.FLOAT)
    bad = 0
    for case, results in zip(cases, wanted):
        problems = [problem for r in results if (problem := close(found[r], reference[r], tolerance))]
        if problems:
            bad += 1
            print(f"{title} {case.op} {case.attrs}: {problems[0]}")
    print(f"{title}: {len(cases) - bad} of {len(cases)} operators agree with f32")
    wrong += bad
sys.exit(1 if wrong else 0)
