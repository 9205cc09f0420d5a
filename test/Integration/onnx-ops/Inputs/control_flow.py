"""If, Loop and Scan: whole models with graphs inside nodes, at several inputs from one bundle."""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from harness import BIN, close

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
info = helper.make_tensor_value_info
node = helper.make_node
rng = np.random.default_rng(7)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)


def constant(name, value, dtype=None):
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def graph(nodes, inputs, outputs, initializers=(), name="g"):
    return helper.make_graph(nodes, name, inputs, outputs, list(initializers))


def model(*arguments):
    return helper.make_model(graph(*arguments), opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def branches():
    """Captures from outside, an initializer of the outer graph used only inside, lengths that differ."""
    then = graph([node("Add", ["x", "bias"], ["t"])], [], [info("t", F, None)])
    other = graph([node("Slice", ["x", "zero", "two", "zero"], ["s"]), node("MatMul", ["s", "w"], ["e"])], [], [info("e", F, None)])
    return model([node("If", ["c"], ["y"], then_branch=then, else_branch=other), node("Neg", ["y"], ["z"])],
                 [info("c", B, []), info("x", F, ["n", 4])], [info("z", F, ["m", 4])],
                 [constant("bias", f(4)), constant("w", f(4, 4)), constant("zero", [0], np.int64), constant("two", [2], np.int64)])


def counted():
    """A trip count of the run and a scan output."""
    body = graph([node("Identity", ["k"], ["k_out"]), node("Mul", ["v", "x"], ["v_out"]), node("Cast", ["i"], ["i_f"], to=F),
                  node("Add", ["v_out", "i_f"], ["s"])],
                 [info("i", I, []), info("k", B, []), info("v", F, None)], [info("k_out", B, []), info("v_out", F, None), info("s", F, None)])
    return model([node("Loop", ["m", "", "x"], ["last", "all"], body=body)], [info("m", I, []), info("x", F, ["n", 2])],
                 [info("last", F, None), info("all", F, None)])


def early_exit():
    """Ends when the sum passes the limit; the carried value grows with every iteration."""
    body = graph([node("Concat", ["v", "x"], ["v_out"], axis=0), node("ReduceSum", ["v_out"], ["sum"], keepdims=0),
                  node("Less", ["sum", "limit"], ["go"]), node("Shape", ["v_out"], ["size"])],
                 [info("i", I, []), info("k", B, []), info("v", F, None)],
                 [info("go", B, []), info("v_out", F, None), info("size", I, None), info("sum", F, None)])
    return model([node("Loop", ["m", "go_in", "x"], ["last", "sizes", "sums"], body=body)],
                 [info("m", I, []), info("go_in", B, []), info("limit", F, []), info("x", F, ["n"])],
                 [info("last", F, None), info("sizes", I, None), info("sums", F, None)])


def nested():
    """A loop in a branch in a loop, with captures of every level."""
    inner = graph([node("Identity", ["kk"], ["kk_out"]), node("Add", ["u", "v"], ["u_out"])],
                  [info("j", I, []), info("kk", B, []), info("u", F, None)], [info("kk_out", B, []), info("u_out", F, None)])
    then = graph([node("Loop", ["i", "", "x"], ["deep"], body=inner)], [], [info("deep", F, None)])
    other = graph([node("Identity", ["v"], ["same"])], [], [info("same", F, None)])
    body = graph([node("Mod", ["i", "two"], ["odd"]), node("Cast", ["odd"], ["is_odd"], to=B),
                  node("If", ["is_odd"], ["v_out"], then_branch=then, else_branch=other), node("Identity", ["k"], ["k_out"])],
                 [info("i", I, []), info("k", B, []), info("v", F, None)], [info("k_out", B, []), info("v_out", F, None)])
    return model([node("Loop", ["m", "", "x"], ["y"], body=body)], [info("m", I, []), info("x", F, ["n"])], [info("y", F, ["n"])],
                 [constant("two", 2, np.int64)])


def scanned():
    """Two scan inputs, one backwards and along another axis; outputs along axis 1 and backwards."""
    body = graph([node("Mul", ["a", "b"], ["p"]), node("Add", ["s", "p"], ["s_out"]), node("Identity", ["s_out"], ["o"]),
                  node("Sub", ["p", "s"], ["q"])],
                 [info("s", F, None), info("a", F, None), info("b", F, None)],
                 [info("s_out", F, None), info("o", F, None), info("q", F, None)])
    return model([node("Scan", ["s0", "x", "y"], ["last", "o", "q"], body=body, num_scan_inputs=2, scan_input_axes=[0, 1],
                       scan_input_directions=[0, 1], scan_output_axes=[1, 0], scan_output_directions=[0, 1])],
                 [info("s0", F, [3]), info("x", F, ["n", 3]), info("y", F, [3, "n"])],
                 [info("last", F, None), info("o", F, None), info("q", F, None)])


def decided():
    """A condition that follows from the shapes: only the graph that is taken needs to fit."""
    then = graph([node("Squeeze", ["x", "one"], ["t"])], [], [info("t", F, None)])
    other = graph([node("Reshape", ["x", "bad"], ["e"])], [], [info("e", F, None)])
    return model([node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "one_s"], ["size"]), node("Equal", ["size", "one_s"], ["c"]),
                  node("If", ["c"], ["y"], then_branch=then, else_branch=other)], [info("x", F, ["n", 1])], [info("y", F, ["n"])],
                 [constant("one", [1], np.int64), constant("one_s", 1, np.int64), constant("bad", [7, 7], np.int64)])


