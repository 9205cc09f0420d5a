"""Writes a model to argv[1] whose inputs' dims are named as exporters name them."""
import sys

import onnx
from onnx import TensorProto, helper

value = lambda name, *dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
names = ["past", "sequence", "past + sequence", "((past*sequence)//3) + 1", "Min(256, past)", "sequence % 2", "max batch!"]
inputs = [value(f"x{i}", name) for i, name in enumerate(names)]
nodes = [helper.make_node("Relu", [f"x{i}"], [f"y{i}"]) for i in range(len(names))]
graph = helper.make_graph(nodes, "dims", inputs, [value(f"y{i}", None) for i in range(len(names))])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), sys.argv[1])
