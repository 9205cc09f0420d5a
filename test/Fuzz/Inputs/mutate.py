# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Mutated models through `lowbit inspect`: an answer or an error, never a crash, a hang or all the memory.

python mutate.py [--count N] [--seed S] [-j N]      exit 1 where one crashes, takes over 10 s or over 2 GB
python mutate.py --corpus FOLDER                    writes small models: seeds for the fuzzer
"""
from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx

root = Path(__file__).parents[2]
sys.path[:0] = [str(root / "Integration" / "Inputs"), str(root / "Integration" / "onnx-backend" / "Inputs")]
from cases import load
from pool import run_all

SECONDS, BYTES = 10, 2 << 30
LARGE = [-1, 0, 1, -(2**31), 2**31 - 1, 2**31, 2**40, -(2**63), 2**63 - 1]


def mutate_bytes(model: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, repeats and swaps of bytes: what a damaged or hostile file looks like to the parser."""
    data = bytearray(model)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) or 1)
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del data[at:at + rng.choice((1, 2, 8, 64))]
        elif kind == 3:
            data[at:at] = data[at:at + rng.choice((1, 4, 32))]
        else:
            other = rng.randrange(len(data) or 1)
            data[at:at + 8], data[other:other + 8] = data[other:other + 8], data[at:at + 8]
    return bytes(data)


def mutate_graph(model: bytes, rng: random.Random) -> bytes:
    """Changes of a well-formed file: what passes the parser and must be refused later."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(graph.node) if graph.node else None
        kind = rng.randrange(9)
        if kind == 0 and node:
            node.op_type = rng.choice(("Reshape", "Gather", "Slice", "Loop", "If", "Scan", "Einsum", "Conv", "Resize", "TopK",
                                       "Attention", "Concat", "Split", "Pad", "Tile", "DequantizeLinear", "Range", "Expand"))
        elif kind == 1 and node and node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i = rng.choice(LARGE)
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(LARGE)
        elif kind == 2 and graph.input:
            shape = rng.choice(graph.input).type.tensor_type.shape
            if shape.dim:
                rng.choice(shape.dim).dim_value = rng.choice(LARGE)
        elif kind == 3 and graph.input:
            rng.choice(graph.input).type.tensor_type.elem_type = rng.randrange(32)
        elif kind == 4 and node and node.input:
            names = [name for other in graph.node for name in (*other.input, *other.output)] + [""]
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        elif kind == 5 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(LARGE)
        elif kind == 6 and proto.opset_import:
            proto.opset_import[0].version = rng.randrange(0, 30)
        elif kind == 7 and node:
            graph.node.append(node)
        elif node and node.attribute:
            del node.attribute[rng.randrange(len(node.attribute))]
    return proto.SerializeToString()


def inspect(model: bytes, seed: int) -> tuple[str, str]:
    """(result, why) of one mutant: fine, refused or crash."""
    from lowbit import _native

    rng = random.Random(seed)
    try:
        mutant = (mutate_graph if seed % 2 else mutate_bytes)(model, rng)
    except Exception:  # protobuf refuses the value: nothing to try
        return "fine", "no mutant"
    module = _native.compiler()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(prefix="lowbit-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(mutant)
        try:
            module.inspect(str(path))
            result = "fine", ""
        except module.Error as error:
            result = ("crash", f"internal: {error}") if error.code == 5 else ("refused", str(error))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if after * 1024 > BYTES and after > before:
        return "crash", f"{after >> 10} MB"
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder that keeps the computed cases")
    parser.add_argument("--corpus", type=Path, help="write the unmutated models here and do nothing else")
    parser.add_argument("--keep", type=Path, help="folder for the mutants that fail")
    parser.add_argument("-j", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    models = [case.model for case in load(arguments.cache) if len(case.model) < 20000]
    if arguments.corpus:
        arguments.corpus.mkdir(parents=True, exist_ok=True)
        for number, model in enumerate(models):
            (arguments.corpus / f"{number}.onnx").write_bytes(model)
        return 0
    jobs = [(models[(arguments.seed + number) * 7919 % len(models)], arguments.seed + number) for number in range(arguments.count)]
    results = run_all(inspect, jobs, arguments.j, SECONDS)
    crashes = [(model, seed, why) for (model, seed), (result, why) in zip(jobs, results) if result == "crash"]
    for model, seed, why in crashes[:20]:
        print(f"seed {seed}: {why}")
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            mutant = (mutate_graph if seed % 2 else mutate_bytes)(model, random.Random(seed))
            (arguments.keep / f"{seed}.onnx").write_bytes(mutant)
    counts = Counter(result for result, _ in results)
    print(f"{arguments.count} mutated models: {counts['fine']} fine, {counts['refused']} refused, {counts['crash']} crashed")
    return 1 if counts["crash"] else 0


if __name__ == "__main__":
    sys.exit(main())
