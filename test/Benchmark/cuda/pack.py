"""pack.py CASES [SHARED]: a folder for each case, with a CUDA bundle, inputs, and the outputs of the CPU's bundle of the same recipe.
"""
import json
import sys
from pathlib import Path

import numpy as np

from lowbit import Bundle, calibrate
from lowbit.compiler import compile_bundle

out, shared = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] else None
models = Path(__file__).resolve().parents[3] / "python" / "lowbit" / "models"
#: name: model, recipes, calibration data, evaluation data.
CASES = {"digits": (models / "digits_cnn.onnx", ["int8"], models / "digits_calib.npz", models / "digits_eval.npz"),
         "tiny_llama": (models / "tiny_llama.onnx", ["int4:group=32"], None, models / "tiny_llama_eval.npz")}
if shared:
    data = shared / "data"
    for name, key in (("resnet20_cifar10", "cifar10"), ("resnet8_cifar10", "cifar10raw"), ("kws_dscnn", "kws"), ("mnist", "mnist")):
        CASES[name] = (shared / "models" / f"{name}.onnx", ["int8"], data / f"{key}_calib.npz", data / f"{key}_eval.npz")
    CASES["stories260K"] = (shared / "models" / "stories260K.onnx", ["int4:group=32"], None, data / "stories_eval.npz")


def pack(name: str, model: Path, recipe: str, calib: Path | None, evaluation: Path) -> None:
    case = out / f"{name}-{recipe.split(':')[0]}"
    case.mkdir(parents=True)
    work, options = case / "cpu", {"recipe": recipe}
    if calib:
        calibrate(str(model), str(calib), str(case / "calibration"), recipe=recipe)
        options["calibration"] = str(case / "calibration")
    compile_bundle(str(model), str(case / "bundle"), target="cuda", **options)
    compile_bundle(str(model), str(work), target="cpu", **options)
    arrays = np.load(evaluation)
    with Bundle(work, threads=1) as cpu:
        value = cpu.inputs[0]
        samples = arrays[value.name] if value.name in arrays.files else arrays[next(n for n in arrays.files if n != "label")]
        for batch, file in ((1, "one"), (4, "four")):
            feed = samples[:batch].astype(np.int64)[:1, : 8 * batch] if value.dtype == "i64" else samples[:batch]
            if not value.fits(feed.shape):
                continue
            feeds = {value.name: np.ascontiguousarray(feed)}
            np.savez(case / f"{file}.inputs.npz", **feeds)
            np.savez(case / f"{file}.outputs.npz", **cpu.run(feeds))
    (case / "case.json").write_text(json.dumps({"tolerance": 1e-2 if recipe == "int8" else 1e-3}))
    for path in (case / "calibration",):
        path.unlink(missing_ok=True)
    for path in sorted(work.rglob("*"), reverse=True):
        path.unlink()
    work.rmdir()
    print(f"packed {case.name}", flush=True)


for name, (model, recipes, calib, evaluation) in CASES.items():
    for recipe in recipes:
        pack(name, model, recipe, calib, evaluation)
