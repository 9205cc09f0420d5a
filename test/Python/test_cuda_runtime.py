# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Bundles on a GPU, with the fake driver in the place of libcuda.so.1: it runs kernels in the emulator, does nothing before
somebody waits for it, and counts what the runtime does wrong. Each test is a process of its own: the driver is loaded once."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, ROOT, SHARED, needs_shared, require_compiler

require_compiler()
from lowbit import _native, calibrate  # noqa: E402
from lowbit.compiler import compile_bundle  # noqa: E402
from lowbit.errors import Unavailable  # noqa: E402

try:
    DRIVER = _native._find("lowbit-fake-cuda.so")
except Unavailable:
    pytest.skip("the fake driver is not built", allow_module_level=True)

PRELUDE = """
import ctypes, gc, os, sys, threading
import numpy as np
import lowbit
import lowbit.device
from lowbit import Bundle
fake = ctypes.CDLL(os.environ["FAKE_DRIVER"])
fake.lowbit_fake_cuda_get.restype = ctypes.c_int64
count = lambda what: fake.lowbit_fake_cuda_get(what.encode())
setting = lambda what, value: fake.lowbit_fake_cuda_set(what.encode(), ctypes.c_int64(value))
def feed(bundle, seed, size):
    random, arrays = np.random.default_rng(seed), {}
    for value in bundle.inputs:
        shape = [size if n < 0 else n for n in value.dims]
        if value.dtype.startswith("f"):
            arrays[value.name] = random.standard_normal(shape).astype("float32")
        else:
            arrays[value.name] = random.integers(0, 200, shape).astype("int64")
    return arrays
def same(a, b):
    return a.keys() == b.keys() and all(np.asarray(a[k]).tobytes() == np.asarray(b[k]).tobytes() for k in a)
"""


def compiled(model: Path, folder: Path, *, recipe: str | None = None, data: Path | None = None, target: str = "cuda") -> Path:
    options = {"recipe": recipe} if recipe else {}
    if data:
        calibrate(str(model), str(data), str(folder) + ".cal", recipe=recipe)
        options["calibration"] = str(folder) + ".cal"
    try:
        compile_bundle(str(model), str(folder), target=target, **options)
    except Unavailable as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {"digits": compiled(MODELS / "digits_cnn.onnx", folder / "digits", recipe="int8", data=MODELS / "digits_calib.npz"),
            "llama": compiled(MODELS / "tiny_llama.onnx", folder / "llama", recipe="int4:group=32"),
            "cache": compiled(cache_model(folder / "cache.onnx"), folder / "cache"),
            "ranges": compiled(range_model(folder / "ranges.onnx"), folder / "ranges"),
            "nonzero": compiled(nonzero_model(folder / "nonzero.onnx"), folder / "nonzero", recipe="int4:group=32")}


def save(path: Path, nodes: list, inputs: list, outputs: list, initializers: list = []) -> Path:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def port(name: str, shape: list, dtype: str = "float32"):
    import onnx
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def node(op: str, inputs: list[str], outputs: list[str], **attributes):
    import onnx
    return onnx.helper.make_node(op, inputs, outputs, **attributes)


def cache_model(path: Path) -> Path:
    """present = past with x behind it; y is its sum over time: a decoder's cache."""
    return save(path, [node("Concat", ["past", "x"], ["present"], axis=1), node("ReduceMax", ["present"], ["y"], axes=[1], keepdims=0)],
                [port("past", [1, "past", 8]), port("x", [1, 1, 8])], [port("y", [1, 8]), port("present", [1, "total", 8])])


def range_model(path: Path) -> Path:
    """How much of x comes back depends on the value of another input, which the host reads."""
    import onnx
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "zero")
    return save(path, [node("Slice", ["x", "zero", "n", "zero"], ["part"]), node("Relu", ["part"], ["y"])],
                [port("x", [16, 4]), port("n", [1], "int64")], [port("y", ["m", 4])], [zero])


def nonzero_model(path: Path) -> Path:
    """The shape of the result depends on what the GPU computes."""
    import onnx
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).standard_normal((32, 16)).astype(np.float32), "w")
    return save(path, [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["r"]), node("NonZero", ["r"], ["y"])], [port("x", [4, 32])],
                [port("y", [2, "n"], "int64")], [weight])


