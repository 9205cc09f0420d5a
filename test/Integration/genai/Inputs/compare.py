"""Prompts and steps of the generated decoders, from one bundle each, against onnxruntime in float arithmetic."""
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from genai import Decoder, feeds
from lowbit.compiler import compile_bundle
from lowbit.runtime import Bundle

LIMIT = 1e-4  # of the greatest output


def session(path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compare(title, decoder, folder):
    """Returns the greatest difference relative to the greatest output; each side keeps its own cache."""
    path, out = Path(folder) / "model.onnx", Path(folder) / "model.lowbit"
    onnx.save(decoder.model(), path)
    compile_bundle(str(path), str(out), force=True)
    layers = json.loads((out / "manifest.json").read_text())["layers"]
    kernels = [layer["kernel"] for layer in layers if layer["op"] == "MatMul"]
    reference = session(path)
    names = [output.name for output in reference.get_outputs()]
    rng, worst, calls = np.random.default_rng(7), 0.0, 0
    with Bundle(out) as bundle:
        for batch, prompt, steps in ((1, 1, 2), (1, 5, 4), (2, 17, 3), (1, 40, 2)):
            mine = theirs = None
            for step in range(steps + 1):
                # Three tokens at once in the last step: a chunk after a past.
                count = prompt if step == 0 else 3 if step == steps and batch == 1 else 1
                ids = rng.integers(0, decoder.vocab, (batch, count))
                mine = bundle.run(feeds(decoder, ids, mine))
                theirs = dict(zip(names, reference.run(names, feeds(decoder, ids, theirs))))
                calls += 1
                for name in names:
                    if mine[name].shape != theirs[name].shape:
                        sys.exit(f"{title}: {name} is {mine[name].shape}, not {theirs[name].shape}")
                    difference = np.abs(mine[name] - theirs[name]).max() / np.abs(theirs[name]).max()
                    worst = max(worst, float(difference))
    fast = sum(kernel == "cpu.wgemm" for kernel in kernels)
    verdict = "agrees" if worst <= LIMIT else "DIFFERS"
    print(f"{title}: {verdict} with onnxruntime in {calls} calls, {worst:.1e} of the greatest output; "
          f"{fast} of {len(kernels)} products in the weight-only kernel")
    return worst


with tempfile.TemporaryDirectory() as folder:
    results = [
        compare("llama", Decoder("llama"), folder),
        compare("qwen3", Decoder("qwen3"), folder),
        compare("llama, asymmetric, 8-bit head, window", Decoder("llama", zero=True, head_bits=8, window=8), folder),
        compare("qwen3, 8 bits, packed table", Decoder("qwen3", bits=8, head_bits=8, table_bits=4), folder),
    ]
sys.exit(any(worst > LIMIT for worst in results))
