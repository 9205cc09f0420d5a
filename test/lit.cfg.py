"""lit configuration: substitutions, and features for what a machine may lack."""
import os
import shutil
import subprocess

import lit.formats

config.name = "lowbit"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test", ".td"]
config.excludes = ["Inputs", "lit.cfg.py"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.lowbit_build, "test")

config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.lowbit_build, "bin"), config.llvm_tools, os.environ["PATH"]])
config.environment["LOWBIT_BUILD"] = config.lowbit_build
config.environment["PYTHONPATH"] = os.path.join(config.lowbit_source, "python")
for name in ("CUDA_HOME", "LOWBIT_PTXAS", "HOME"):
    if name in os.environ:
        config.environment[name] = os.environ[name]

config.substitutions += [
    ("%python", config.python),
    ("%cc", config.cc),
    ("%build", config.lowbit_build),
    ("%source", config.lowbit_source),
    ("%plugin", os.path.join(config.lowbit_build, "lib", "LowbitPlugin.so")),
    ("%mlir_opt", os.path.join(config.llvm_tools, "mlir-opt")),
    # From linalg on tensors to what %run executes: upstream passes only.
    ("%to_llvm", "canonicalize,one-shot-bufferize{bufferize-function-boundaries "
                 "function-boundary-type-conversion=identity-layout-map},convert-linalg-to-loops,"
                 "expand-strided-metadata,lower-affine,convert-scf-to-cf,convert-math-to-llvm,convert-arith-to-llvm,"
                 "finalize-memref-to-llvm,convert-func-to-llvm,convert-cf-to-llvm,convert-ub-to-llvm,"
                 "reconcile-unrealized-casts"),
    ("%run_main", "mlir-runner -e main -entry-point-result=void -shared-libs=%runner_libs"),
    ("%runner_libs", ",".join(os.path.join(config.llvm_tools, "..", "lib", f"libmlir_{n}.so")
                              for n in ("runner_utils", "c_runner_utils"))),
]

if os.path.isdir(os.path.join(config.lowbit_source, "..", "shared", "models")):
    config.available_features.add("shared-models")
    config.substitutions.append(("%shared", os.path.join(config.lowbit_source, "..", "shared")))
exporters = "import importlib.util as u; print(all(map(u.find_spec, ['torch', 'torchvision', 'transformers', 'onnxscript'])))"
if subprocess.run([config.python, "-c", exporters], capture_output=True, text=True, check=False).stdout.strip() == "True":
    config.available_features.add("torch")
with open("/proc/cpuinfo") as cpuinfo:
    flags = cpuinfo.read()
    if "avx512_vnni" in flags:
        config.available_features.add("avx512vnni")


def ptxas():
    """Where ptxas is: the same places as the compiler looks in."""
    places = [os.environ.get("LOWBIT_PTXAS", ""), os.path.join(os.environ.get("CUDA_HOME", "/nonexistent"), "bin", "ptxas"),
              shutil.which("ptxas") or ""]
    lib = os.path.join(os.path.dirname(config.python), "..", "lib")
    for root, _, files in os.walk(os.path.join(lib)):
        if "ptxas" in files and root.endswith("bin"):
            places.append(os.path.join(root, "ptxas"))
            break
    return next((p for p in places if p and os.access(p, os.X_OK)), None)


if ptxas():
    config.available_features.add("ptxas")
    config.environment["LOWBIT_PTXAS"] = ptxas()