def fake(script: str, bundles: dict[str, Path], **environment: str) -> subprocess.CompletedProcess:
    folders = [str(path) for path in bundles.values()]
    names = "".join(f"{name} = {str(path)!r}\n" for name, path in bundles.items())
    path = os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run([sys.executable, "-c", PRELUDE + names + textwrap.dedent(script)], capture_output=True, text=True, timeout=500,
                          env={**os.environ, "PYTHONPATH": path, "LOWBIT_CUDA_DRIVER": str(DRIVER), "FAKE_DRIVER": str(DRIVER),
                               "LOWBIT_FAKE_CUDA_BUNDLES": ":".join(folders), **environment})


def passes(script: str, bundles: dict[str, Path], **environment: str) -> str:
    done = fake(script, bundles, **environment)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def fails(script: str, bundles: dict[str, Path], **environment: str) -> str:
    """The message of the error that ends the script."""
    done = fake(script, bundles, **environment)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("mode", ["graph", "plan", "eager"])
def test_same_bytes_as_emulator(mode: str, bundles: dict[str, Path]) -> None:
    passes(f"""
    for path in (digits, llama, cache, ranges, nonzero):
        emulator = Bundle(path, device="emulator")
        os.environ["LOWBIT_LAUNCH"] = {mode!r}
        gpu = Bundle(path, device="cuda:0")
        del os.environ["LOWBIT_LAUNCH"]
        for seed, size in ((1, 2), (2, 2), (3, 3), (4, 2)):
            arrays = feed(emulator, seed, size)
            if "n" in arrays:
                arrays["n"] = arrays["n"] % 16
            assert same(emulator.run(arrays), gpu.run(arrays)), (path, seed)
        gpu.close(); emulator.close()
    assert count("errors") == 0 and count("live") == 0, (count("errors"), count("live"))
    assert bool(count("graphs")) == ({mode!r} == "graph")
    """, bundles)


def test_plan_in_the_emulator(bundles: dict[str, Path]) -> None:
    """Arena addresses, other data in the second replay, two shapes in turn."""
    passes("""
    for path in (digits, llama, cache, ranges):
        eager = Bundle(path, device="emulator")
        os.environ["LOWBIT_LAUNCH"] = "plan"
        planned = Bundle(path, device="emulator")
        del os.environ["LOWBIT_LAUNCH"]
        for seed, size in ((1, 2), (2, 2), (3, 4), (4, 2), (5, 4)):
            arrays = feed(eager, seed, size)
            if "n" in arrays:
                arrays["n"] = arrays["n"] % 16
            assert same(eager.run(arrays), planned.run(arrays)), (path, seed)
        assert eager.plan is None and planned.plan["arena_bytes"] <= planned.plan["buffer_bytes"] + 256 * planned.plan["steps"]
    """, bundles)


@needs_shared
@pytest.mark.parametrize("model, recipe, data, samples", [("resnet20_cifar10", "int8", "cifar10", 1), ("stories260K", "int4:group=32", None, 1)])
def test_shared_models(model: str, recipe: str, data: str | None, samples: int, tmp_path: Path) -> None:
    calib = SHARED / "data" / f"{data}_calib.npz" if data else None
    path = compiled(SHARED / "models" / f"{model}.onnx", tmp_path / "model", recipe=recipe, data=calib)
    passes("""
    emulator, gpu = Bundle(model, device="emulator"), Bundle(model, device="cuda:0")
    for seed, size in ((1, 1), (2, 1), (3, 2), (4, 1)):
        arrays = feed(emulator, seed, size)
        assert same(emulator.run(arrays), gpu.run(arrays)), seed
    assert gpu.plan["arena_bytes"] * 2 < gpu.plan["buffer_bytes"], gpu.plan
    assert count("errors") == 0
    """, {"model": path})


def test_run_allocates_nothing(bundles: dict[str, Path]) -> None:
    passes("""
    gpu = Bundle(llama, device="cuda:0")
    for size in (3, 2):
        gpu.run(feed(gpu, 0, size))
    before, graphs = count("allocations"), count("graphs")
    for seed in range(6):
        gpu.run(feed(gpu, seed, 2 + seed % 2))
    assert count("allocations") == before and count("graphs") <= graphs + 1
    """, bundles)


