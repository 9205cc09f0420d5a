"""Single-operator models, many in one file, compiled to fp32 bundles and compared with onnxruntime."""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# "cpu", or "cuda": bundles for a GPU, run in the emulator.
TARGET = os.environ.get("LOWBIT_TEST_TARGET", "cpu")
COMPILE = ["--target=cuda", "--arch=sm_80"] if TARGET == "cuda" else []
RUN = ["--device=emulator"] if TARGET == "cuda" else []
BIN = os.path.join(os.environ["LOWBIT_BUILD"], "bin") if "LOWBIT_BUILD" in os.environ else ""


class Arg:
    """An operand: a constant, or an input whose dims are as in the array ('static') or all dynamic, named apart."""

    def __init__(self, array, kind, names=None):
        self.array, self.kind, self.names = np.asarray(array), kind, names


def const(array, dtype=None):
    return Arg(np.asarray(array, dtype), "const")


def var(array):
    return Arg(array, "var")


def dyn(array, names=None):
    """Dims that are dynamic; `names` (one word each) says which are equal, "=" keeps a dim static."""
    return Arg(array, "dyn", names.split() if names else None)


class Case:
    """A node; of its `outputs` (a count, or a list with False where one is left out) all that are there are compared,
    or the part of them that `valid(array, number)` gives where the operator leaves the rest open. `f64`: it computes a
    function such as log in f64, which GPUs refuse."""

    def __init__(self, op, *args, outputs=1, tolerance=None, domain="", valid=None, f64=False, **attrs):
        self.op, self.args, self.attrs, self.domain = op, args, attrs, domain
        self.outputs = [True] * outputs if isinstance(outputs, int) else outputs
        self.tolerance, self.f64 = tolerance, f64
        self.valid = valid or (lambda array, number: array)


def supported(cases):
    """Those that the target runs."""
    return [case for case in cases if TARGET == "cpu" or not case.f64]


def build(cases, opset):
    """One model with a node per case; its inputs' values; the outputs of each case."""
    nodes, inputs, outputs, initializers, feeds, wanted = [], [], [], [], {}, []
    for index, case in enumerate(cases):
        names = []
        for position, arg in enumerate(case.args):
            if arg is None:
                names.append("")
                continue
            name = f"c{index}_{position}"
            names.append(name)
            if arg.kind == "const":
                initializers.append(numpy_helper.from_array(arg.array, name))
                continue
            shape = list(arg.array.shape)
            if arg.kind == "dyn":
                labels = arg.names or [f"n{i}" for i in range(len(shape))]
                shape = [s if label == "=" else f"{label}_{index}" + ("" if arg.names else f"_{position}")
                         for s, label in zip(shape, labels)]
            dtype = helper.np_dtype_to_tensor_dtype(arg.array.dtype)
            inputs.append(helper.make_tensor_value_info(name, dtype, shape))
            feeds[name] = arg.array
        results = [f"y{index}_{i}" if there else "" for i, there in enumerate(case.outputs)]
        nodes.append(helper.make_node(case.op, names, results, name=f"case{index}_{case.op}", domain=case.domain,
                                      **case.attrs))
        results = [r for r in results if r]
        outputs += [helper.make_tensor_value_info(r, TensorProto.UNDEFINED, None) for r in results]
        wanted.append(results)
    graph = helper.make_graph(nodes, "ops", inputs, outputs, initializers)
    contrib = any(case.domain or not onnx.defs.has(case.op) for case in cases)
    domains = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("com.microsoft", 1)] if contrib else [])
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    # Element types of the outputs, as onnx infers them, or onnxruntime what onnx does not know.
    types = {o.name: o.type for o in onnx.shape_inference.infer_shapes(model).graph.output}
    if contrib:
        for output in model.graph.output:
            output.ClearField("type")
        for output in session_of(model).get_outputs():
            name = output.type.removeprefix("tensor(").removesuffix(")")
            number = {"float": TensorProto.FLOAT, "double": TensorProto.DOUBLE}.get(name) or TensorProto.DataType.Value(name.upper())
            types[output.name] = helper.make_tensor_type_proto(number, None)
    for output in model.graph.output:
        output.type.CopyFrom(types[output.name])
        output.type.tensor_type.ClearField("shape")
    return model, feeds, wanted


def session_of(model):
    """onnxruntime on the graph as it is: no fusion changes what is compared."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_lowbit(model, feeds, folder, expect_failure=False):
    path, bundle = os.path.join(folder, "model.onnx"), os.path.join(folder, "model.lowbit")
    onnx.save(model, path)
    compiled = subprocess.run([os.path.join(BIN, "lowbit-compile"), path, "-o", bundle, "--recipe=fp32", "--force", *COMPILE],
                              capture_output=True, text=True)
    if compiled.returncode:
        raise SystemExit(f"lowbit-compile: {compiled.returncode}\n{compiled.stderr}")
    data, out = os.path.join(folder, "in.npz"), os.path.join(folder, "out.npz")
    np.savez(data, **feeds)
    ran = subprocess.run([os.path.join(BIN, "lowbit-run"), bundle, "--inputs", data, "-o", out, "--force", *RUN],
                         capture_output=True, text=True)
    if expect_failure:
        return ran
    if ran.returncode:
        raise SystemExit(f"lowbit-run: {ran.returncode}\n{ran.stderr}")
    return np.load(out)


def close(mine, reference, tolerance):
    if mine.shape != reference.shape or mine.dtype != reference.dtype:
        return f"found {mine.dtype}{mine.shape}, expected {reference.dtype}{reference.shape}"
    if not np.issubdtype(mine.dtype, np.floating):
        bad = int((mine != reference).sum())
        return f"{bad} of {mine.size} elements differ" if bad else None
    if mine.size == 0:
        return None
    mine, reference = mine.astype(np.float64), reference.astype(np.float64)
    if not np.array_equal(np.isnan(mine), np.isnan(reference)):
        return "NaNs are elsewhere"
    finite = np.isfinite(reference)
    if not np.array_equal(mine[~finite & ~np.isnan(reference)], reference[~finite & ~np.isnan(reference)]):
        return "infinities are elsewhere"
    error = np.abs(mine[finite] - reference[finite])
    limit = tolerance * (1 + np.abs(reference[finite]))
    return f"off by {error.max():.3g}" if (error > limit).any() else None


def check(title, cases, opset=21):
    """Compiles all cases as one model, runs it and prints every case that differs; exits 1 where one does."""
    cases = supported(cases)
    model, feeds, wanted = build(cases, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [name for results in wanted for name in results]
    reference = dict(zip(names, session.run(names, feeds)))
    with tempfile.TemporaryDirectory() as folder:
        found = run_lowbit(model, feeds, folder)
        wrong = 0
        for index, (case, results) in enumerate(zip(cases, wanted)):
            for number, name in enumerate(results):
                half = reference[name].dtype == np.float16
                problem = close(case.valid(found[name], number), case.valid(reference[name], number),
                                case.tolerance or (2e-3 if half else 1e-5))
                if problem:
                    wrong += 1
                    shapes = [None if a is None else (a.kind, a.array.shape) for a in case.args]
                    print(f"{title} case {index} {case.op} {case.attrs} {shapes} output {name}: {problem}")
    print(f"{title}: {len(cases) - wrong} of {len(cases)} cases agree with onnxruntime")
    if wrong:
        sys.exit(1)
