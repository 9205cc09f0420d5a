# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Whole bundles for a GPU, run in the emulator, against the bundles for the CPU."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, ROOT, require_compiler, shared_model

require_compiler()

from lowbit.compiler import calibrate_to, compile_bundle  # noqa: E402
from lowbit.data import open_data  # noqa: E402
from lowbit.errors import InvalidInput, Unavailable  # noqa: E402
from lowbit.runtime import Bundle  # noqa: E402
from lowbit.signature import numpy_dtype  # noqa: E402

DIGITS, LLAMA = MODELS / "digits_cnn.onnx", MODELS / "tiny_llama.onnx"


@pytest.fixture(scope="module", autouse=True)
def assembler(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        compile_bundle(str(DIGITS), str(tmp_path_factory.mktemp("probe") / "probe.lowbit"), target="cuda", arch="sm_80")
    except Unavailable as error:
        pytest.skip(f"no code for GPUs here: {error}")


def both(model: Path, recipe: str, folder: Path, calibration: Path | None = None) -> tuple[Bundle, Bundle]:
    """The bundle for the CPU, and the one for GPUs in the emulator."""
    file = None
    if calibration:
        file = str(folder / "calibration")
        calibrate_to(str(model), recipe, open_data(str(calibration) + "[0:64]"), file)
    compile_bundle(str(model), str(folder / "cpu"), recipe=recipe, calibration=file)
    compile_bundle(str(model), str(folder / "cuda"), recipe=recipe, calibration=file, target="cuda")
    return Bundle(folder / "cpu"), Bundle(folder / "cuda", device="emulator")


def feed_of(bundle: Bundle, evaluation: Path, samples: int) -> dict[str, np.ndarray]:
    data = np.load(evaluation)
    if "tokens" in data.files:
        return {"input_ids": data["tokens"][:1, :16 * samples].astype(np.int64)}
    name = bundle.inputs[0].name
    return {name: data[name][:samples]}


def difference(cpu: Bundle, gpu: Bundle, feed: dict[str, np.ndarray]) -> float:
    """The largest difference of an output, of its range on the CPU."""
    expected, found = cpu.run(feed), gpu.run(feed)
    worst = 0.0
    for name, value in expected.items():
        assert found[name].shape == value.shape and found[name].dtype == value.dtype
        worst = max(worst, float(np.abs(found[name].astype(np.float64) - value).max() / np.ptp(value)))
    return worst


def data_of(name: str, part: str) -> Path:
    return MODELS / f"{name}_{part}.npz"


BUNDLED = [pytest.param(DIGITS, data_of("digits", "calib"), data_of("digits", "eval"), id="digits"),
           pytest.param(LLAMA, data_of("tiny_llama", "calib"), data_of("tiny_llama", "eval"), id="tiny_llama")]
MODELS_OF_BOTH = [*BUNDLED,
                  shared_model("resnet20_cifar10", "cifar10", name="resnet20"), shared_model("resnet8_cifar10", "cifar10raw", name="resnet8"),
                  shared_model("kws_dscnn", "kws", name="kws"), shared_model("mnist", "mnist", name="mnist"),
                  shared_model("stories260K", "stories", name="stories")]


@pytest.mark.parametrize("model,calibration,evaluation", MODELS_OF_BOTH)
def test_int8(model: Path, calibration: Path, evaluation: Path, tmp_path: Path) -> None:
    """Integer layers give the same integers; what is float between them is within a hundredth of the output's range."""
    cpu, gpu = both(model, "int8", tmp_path, calibration)
    assert difference(cpu, gpu, feed_of(cpu, evaluation, 1)) <= 1e-2
    kernels = gpu.manifest["device"]["kernels"]
    assert any(kernel["generator"] != "linalg" for kernel in kernels)
    assert all(kernel["spill_bytes"] == 0 for kernel in kernels)


@pytest.mark.parametrize("model,calibration,evaluation", MODELS_OF_BOTH)
def test_int4(model: Path, calibration: Path, evaluation: Path, tmp_path: Path) -> None:
    cpu, gpu = both(model, "int4:group=32", tmp_path)
    assert difference(cpu, gpu, feed_of(cpu, evaluation, 1)) <= 1e-3
    assert all(kernel["spill_bytes"] == 0 for kernel in gpu.manifest["device"]["kernels"])


@pytest.mark.parametrize("recipe", ["fp16", "int8-weights"])
@pytest.mark.parametrize("model,calibration,evaluation", BUNDLED)
def test_float_activations(model: Path, calibration: Path, evaluation: Path, recipe: str, tmp_path: Path) -> None:
    """On one sample the linear layers of the Llama have 16 rows and run as decoding would, on three they are matrix products."""
    cpu, gpu = both(model, recipe, tmp_path)
    for samples in (1, 3):
        assert difference(cpu, gpu, feed_of(cpu, evaluation, samples)) <= 1e-3
    kernels = gpu.manifest["device"]["kernels"]
    family = "cuda.mma_f16" if recipe == "fp16" else "cuda.w4a16"
    assert {family, "cuda.gemv"} & {kernel["generator"] for kernel in kernels}
    assert all(kernel["spill_bytes"] == 0 for kernel in kernels)
    if model == LLAMA:
        assert {family, "cuda.gemv"} <= {kernel["generator"] for kernel in kernels}


def test_ranges_of_the_run(tmp_path: Path) -> None:
    cpu, gpu = both(LLAMA, "int8-dynamic", tmp_path)
    assert difference(cpu, gpu, feed_of(cpu, data_of("tiny_llama", "eval"), 1)) <= 1e-2
    assert {"cuda.rowquant", "cuda.mma_s8"} <= {kernel["generator"] for kernel in gpu.manifest["device"]["kernels"]}


@pytest.mark.parametrize("model,calibration,evaluation", BUNDLED)
def test_shapes_follow_the_inputs(model: Path, calibration: Path, evaluation: Path, tmp_path: Path) -> None:
    cpu, gpu = both(model, "fp32", tmp_path)
    for samples in (2, 1, 3):
        assert difference(cpu, gpu, feed_of(cpu, evaluation, samples)) <= 1e-6


@pytest.mark.parametrize("recipe", ["fp32", "fp32:kv_cache=i8"])
def test_a_decoder_says_the_same(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Llama of two layers with int4 weights and a cache: 32 steps, each side with its own cache."""
    monkeypatch.syspath_prepend(str(ROOT / "test" / "Integration" / "genai" / "Inputs"))
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    from genai import Decoder

    model = tmp_path / "llama.onnx"
    onnx.save(Decoder("llama", seed=1).model(), model)
    bundles = both(model, recipe, tmp_path)
    past = [{value.name: np.zeros([1 if symbol == "batch_size" else max(dim, 0) for dim, symbol in zip(value.dims, value.symbols)],
                                  numpy_dtype(value.dtype)) for value in bundles[0].inputs if value.name.startswith("past")}] * 2
    tokens = np.array([[1, 5, 9]])
    for step in range(32):
        said = []
        for side, bundle in enumerate(bundles):
            mask = np.ones((1, tokens.shape[1] + past[side]["past_key_values.0.key"].shape[2]), np.int64)
            out = bundle.run({"input_ids": tokens.astype(np.int64), "attention_mask": mask, **past[side]})
            said.append(int(out.pop("logits")[0, -1].argmax()))
            past[side] = {name.replace("present", "past_key_values"): value for name, value in out.items()}
        assert said[0] == said[1], f"step {step}"
        tokens = np.array([said[:1]])


def test_devices(tmp_path: Path) -> None:
    compile_bundle(str(DIGITS), str(tmp_path / "cpu"))
    compile_bundle(str(DIGITS), str(tmp_path / "cuda"), target="cuda", arch="sm_80")
    with pytest.raises(InvalidInput, match="target 'cpu' and cannot run on device 'emulator'"):
        Bundle(tmp_path / "cpu", device="emulator")
    with pytest.raises(InvalidInput, match="target 'cuda' and cannot run on device 'cpu'"):
        Bundle(tmp_path / "cuda", device="cpu")
    with pytest.raises(InvalidInput, match="unknown device 'gpu'"):
        Bundle(tmp_path / "cuda", device="gpu")


def test_without_a_driver(tmp_path: Path, lowbit) -> None:
    """One clear line and exit 6; looking at the bundle needs no GPU."""
    compile_bundle(str(DIGITS), str(tmp_path / "cuda"), target="cuda", arch="sm_80")
    done = lowbit("run", tmp_path / "cuda", "--inputs", data_of("digits", "eval"), "-o", tmp_path / "out.npz", "--device", "cuda:0",
                  env={"LOWBIT_CUDA_DRIVER": "libno-driver.so"})
    assert done.returncode == 6 and done.stderr.count("\n") == 1 and "--device emulator" in done.stderr
    assert not (tmp_path / "out.npz").exists()
    seen = lowbit("inspect", tmp_path / "cuda", "--json")
    data = json.loads(seen.stdout)
    assert seen.returncode == 0 and data["target"] == "cuda" and data["device"]["kernels"] and data["total_bytes"] > 0
    assert "bundle for cuda" in lowbit("inspect", tmp_path / "cuda").stdout


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        compile_bundle(str(DIGITS), str(tmp_path / name), recipe="int4", target="cuda")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_damaged_device_code(tmp_path: Path) -> None:
    compile_bundle(str(DIGITS), str(tmp_path / "cuda"), target="cuda", arch="sm_80")
    file = tmp_path / "cuda" / "emulator.so"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match="emulator.so"):
        Bundle(tmp_path / "cuda", device="emulator")