def test_cache_stays_on_the_device(bundles: dict[str, Path]) -> None:
    passes("""
    cpu, gpu = Bundle(cache, device="emulator"), Bundle(cache, device="cuda:0")
    past = on_gpu = np.zeros((1, 1, 8), np.float32)
    random = np.random.default_rng(0)
    for step in range(5):
        x = random.standard_normal((1, 1, 8)).astype("float32")
        expected = cpu.run({"past": past, "x": x})
        before = count("bytes_to_device"), count("bytes_to_host")
        got = gpu.run({"past": on_gpu, "x": x}, on_device=["present"])
        if step:
            assert (count("bytes_to_device") - before[0], count("bytes_to_host") - before[1]) == (32, 32)
        past, on_gpu = expected["present"], got["present"]
        assert same(expected, got) and isinstance(on_gpu, lowbit.device.DeviceTensor)
    gpu.close()
    assert np.array_equal(on_gpu.numpy(), past)
    del on_gpu, got; gc.collect()
    assert count("errors") == 0 and count("live") == 0
    """, bundles)


def test_dlpack(bundles: dict[str, Path]) -> None:
    passes("""
    gpu = Bundle(cache, device="cuda:0")
    arrays = feed(gpu, 0, 3)
    held = gpu.run(arrays, on_device=True)
    asked = []
    class Foreign:  # another library's tensor
        def __init__(self, tensor): self.tensor = tensor
        def __dlpack_device__(self): return self.tensor.__dlpack_device__()
        def __dlpack__(self, stream=None): asked.append(stream); return self.tensor.__dlpack__()
    assert held["present"].__dlpack_device__() == (2, 0)
    given = {"past": Foreign(held["present"]), "x": arrays["x"]}
    got = gpu.run(given)
    assert asked == [1] and same(got, gpu.run({"past": held["present"].numpy(), "x": arrays["x"]}))
    try:
        np.from_dlpack(held["present"])
        raise SystemExit("numpy read GPU memory")
    except (BufferError, RuntimeError, TypeError):
        pass
    capsule = held["present"].__dlpack__()
    gpu.close()
    expected = held["present"].numpy()
    del held, given, got; gc.collect()
    assert count("live") > 0  # the capsule has the tensor
    del capsule
    assert count("errors") == 0 and count("live") == 0
    """, bundles)


def test_device_tensors_that_do_not_fit(bundles: dict[str, Path]) -> None:
    passes("""
    gpu, emulator = Bundle(cache, device="cuda:0"), Bundle(cache, device="emulator")
    arrays = feed(gpu, 0, 3)
    y = gpu.run(arrays, on_device=True)["y"]
    def message(run, *arguments, **options):
        try:
            run(*arguments, **options)
        except lowbit.Error as error:
            return str(error)
    assert "is f32 [1, 8], the model wants past" in message(gpu.run, {**arrays, "past": y})
    assert "on a GPU" in message(emulator.run, {**arrays, "past": gpu.run(arrays, on_device=True)["present"]})
    assert "CPU memory" in message(emulator.run, arrays, on_device=True)
    """, bundles)


def test_concurrent_runs(bundles: dict[str, Path]) -> None:
    passes("""
    emulator, gpu = Bundle(digits, device="emulator"), Bundle(digits, device="cuda:0")
    feeds = [feed(gpu, seed, 1 + seed % 3) for seed in range(12)]
    expected, wrong = [emulator.run(arrays) for arrays in feeds], []
    def work(first):
        for i in range(first, 12, 3):
            if not same(gpu.run(feeds[i]), expected[i]):
                wrong.append(i)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    [thread.start() for thread in threads]; [thread.join() for thread in threads]
    assert not wrong and count("errors") == 0, wrong
    """, bundles)


def test_manifest_says_what_the_host_reads(bundles: dict[str, Path]) -> None:
    passes("""
    device = lambda path: Bundle(path, device="emulator").manifest["device"]
    assert [device(p)["synchronizes"] for p in (digits, llama, cache, ranges, nonzero)] == [False] * 4 + [True]
    assert device(ranges)["host_reads"] == ["n"] and device(cache)["host_reads"] == []
    """, bundles)


