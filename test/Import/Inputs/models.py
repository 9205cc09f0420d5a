"""Writes the small ONNX files of the import tests. Usage: models.py NAME FOLDER"""
import os
import sys

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper, save

info = h.make_tensor_value_info


def model(nodes, inputs, outputs, initializers=(), opset=21, **more):
    graph = h.make_graph(nodes, "g", inputs, outputs, list(initializers))
    return h.make_model(graph, opset_imports=[h.make_opsetid("", opset)] + more.pop("imports", []), ir_version=10, **more)


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


x, y = info("x", T.FLOAT, ["N", 3]), info("y", T.FLOAT, None)


def names():
    """An initializer that is an input as well, unnamed and equal node names, wrong order, an operand left out, symbols."""
    nodes = [h.make_node("Clip", ["c", "", "top"], ["y"], name="clip"), h.make_node("Relu", ["b"], ["c"]),
             h.make_node("Add", ["x", "w"], ["a"], name="same"), h.make_node("Add", ["a", "w"], ["b"], name="same")]
    odd = info("x", T.FLOAT, ["Min(512, s53)", 3])
    return model(nodes, [odd, info("w", T.FLOAT, [3])], [y], [tensor("w", np.float32([1, 2, 3])), tensor("top", np.float32(6))])


def types():
    """Every element type, in the typed fields and as raw bytes; all forms of Constant."""
    numpy_types = [np.float32, np.float64, np.float16, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
    initializers, outputs = [], []
    for kind in numpy_types:
        values = np.array([0, 1, 100], kind)
        name = np.dtype(kind).name
        initializers += [tensor(name + "_raw", values), h.make_tensor(name + "_typed", h.np_dtype_to_tensor_dtype(values.dtype), [3], values)]
    initializers += [tensor("bool_raw", [True, False]), h.make_tensor("bool_typed", T.BOOL, [2], [True, False]),
                     h.make_tensor("bf16", T.BFLOAT16, [2], [1.0, -2.0]), h.make_tensor("i4", T.INT4, [3], [1, -2, 7]),
                     h.make_tensor("u4", T.UINT4, [3], [1, 14, 7]),
                     h.make_tensor("i4_raw", T.INT4, [3], bytes([0xE1, 0x07]), raw=True)]
    nodes = [h.make_node("Constant", [], ["k0"], value_float=1.5), h.make_node("Constant", [], ["k1"], value_ints=[1, 2]),
             h.make_node("Constant", [], ["k2"], value_int=7), h.make_node("Constant", [], ["k3"], value_floats=[0.5]),
             h.make_node("Constant", [], ["k4"], value=tensor("t", np.int8([1])))]
    outputs = [info(i.name, i.data_type, None) for i in initializers]
    outputs += [info(f"k{i}", t, None) for i, t in enumerate([T.FLOAT, T.INT64, T.INT64, T.FLOAT, T.INT8])]
    return model(nodes, [], outputs, initializers)


def control_flow():
    """A branch that takes values from two levels further out and whose nodes are in the wrong order; a call inside it."""
    scale = h.make_function("local", "Scale", ["a"], ["b"], [h.make_node("Neg", ["a"], ["b"])], [h.make_opsetid("", 21)])
    deep = h.make_graph([h.make_node("Add", ["t", "w"], ["d"]), h.make_node("Mul", ["x", "k"], ["t"])], "deep", [],
                        [info("d", T.FLOAT, None)], [tensor("k", np.float32(3))])
    flat = h.make_graph([h.make_node("Scale", ["v"], ["f"], domain="local")], "flat", [], [info("f", T.FLOAT, None)])
    body = h.make_graph([h.make_node("If", ["go"], ["v_next"], then_branch=deep, else_branch=flat), h.make_node("Identity", ["go"], ["more"])],
                        "body", [info("i", T.INT64, []), info("go", T.BOOL, []), info("v", T.FLOAT, None)],
                        [info("more", T.BOOL, []), info("v_next", T.FLOAT, None)])
    nodes = [h.make_node("Loop", ["m", "", "x"], ["y"], name="repeat", body=body)]
    imports = [h.make_opsetid("local", 1)]
    return model(nodes, [x, info("m", T.INT64, [])], [y], [tensor("w", np.float32([1, 2, 3]))], imports=imports, functions=[scale])


def functions():
    """A model-local function that calls another one, with an attribute handed on and a default."""
    scale = h.make_function("local", "Scale", ["a"], ["b"], [
        h.make_node("LeakyRelu", ["a"], ["t"]), h.make_node("Neg", ["t"], ["b"], name="negate")],
        [h.make_opsetid("", 21)], ["slope"])
    ref = scale.node[0].attribute.add()
    ref.name, ref.ref_attr_name, ref.type = "alpha", "slope", 1
    twice = h.make_function("local", "Twice", ["a"], ["b"], [
        h.make_node("Scale", ["a"], ["t"], domain="local", slope=0.5), h.make_node("Scale", ["t"], ["b"], domain="local", slope=0.25)],
        [h.make_opsetid("", 21), h.make_opsetid("local", 1)])
    return model([h.make_node("Twice", ["x"], ["y"], name="call", domain="local")], [x], [y], imports=[h.make_opsetid("local", 1)],
                 functions=[scale, twice])


def custom():
    """Operators without an op class; two of one kind."""
    nodes = [h.make_node("Frobnicate", ["x"], ["a"], name="q0", domain="com.example", K=3),
             h.make_node("Frobnicate", ["a"], ["b"], name="q1", domain="com.example", K=3),
             h.make_node("ImageDecoder", ["b"], ["y"], name="photo")]
    return model(nodes, [x], [info("y", T.INT64, None)], imports=[h.make_opsetid("com.example", 1)])


def bodies():
    """Operators whose bodies are in the schemas, and results whose element types are not their operands'."""
    nodes = [h.make_node("Celu", ["x"], ["c"], name="celu", alpha=2.0), h.make_node("Mish", ["c"], ["m"], name="mish"),
             h.make_node("ThresholdedRelu", ["m"], ["y"], name="gate"),
             h.make_node("EyeLike", ["x"], ["e"], name="eye", dtype=T.DOUBLE), h.make_node("CastLike", ["x", "e"], ["l"], name="like"),
             h.make_node("TopK", ["x", "k"], ["t", "i"], name="top"), h.make_node("BitCast", ["x"], ["b"], name="bits", to=T.INT32),
             h.make_node("Dropout", ["x"], ["d", "mask"], name="drop")]
    outputs = [info(name, kind, None) for name, kind in
               (("y", T.FLOAT), ("l", T.DOUBLE), ("t", T.FLOAT), ("i", T.INT64), ("b", T.INT32), ("d", T.FLOAT), ("mask", T.BOOL))]
    return model(nodes, [x], outputs, [tensor("k", np.array([1], np.int64))], opset=28)


def external(location="weights.bin", offset="64", length=str(4 * 3000)):
    w = T(name="w", data_type=T.FLOAT, dims=[3000], data_location=T.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = w.external_data.add()
        entry.key, entry.value = key, value
    return model([h.make_node("Identity", ["w"], ["y"])], [], [y], [w])


def wrong(key):
    """One broken model for each kind of error."""
    ok = [h.make_node("Relu", ["x"], ["y"], name="relu")]
    if key == "undefined":
        return model([h.make_node("Add", ["x", "z"], ["y"], name="add")], [x], [y])
    if key == "cycle":
        return model([h.make_node("Add", ["x", "b"], ["a"], name="p"), h.make_node("Relu", ["a"], ["b"], name="q")], [x], [info("a", T.FLOAT, None)])
    if key == "twice":
        return model(ok + [h.make_node("Neg", ["x"], ["y"], name="neg")], [x], [y])
    if key in ("subgraph", "branches", "capture", "condition", "nested"):
        sequence = h.make_value_info("z", h.make_sequence_type_proto(h.make_tensor_type_proto(T.FLOAT, None)))
        z = sequence if key == "subgraph" else info("z", T.FLOAT, None)
        inner = h.make_graph([h.make_node("Relu", ["q" if key == "capture" else "x"], ["z"])], "inner", [], [z])
        other = h.make_graph([h.make_node("Relu", ["x"], ["z"])], "other", [], [z] * (2 if key == "branches" else 1))
        for level in range(13 if key == "nested" else 0):
            inner = h.make_graph([h.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=other)], "inner", [], [z])
        condition = "x" if key == "condition" else "c"
        return model([h.make_node("If", [condition], ["y"], name="if", then_branch=inner, else_branch=other)],
                     [x, info("c", T.BOOL, [])], [y])
    if key == "sequence":
        return model(ok, [h.make_tensor_sequence_value_info("x", T.FLOAT, None)], [y])
    if key == "string":
        return model(ok, [info("x", T.STRING, [1])], [y])
    if key == "opset":
        return model(ok, [x], [y], opset=6)
    if key == "future":
        return model(ok, [x], [y], opset=99)
    if key == "size":
        return model([h.make_node("Add", ["x", "w"], ["y"])], [x], [y], [T(name="w", data_type=T.FLOAT, dims=[5], raw_data=b"abc")])
    if key == "huge":
        return model([h.make_node("Add", ["x", "w"], ["y"])], [x], [y], [T(name="w", data_type=T.FLOAT, dims=[1 << 40, 1 << 40])])
    if key == "negative":
        return model([h.make_node("Add", ["x", "w"], ["y"])], [x], [y], [T(name="w", data_type=T.FLOAT, dims=[-4])])
    if key == "attribute":
        return model([h.make_node("Flatten", ["x"], ["y"], name="flat", axis="one")], [x], [y])
    if key == "inputs":
        return model([h.make_node("Relu", ["x", "x"], ["y"], name="relu")], [x], [y])
    if key == "missing":
        return model([h.make_node("Add", ["x", ""], ["y"], name="add")], [x], [y])
    if key == "recursion":
        loop = h.make_function("local", "Loop1", ["a"], ["b"], [h.make_node("Loop1", ["a"], ["b"], domain="local")],
                               [h.make_opsetid("", 21), h.make_opsetid("local", 1)])
        return model([h.make_node("Loop1", ["x"], ["y"], domain="local")], [x], [y], imports=[h.make_opsetid("local", 1)], functions=[loop])
    if key == "climb":
        return external(location="../weights.bin")
    if key == "absent":
        return external(location="nowhere.bin")
    if key == "beyond":
        return external(offset="1000000")
    if key == "length":
        return external(length="12")
    if key == "coin":
        return model([h.make_node("Bernoulli", ["x"], ["y"], name="coin")], [x], [y])
    raise KeyError(key)


def main(name, folder):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{name}.onnx")
    with open(os.path.join(folder, "weights.bin"), "wb") as f:
        f.write(b"\0" * 64 + np.arange(3000, dtype=np.float32).tobytes())
    if name == "random":
        open(path, "wb").write(np.random.default_rng(0).bytes(4096))
    elif name == "empty":
        open(path, "wb").close()
    elif name == "truncated":
        data = types().SerializeToString()
        open(path, "wb").write(data[:len(data) // 2])
    else:
        made = globals()[name]() if name in globals() and name != "wrong" else wrong(name)
        with open(path, "wb") as f:
            f.write(made.SerializeToString())


if __name__ == "__main__":
    main(*sys.argv[1:])
