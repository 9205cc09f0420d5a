#!/usr/bin/env python3
# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains the bundled CNN and writes it, with its data, to python/lowbit/models.

The network is a small residual one of depthwise and pointwise convolutions for scikit-learn's
8x8 digits. It is written with onnx.helper from the trained weights, because an exporter would fold
the BatchNormalization nodes that the model exists to exercise.

Needs torch, scikit-learn, onnx and onnxruntime; takes about a minute on two cores.
"""
import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

SEED = 20240229
EVAL_SAMPLES = 597  # one third of the 1,797 digits
CALIBRATION_SAMPLES = 128


def conv_bn(inputs: int, outputs: int, kernel: int, groups: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Block(nn.Module):
    """Depthwise 3x3, pointwise 1x1; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = conv_bn(inputs, inputs, 3, groups=inputs, stride=stride)
        self.pointwise = conv_bn(inputs, outputs, 1)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pointwise(F.relu(self.depthwise(x)))
        return F.relu(x + y if self.residual else y)


class DigitsCNN(nn.Module):
    """[N, 1, 8, 8] in 0 … 16 → logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(1, 24, 3)
        self.blocks = nn.ModuleList([Block(24, 24), Block(24, 48, stride=2), Block(48, 48), Block(48, 48)])
        self.head = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images [n, 1, 8, 8] float32 and labels [n] int64 for training, then for evaluation."""
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(labels))
    test, train = order[:EVAL_SAMPLES], order[EVAL_SAMPLES:]
    return images[train], labels[train], images[test], labels[test]


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> DigitsCNN:
    torch.manual_seed(SEED)
    model = DigitsCNN()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    steps = epochs * (len(x) // 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x) - 63, 64):
            pick = order[start : start + 64]
            # A random shift by up to one pixel: the digits are centred, real ones are not.
            shift = tuple(int(v) for v in torch.randint(-1, 2, (2,)))
            batch = torch.roll(F.pad(x[pick], (1, 1, 1, 1)), shift, (2, 3))[:, :, 1:-1, 1:-1]
            loss = F.cross_entropy(model(batch), y[pick], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


class GraphWriter:
    """Collects nodes and initializers; each method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: torch.Tensor) -> str:
        self.initializers.append(numpy_helper.from_array(value.detach().numpy().copy(), name))
        return name

    def node(self, op: str, name: str, inputs: list[str], **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name + "_out"], name=name, **attributes))
        return name + "_out"

    def conv_bn(self, name: str, pair: nn.Sequential, x: str) -> str:
        conv, norm = pair
        pad = conv.padding[0]
        x = self.node(
            "Conv", f"{name}/conv", [x, self.constant(f"{name}.conv.weight", conv.weight)],
            kernel_shape=list(conv.kernel_size), strides=list(conv.stride), pads=[pad] * 4, group=conv.groups)
        parameters = {"scale": norm.weight, "bias": norm.bias, "mean": norm.running_mean, "var": norm.running_var}
        names = [self.constant(f"{name}.bn.{key}", value) for key, value in parameters.items()]
        return self.node("BatchNormalization", f"{name}/bn", [x, *names], epsilon=norm.eps)


def to_onnx(model: DigitsCNN) -> onnx.ModelProto:
    g = GraphWriter()
    x = g.node("Relu", "stem/relu", [g.conv_bn("stem", model.stem, "image")])
    for i, block in enumerate(model.blocks):
        name = f"block{i}"
        y = g.node("Relu", f"{name}/depthwise/relu", [g.conv_bn(f"{name}/depthwise", block.depthwise, x)])
        y = g.conv_bn(f"{name}/pointwise", block.pointwise, y)
        if block.residual:
            y = g.node("Add", f"{name}/add", [x, y])
        x = g.node("Relu", f"{name}/relu", [y])
    x = g.node("Flatten", "flatten", [g.node("GlobalAveragePool", "pool", [x])], axis=1)
    weight, bias = g.constant("head.weight", model.head.weight), g.constant("head.bias", model.head.bias)
    x = g.node("Gemm", "head/gemm", [x, weight, bias], transB=1)
    g.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        g.nodes, "digits_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])], g.initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="lowbit", ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "lowbit" / "models")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    train_x, train_y, eval_x, eval_y = split()
    model = train(train_x, train_y, arguments.epochs)
    proto = to_onnx(model)
    path = arguments.output / "digits_cnn.onnx"
    onnx.save(proto, path)
    np.savez_compressed(arguments.output / "digits_eval.npz", image=eval_x, label=eval_y)
    np.savez_compressed(arguments.output / "digits_calib.npz", image=train_x[:CALIBRATION_SAMPLES])

    logits = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": eval_x})[0]
    with torch.no_grad():
        difference = np.abs(logits - model(torch.from_numpy(eval_x)).numpy()).max()
    accuracy = (logits.argmax(1) == eval_y).mean()
    print(f"{path.name}: {path.stat().st_size} bytes, accuracy {accuracy:.4f} on {len(eval_y)} digits, "
          f"largest difference from torch {difference:.1e}")
    if accuracy < 0.97 or difference > 1e-4:
        raise SystemExit("the model is not good enough to be bundled")


if __name__ == "__main__":
    main()
