# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The page of a report in a real browser: errors, size, speed, widths, sorting, filtering, keyboard, paper, hostile names."""
from __future__ import annotations

import json
import re
import struct
import zlib

import numpy as np
import pytest

import lowbit
from conftest import MODELS, require_compiler
from lowbit import InvalidInput
from lowbit.eval.html import page
from lowbit.eval.html.markup import Html, tag, text
from lowbit.eval.pictures import png, thumbnail
from lowbit.eval.report import Report

import browser as browsers

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("matplotlib", reason="needs matplotlib")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>&\"'$x_1$"
RECIPES = ("int8", "int8-dynamic", "int8-weights", "int4:group=32", "int4:per=tensor")


@pytest.fixture(scope="module")
def browser():
    program = browsers.find()
    if program is None:
        pytest.skip("no Chromium: install Debian's chromium-headless-shell, or set LOWBIT_CHROMIUM")
    found = browsers.Browser(program)
    yield found
    found.close()


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A report of twelve layers and five bundles, with everything a report can have."""
    require_compiler()
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("deep")
    rng, width = np.random.default_rng(0), 64
    nodes, tensors, x = [], [], "image"
    nodes.append(helper.make_node("Flatten", ["image"], ["flat"], axis=1))
    x = "flat"
    for i in range(11):
        tensors.append(numpy_helper.from_array((rng.normal(size=(width, width)) / width**0.5 * 0.3).astype(np.float32), f"w{i}"))
        nodes += [helper.make_node("MatMul", [x, f"w{i}"], [f"h{i}"], name=f"block{i}/proj"), helper.make_node("Relu", [f"h{i}"], [f"r{i}"]),
                  helper.make_node("Add", [x, f"r{i}"], [f"x{i}"])]
        x = f"x{i}"
    tensors.append(numpy_helper.from_array(rng.normal(size=(width, 10)).astype(np.float32), "head"))
    nodes.append(helper.make_node("MatMul", [x, "head"], ["logits"], name="head"))
    graph = helper.make_graph(nodes, "deep", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])], tensors)
    model = folder / "deep.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), model)
    import onnxruntime

    images = np.load(MODELS / "digits_eval.npz")["image"].reshape(-1, 1, 8, 8)
    images -= images.mean(0)  # so that no class is the commonest by far
    label = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0].argmax(1)
    label[::7] = (label[::7] + 1) % 10  # that the reference is not always right
    bundles = [lowbit.compile(model, recipe=recipe, calibration_data={"image": images[:64]}, output=folder / f"{recipe.replace(':', '-')}.lowbit") for recipe in RECIPES]
    report = lowbit.evaluate(model, bundles, {"image": images, "label": label, "slice:ink": np.where(images.mean((1, 2, 3)) > images.mean(), "much", "little")},
                             task="classify", gates=["drift.top1_agreement >= 0.9"])
    names = [layer["name"] for layer in report.layers[4]]
    report.data["candidates"][4].update(
        sensitivity={"measure": "kl", "output": "logits", "samples": 64, "whole": 0.2, "layers": [
            {"layer": name, "op": "MatMul", "weights": "u4", "activations": "float", "bytes": 1, "alone": 0.01 * i, "alone_share": i / 66, "restored": 0.1, "restore_gain": 0.1}
            for i, name in enumerate(names)]},
        error_budget={"unit": "dB", "output": "logits", "samples": 64, "order": "", "layers": [
            {"layer": names[0], "weight_rounding_db": -20.0, "activation_clipping_db": -np.inf, "activation_rounding_db": -np.inf, "kernel_db": -90.0, "together_db": -20.0,
             "largest": "weight_rounding"}]})
    from lowbit.eval.speed import add_speed

    timed = [{"name": name, "ms": {"median": 1.0 + i, "p10": 0.9, "p90": 1.2, "min": 0.8}} for i, name in enumerate(c["name"] for c in report.data["candidates"])]
    add_speed(report.data, {"subjects": timed, "protocol": {"inputs": "random", "shapes": {}, "rounds": 20, "threads": 1}})
    return report


@pytest.fixture(scope="module")
def written(deep, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    deep.to_html(path)
    return path


def test_small_quick_and_silent(written, browser):
    """Twelve layers, five candidates: under 3 MB, shown in under two seconds, nothing on the console, nothing asked of a network."""
    assert written.stat().st_size < 3e6
    browser.console.clear()
    browser.requests.clear()
    assert browser.open(written) < 2
    assert browser.console == []
    assert all(address.startswith(("file:", "data:image/png;")) for address in browser.requests)
    assert browser.value("document.querySelectorAll('#layers-table tbody tr').length") == 60
    assert browser.value("document.querySelectorAll('.chart svg').length") == 4 and browser.value("document.querySelectorAll('.worst img').length") == 50
    assert browser.value("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length")
    order = browser.value("[...document.querySelectorAll('h2')].map(e => e.textContent)")
    assert order == ["Verdicts", "Figures", "Size, speed and quality", "The tail", "Answers that changed", "Slices", "Layers", "Worst cases", "Protocol"]


@pytest.mark.parametrize("width", [400, 700, 1200])
def test_no_sideways_scrolling_of_the_page(written, browser, width):
    browser.open(written, width)
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.value("document.documentElement.scrollWidth") <= width
    shown = browser.value("[...document.querySelectorAll('.chart svg')].filter(e => getComputedStyle(e).display !== 'none').map(e => e.className.baseVal)")
    assert set(shown) == {"narrow" if width == 400 else "wide"}


def luminance(colour: str) -> float:
    r, g, b = (int(v) / 255 for v in re.findall(r"\d+", colour)[:3])
    return 0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2


def contrast(browser, selector: str) -> float:
    """WCAG's contrast of an element's text with the page."""
    a, b = (luminance(browser.value(f"getComputedStyle(document.querySelector({json.dumps(s)})).{what}")) for s, what in ((selector, "color"), ("body", "backgroundColor")))
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(written, browser, scheme):
    browser.open(written, scheme=scheme)
    browser.value("localStorage.clear()")
    browser.open(written, scheme=scheme)
    background = luminance(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert background > 0.9 if scheme == "light" else background < 0.1
    for selector in ("p", ".soft", "caption", "a", ".card b", "td.v", "summary", "dt"):
        assert contrast(browser, selector) >= 4.5, selector
    axis = browser.value("getComputedStyle(document.querySelector('.chart .wide text')).fill")
    assert abs(luminance(axis) - background) > 0.15  # charts follow
    browser.value("document.getElementById('theme').click()")  # auto → light
    browser.value("document.getElementById('theme').click()")  # → dark
    assert luminance(browser.value("getComputedStyle(document.body).backgroundColor")) < 0.1
    browser.value("localStorage.clear()")


def test_sorting_and_filtering_by_keyboard(written, browser):
    browser.open(written)
    column = browser.value("[...document.querySelectorAll('#layers-table thead th')].findIndex(h => h.textContent === 'weight error')")
    browser.value(f"document.querySelectorAll('#layers-table thead button')[{column}].focus()")
    errors = f"[...document.querySelectorAll('#layers-table tbody tr')].filter(r => !r.hidden).map(r => parseFloat(r.cells[{column}].dataset.v))"
    state = f"document.querySelectorAll('#layers-table thead th')[{column}].getAttribute('aria-sort')"
    browser.press("Enter", 13)
    values = np.array(browser.value(errors), float)
    assert browser.value(state) == "descending" and len(values) == 60 and (np.diff(values[~np.isnan(values)]) <= 0).all()
    browser.press("Enter", 13)
    values = np.array(browser.value(errors), float)
    assert browser.value(state) == "ascending" and (np.diff(values[~np.isnan(values)]) >= 0).all()
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # one sees where one is
    browser.value("(() => { const i = document.querySelector('.filter input'); i.value = 'block3 int8'; i.dispatchEvent(new Event('input', {bubbles: true})); })()")
    rows = browser.value("[...document.querySelectorAll('#layers-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[1].textContent)")
    assert sorted(rows) == ["int8-dynamic.lowbit", "int8-weights.lowbit", "int8.lowbit"]
    assert browser.value("document.querySelector('.filter output').textContent") == "3 of 60 rows"
    browser.value("(() => { const s = document.querySelector('.filter select'); s.value = 'int8.lowbit'; s.dispatchEvent(new Event('input', {bubbles: true})); })()")
    assert browser.value("document.querySelector('.filter output').textContent") == "1 of 60 rows"
    browser.value("document.activeElement.blur()")
    browser.open(written)
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.className") == "skip"
    assert browser.value("[...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent && t.querySelector('th[scope=col]'))")
    assert browser.value("[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && e.getAttribute('aria-label'))")


def test_on_paper(written, browser):
    """Everything unfolded, in light colours, no controls."""
    browser.open(written, scheme="dark")
    browser.value("dispatchEvent(new Event('beforeprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") == 0
    browser.value("dispatchEvent(new Event('afterprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") > 0
    browser.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert luminance(browser.value("getComputedStyle(document.body).backgroundColor")) > 0.9
    assert browser.value("getComputedStyle(document.querySelector('.filter')).display") == "none"
    browser.call("Emulation.setEmulatedMedia", media="")
    content = browser.pdf()
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", content)) >= 3


def test_hostile_names_stay_text(deep, browser, tmp_path):
    data = json.loads(json.dumps(deep.data, default=lambda v: v.item() if hasattr(v, "item") else str(v)))
    data["reference"]["name"] = data["protocol"]["data"] = HOSTILE
    data["guards"]["warnings"].append(HOSTILE)
    for candidate in data["candidates"]:
        candidate["name"] += HOSTILE
        candidate["verdict"]["where"] = HOSTILE
        candidate["slices"] = {HOSTILE: part for part in candidate["slices"].values()}
    layers = [[{**layer, "name": HOSTILE, "op": HOSTILE, "kernel": HOSTILE} for layer in own] for own in deep.layers]
    path = tmp_path / "hostile.html"
    path.write_text(page(Report(data, deep.distributions, deep.figures, layers)))
    browser.console.clear()
    browser.open(path)
    assert browser.console == [] and browser.value("document.scripts.length") == 1 and browser.value("document.querySelectorAll('[onerror]').length") == 0
    assert browser.value("document.querySelector('.card strong').textContent").endswith(HOSTILE)
    assert browser.value("document.querySelector('#layers-table tbody th').textContent") == HOSTILE
    assert browser.value("document.title").endswith(HOSTILE)


def test_a_language_model_with_words(tmp_path, browser, llama, coarse):
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
    from tokenizers import decoders

    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({chr(i) if 32 < i < 127 else f"<{i:02x}>": i for i in range(256)}, unk_token="<00>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokens = np.load(MODELS / "tiny_llama_eval.npz")["tokens"][:4]
    report = lowbit.evaluate(llama, [coarse(llama, 4)], {"tokens": tokens}, task="lm", tokenizer=tmp_path / "tokenizer.json")
    entry = report.data["candidates"][0]["worst"][0]
    expected = "".join(chr(t) if 32 < t < 127 else f"<{t:02x}>" for t in entry["context"])
    assert entry["words"]["context"] == expected and entry["words"]["label"] == (chr(entry["label"]) if 32 < entry["label"] < 127 else f"<{entry['label']:02x}>")
    report.to_html(tmp_path / "r.html")
    browser.console.clear()
    browser.open(tmp_path / "r.html", 400)
    assert browser.console == [] and browser.value("document.documentElement.scrollWidth") <= 400
    assert browser.value("document.querySelector('td.read').textContent").startswith(f"… {expected}")
    with pytest.raises(InvalidInput, match="no such tokenizer.json"):
        lowbit.evaluate(llama, [llama], {"tokens": tokens}, task="lm", tokenizer=tmp_path / "none.json")


def test_the_same_report_gives_the_same_page(deep):
    assert page(deep) == page(deep)
    two = page(deep, deep)
    ids = re.findall(r'\bid="([^"]+)"', two)
    assert len(ids) == len(set(ids)) and "://" not in two.replace("http-equiv", "")


def test_markup_escapes_whatever_is_not_markup():
    assert tag("p", HOSTILE, Html("<b>x</b>"), title=HOSTILE, hidden=True, class_=None) == (
        '<p title="&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;&amp;&quot;&#x27;$x_1$" hidden>'
        "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;&amp;\"'$x_1$<b>x</b></p>")
    assert text(["<", None, 3, Html("<i>")]) == "&lt;3<i>"


def test_pictures_of_inputs():
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(2, 3, 40, 300)).astype(np.float32)
    small = thumbnail({"x": planes}, 1, 2)
    assert small.shape == (10, 75, 3) and small.min() == 0 and small.max() == 255
    assert np.array_equal(thumbnail({"x": np.full((1, 9, 9, 1), 0.5, np.float32)}, 0, 1), np.full((9, 9, 1), 128))
    assert thumbnail({"x": np.zeros((1, 4, 9, 9), np.float32)}, 0, 1) is None and thumbnail({"x": np.zeros((1, 9), np.float32)}, 0, 1) is None
    file = png(small)
    assert file.startswith(b"\x89PNG") and struct.unpack(">II", file[16:24]) == (75, 10)
    at = file.index(b"IDAT")
    rows = np.frombuffer(zlib.decompress(file[at + 4 : at + 4 + struct.unpack(">I", file[at - 4 : at])[0]]), np.uint8).reshape(10, 226)
    assert np.array_equal(rows[:, 1:].reshape(10, 75, 3), small)


def test_times_from_bench(lowbit, digits, tmp_path):
    done = lowbit("bench", f"ort:{digits}", "--repeat", "3", "-o", tmp_path / "b.json", "-q")
    assert done.returncode == 0, done.stderr
    options = ("eval", "--reference", digits, "--candidate", digits, "--data", MODELS / "digits_eval.npz", "--task", "classify", "--json", "-q")
    found = json.loads(lowbit(*options, "--bench", tmp_path / "b.json").stdout)
    assert found["candidates"][0]["speed"]["median_ms"] > 0 and found["protocol"]["speed"]["rounds"] == 3
    (tmp_path / "c.json").write_text("{}")
    assert "not a result of lowbit bench" in lowbit(*options, "--bench", tmp_path / "c.json").stderr