s = np.float32
MODELS = {
    "branches": (branches, [dict(c=np.array(c), x=f(n, 4)) for c in (True, False) for n in (2, 5)]),
    "counted": (counted, [dict(m=np.int64(m), x=f(n, 2)) for m in (1, 3, 0) for n in (2, 4)]),
    "early_exit": (early_exit, [dict(m=np.int64(m), go_in=np.array(go), limit=s(limit), x=np.abs(f(3)))
                                for m, go, limit in ((5, True, 4), (200, True, 100), (100, True, 1000), (4, False, 3))]),
    "nested": (nested, [dict(m=np.int64(m), x=f(n)) for m in (0, 1, 6) for n in (1, 4)]),
    "scanned": (scanned, [dict(s0=f(3), x=f(n, 3), y=f(3, n)) for n in (1, 4, 9)]),
    "decided": (decided, [dict(x=f(n, 1)) for n in (1, 3)]),
}
wrong = 0
for name, (build, feeds) in MODELS.items():
    proto = build()
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with tempfile.TemporaryDirectory() as folder:
        path, bundle = os.path.join(folder, "m.onnx"), os.path.join(folder, "m.lowbit")
        onnx.save(proto, path)
        compiled = subprocess.run([os.path.join(BIN, "lowbit-compile"), path, "-o", bundle, "--recipe=fp32"], capture_output=True, text=True)
        if compiled.returncode:
            sys.exit(f"{name}: {compiled.stderr}")
        for feed in feeds:
            feed = {key: np.asarray(value) for key, value in feed.items()}
            data, out = os.path.join(folder, "in.npz"), os.path.join(folder, "out.npz")
            np.savez(data, **feed)
            ran = subprocess.run([os.path.join(BIN, "lowbit-run"), bundle, "--inputs", data, "-o", out, "--force"],
                                 capture_output=True, text=True)
            if ran.returncode:
                sys.exit(f"{name}: {ran.stderr}")
            found = np.load(out)
            for output, expected in zip(session.get_outputs(), session.run(None, feed)):
                if expected.size == 0 and found[output.name].size == 0:
                    continue  # Without an iteration onnxruntime does not know the shape of an element.
                problem = close(found[output.name], expected, 1e-5)
                if problem:
                    wrong += 1
                    print(f"{name} {({k: v.shape or v for k, v in feed.items()})} output {output.name}: {problem}")
    print(f"{name}: {len(feeds)} runs")
print("control flow: all agree with onnxruntime" if not wrong else f"control flow: {wrong} outputs differ")
sys.exit(wrong != 0)
