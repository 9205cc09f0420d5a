"""Sizes that depend on the data flow on: one bundle on several inputs, also such that nothing is left."""
import sys
import tempfile

import numpy as np
from harness import close, run_lowbit, session_of
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

constants = {"zero": np.float32(0), "i0": np.int64(0), "i1": np.int64(1), "row": np.array([1, -1], np.int64), "flat": np.array([-1], np.int64), "column": np.array([-1, 1], np.int64),
             "first": np.array([0], np.int64), "half": np.array([0.5], np.float32), "two": np.array([2], np.int64), "off_on": np.array([0, 1], np.float32),
             "five": np.int64(5)}
nodes = [
    # x[x > 0], its square back in its place.
    h.make_node("Greater", ["x", "zero"], ["mask"]), h.make_node("NonZero", ["mask"], ["nonzero"]), h.make_node("Transpose", ["nonzero"], ["places"]),
    h.make_node("GatherND", ["x", "places"], ["kept"]), h.make_node("Mul", ["kept", "kept"], ["squares"]), h.make_node("ScatterND", ["x", "places", "squares"], ["scattered"]),
    h.make_node("ReduceSum", ["squares"], ["total"], keepdims=0), h.make_node("Shape", ["kept"], ["shape"]), h.make_node("Size", ["kept"], ["size"]),
    h.make_node("Range", ["i0", "size", "i1"], ["count"]), h.make_node("Min", ["shape", "two"], ["few"]), h.make_node("TopK", ["kept", "few"], ["best", "where"]),
    h.make_node("Softmax", ["kept"], ["soft"]), h.make_node("Reshape", ["kept", "row"], ["as_row"]), h.make_node("Concat", ["kept", "half", "best"], ["joined"], axis=0),
    h.make_node("CumSum", ["joined", "i0"], ["sums"]), h.make_node("Reshape", ["kept", "column"], ["as_column"]), h.make_node("Expand", ["as_column", "two"], ["expanded"]),
    # Rows that are kept, and a product with them.
    h.make_node("Reshape", ["mask", "flat"], ["mask_line"]),
    h.make_node("Compress", ["x", "mask_line"], ["chosen"]), h.make_node("Sub", ["chosen", "kept"], ["nothing"]),
    h.make_node("Slice", ["x", "first", "two", "first"], ["part"]), h.make_node("MatMul", ["part", "weights"], ["product"]),
    h.make_node("Unique", ["labels"], ["values", "at", "back", "counts"]), h.make_node("Gather", ["values", "back"], ["restored"]),
    h.make_node("OneHot", ["back", "five", "off_on"], ["classes"]), h.make_node("ReduceSum", ["classes", "first"], ["histogram"], keepdims=0),
    h.make_node("Cast", ["counts"], ["many"], to=T.FLOAT), h.make_node("ReduceMean", ["many"], ["average"], keepdims=1),
]
outputs = {"kept": T.FLOAT, "scattered": T.FLOAT, "total": T.FLOAT, "count": T.INT64, "best": T.FLOAT, "where": T.INT64, "soft": T.FLOAT, "as_row": T.FLOAT,
           "sums": T.FLOAT, "expanded": T.FLOAT, "nothing": T.FLOAT, "product": T.FLOAT, "restored": T.INT64, "histogram": T.FLOAT, "average": T.FLOAT}
rng = np.random.default_rng(11)
initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
initializers.append(numpy_helper.from_array(rng.standard_normal((4, 3)).astype(np.float32), "weights"))
graph = h.make_graph(nodes, "sparse", [h.make_tensor_value_info("x", T.FLOAT, ["n", 4]), h.make_tensor_value_info("labels", T.INT64, ["m"])],
                     [h.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()], initializers)
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10)
session = session_of(model)

wrong = 0
for title, x in (("some", rng.standard_normal((3, 4))), ("all", np.ones((2, 4))), ("none", -np.ones((3, 4))), ("many", rng.standard_normal((50, 4)))):
    feeds = {"x": x.astype(np.float32), "labels": rng.integers(0, 4, 7)}
    reference = dict(zip(outputs, session.run(list(outputs), feeds)))
    with tempfile.TemporaryDirectory() as folder:
        found = run_lowbit(model, feeds, folder)
    for name in outputs:
        if problem := close(found[name], reference[name], 1e-5):
            wrong += 1
            print(f"{title}: {name}: {problem}")
    print(f"{title}: {len(reference['kept'])} of {x.size} kept")
print(f"data-dependent: {wrong} outputs differ from onnxruntime")
sys.exit(1 if wrong else 0)