@pytest.mark.parametrize("options, message", [
    ({"LOWBIT_FAKE_CUDA": "version=11080"}, "the CUDA driver is of version 11.8, needed is 12.0 or newer"),
    ({"LOWBIT_FAKE_CUDA": "devices=0"}, "finds no GPU that it can use: CUDA_ERROR_NO_DEVICE"),
    ({"LOWBIT_FAKE_CUDA": "capability=75"}, "has compute capability 7.5, older than all that the bundle has code for (sm_80"),
    ({"LOWBIT_FAKE_CUDA": "memory=20000"}, "bytes on the GPU for weights: CUDA_ERROR_OUT_OF_MEMORY (out of memory)"),
    ({"LOWBIT_CUDA_DRIVER": "libno-driver.so.1"}, "no CUDA driver: 'libno-driver.so.1' cannot be loaded; --device emulator runs"),
    ({"LOWBIT_CUDA_DRIVER": "libm.so.6"}, "is no CUDA driver"),
    ({"LOWBIT_LAUNCH": "fast"}, "LOWBIT_LAUNCH is 'fast', expected eager, plan or graph"),
])
def test_what_cannot_be_opened(options: dict[str, str], message: str, bundles: dict[str, Path]) -> None:
    assert message in fails("Bundle(digits, device='cuda:0')", bundles, **options)


def test_no_such_gpu(bundles: dict[str, Path]) -> None:
    assert "there is no GPU cuda:3: the driver has 1" in fails("Bundle(digits, device='cuda:3')", bundles)


def test_memory_and_launches_that_fail(bundles: dict[str, Path]) -> None:
    passes("""
    gpu = Bundle(digits, device="cuda:0")
    def message(size):
        try:
            gpu.run(feed(gpu, 0, size))
        except lowbit.Error as error:
            return type(error).__name__ + ": " + str(error)
    assert message(1) is None
    setting("memory", count("live_bytes"))
    assert "bytes on the GPU for a run: CUDA_ERROR_OUT_OF_MEMORY" in message(50)
    setting("memory", 1 << 30)
    assert message(50) is None and message(1) is None
    setting("fail_launch", 3)
    for _ in range(2):  # the context is lost
        assert "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)" in message(1)
    gpu.close()
    assert count("errors") == 0
    """, bundles)


def test_command_without_a_driver(bundles: dict[str, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", image=np.zeros((1, 1, 8, 8), np.float32))
    command = [sys.executable, "-m", "lowbit", "run", bundles["digits"], "--inputs", tmp_path / "in.npz", "-o", tmp_path / "o.npz",
               "--device", "cuda:0"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "python"), "LOWBIT_CUDA_DRIVER": "/nowhere/libcuda.so.1"})
    assert done.returncode == 6 and "--device emulator" in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_package_for_a_gpu(tmp_path: Path, bundles: dict[str, Path]) -> None:
    """package.sh here, run.sh as on the other machine, which has no compiler."""
    scripts, environment = ROOT / "test" / "Benchmark" / "cuda", {**os.environ, "PYTHON": sys.executable}
    packed = subprocess.run([scripts / "package.sh", tmp_path / "out"], capture_output=True, text=True,
                            env={**environment, "LOWBIT_BUILD": str(DRIVER.parents[1])})
    assert packed.returncode == 0, packed.stderr
    environment.pop("LOWBIT_BUILD", None)
    without = subprocess.run([tmp_path / "out" / "run.sh"], capture_output=True, text=True,
                             env={**environment, "LOWBIT_CUDA_DRIVER": "/nowhere/libcuda.so.1"})
    assert without.returncode == 6 and "no CUDA driver" in without.stderr
    folders = ":".join(str(path) for path in (tmp_path / "out" / "cases").glob("*/bundle"))
    done = subprocess.run([tmp_path / "out" / "run.sh"], capture_output=True, text=True,
                          env={**environment, "LOWBIT_CUDA_DRIVER": str(DRIVER), "LOWBIT_FAKE_CUDA_BUNDLES": folders, "REPETITIONS": "1"})
    assert done.returncode == 0 and "4 of 4 agree" in done.stdout, done.stdout + done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["cases"]) == 4 and all(case["agrees"] and case["run_ms"] > 0 for case in results["cases"])
