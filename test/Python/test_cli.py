# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The command through a subprocess: exit codes, where output goes, and that nothing is half written."""
import json
import os
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from conftest import MODELS

DIGITS_DATA = MODELS / "digits_eval.npz"


def digits_eval(digits, *more):
    return "eval", "--reference", digits, "--candidate", digits, "--data", DIGITS_DATA, "--task", "classify", *more


@pytest.mark.parametrize("arguments, expected", [
    ([], "name a command"), (["evl"], "did you mean 'eval'"), (["inspect"], "required: MODEL.onnx"),
    (["bench", "x", "--repaet", "3"], "did you mean '--repeat'"), (["bench", "x", "--repeat", "-3"], "--repeat"),
    (["compile", "m.onnx", "-o", "x", "--target", "cdua"], "did you mean 'cuda'"), (["compile", "m.onnx"], "-o OUT.lowbit"),
    (["compile", "m.onnx", "--emit", "ptxx"], "did you mean 'ptx'"), (["compile", "m.onnx", "-o", "x", "--dim", "n"], "is not NAME=SIZE"),
    (["recipe", "shw"], "did you mean 'show'"), (["inspect", "nothing.onnx"], "no such file"),
    (["eval", "--reference", "a", "--candidate", "b", "--data", "d", "--task", "classify"], "no such file or bundle"),
    (["bench", "ort:nothing.onnx"], "no such file or bundle"),
])
def test_usage_errors(lowbit, arguments, expected):
    done = lowbit(*arguments)
    assert done.returncode == 2 and expected in done.stderr and done.stdout == ""


def test_help_and_version(lowbit):
    assert "Exit codes" in lowbit("--help").stdout and lowbit("--version").stdout.startswith("lowbit ")
    assert "--gate" in lowbit("eval", "--help").stdout


def test_results_on_stdout_and_remarks_on_stderr(lowbit, digits):
    done = lowbit(*digits_eval(digits, "--json", "--gate", "drift.top1_agreement >= 0.99"))
    data = json.loads(done.stdout)
    assert done.returncode == 0 and data["schema"] == "lowbit.eval/2" and data["passed"] is True
    assert "onnxruntime" in done.stderr  # the default runtime is said
    assert lowbit(*digits_eval(digits, "--json", "-q")).stderr == ""


def test_table(lowbit, digits, coarse):
    done = lowbit("eval", "--reference", digits, "--candidate", coarse(digits, 2), "--data", DIGITS_DATA, "--task", "classify")
    assert done.returncode == 0 and "accuracy" in done.stdout and "cliff" in done.stdout


def test_gates_decide_the_exit_code(lowbit, digits):
    failed = lowbit(*digits_eval(digits, "--gate", "task.value >= 0.999"))
    assert failed.returncode == 1 and "gate failed: task.value >= 0.999" in failed.stderr
    missing = lowbit(*digits_eval(digits, "--gate", "drift.kll < 1"))
    assert missing.returncode == 2 and "did you mean 'drift.kl'" in missing.stderr
    assert "accuracy" in missing.stdout  # the figures are not lost with the typing error


def test_bad_files_are_exit_2(lowbit, digits, tmp_path):
    junk, empty, cut = tmp_path / "junk.onnx", tmp_path / "empty.onnx", tmp_path / "cut.onnx"
    junk.write_bytes(os.urandom(2000))
    empty.write_bytes(b"")
    cut.write_bytes(digits.read_bytes()[:20000])
    for model in (junk, empty, cut):
        done = lowbit("eval", "--reference", model, "--candidate", digits, "--data", DIGITS_DATA, "--task", "classify")
        assert done.returncode == 2 and model.name in done.stderr
    bad = tmp_path / "bad.npz"
    bad.write_bytes(DIGITS_DATA.read_bytes()[:9000])
    done = lowbit("eval", "--reference", digits, "--candidate", digits, "--data", bad, "--task", "classify", "-o", tmp_path / "r.json")
    assert done.returncode == 2 and "bad.npz" in done.stderr and not (tmp_path / "r.json").exists()


def test_unknown_operator_is_exit_3(lowbit, digits, tmp_path):
    import onnx

    model = onnx.load(digits)
    model.graph.node[1].op_type = "Frobnicate"
    onnx.save(model, tmp_path / "odd.onnx")
    done = lowbit("eval", "--reference", tmp_path / "odd.onnx", "--candidate", digits, "--data", DIGITS_DATA, "--task", "classify")
    assert done.returncode == 3 and "Frobnicate" in done.stderr


def test_nothing_is_replaced_unless_forced(lowbit, digits, tmp_path):
    target = tmp_path / "r.json"
    target.write_text("mine")
    done = lowbit(*digits_eval(digits, "-o", target))
    assert done.returncode == 2 and "--force" in done.stderr and target.read_text() == "mine"
    assert lowbit(*digits_eval(digits, "-o", target, "--force")).returncode == 0
    assert json.loads(target.read_text())["schema"] == "lowbit.eval/2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json"]


def test_an_uncaught_exception_is_exit_5_with_a_reproducer(lowbit, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\nm = types.ModuleType('lowbit._compiler')\nm.Error = type('Error', (Exception,), {})\n"
        "def inspect(path): raise RuntimeError('the roof\\nfell in')\nm.inspect = inspect\nsys.modules['lowbit._compiler'] = m\n")
    (tmp_path / "m.onnx").write_bytes(b"x")
    from conftest import ROOT

    done = lowbit("inspect", tmp_path / "m.onnx", env={"PYTHONPATH": f"{tmp_path}:{ROOT / 'python'}", "TMPDIR": str(tmp_path)})
    assert done.returncode == 5 and "RuntimeError: the roof fell in" in done.stderr
    report = next(tmp_path.glob("lowbit-crash-*.txt"))
    assert str(report) in done.stderr and "Traceback" in report.read_text() and "inspect" in report.read_text()


def test_missing_runtime_is_exit_6(lowbit, tmp_path):
    if any((MODELS.parents[2] / "build").glob("**/liblowbit-runtime.so")) or list(MODELS.parent.glob("*.so")):
        pytest.skip("the runtime is built")
    done = lowbit("run", tmp_path, "--inputs", DIGITS_DATA, "-o", tmp_path / "o.npz")
    assert done.returncode == 6 and "LOWBIT_BUILD" in done.stderr


def test_bench_says_what_it_fed(lowbit, digits, coarse):
    done = lowbit("bench", f"ort:{digits}", f"ort:{coarse(digits, 8)}", "--repeat", 5, "--threads", 1, "--json")
    data = json.loads(done.stdout)
    assert data["protocol"]["rounds"] == 5 and data["protocol"]["inputs"].startswith("random (seed 0)")
    first, second = data["subjects"]
    assert first["speed"] == 1 and 0 < second["ms"]["p10"] <= second["ms"]["median"] <= second["ms"]["p90"]
    assert first["bytes"] == digits.stat().st_size
    assert first["peak_memory_bytes"] > 1e6
    done = lowbit("bench", f"ort:{digits}", "--inputs", f"{DIGITS_DATA}[5:]", "--batch", 4, "--repeat", 2)
    assert "sample 5 … 8" in done.stdout and "[4, 1, 8, 8]" in done.stdout
    assert lowbit("bench", f"ort:{digits}", "--dim", "M=3").returncode == 2


class Page(HTMLParser):
    """Checks that tags are balanced and collects what a page must not have."""

    VOID = {"meta", "br", "line", "polyline", "circle", "rect", "img", "link", "input", "hr"}

    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.text, self.links = [], [], "", []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text += data


def test_html_and_junit(lowbit, digits, coarse, tmp_path):
    hostile = tmp_path / "<b>&'x.onnx"
    coarse(digits, 2).rename(hostile)
    done = lowbit("eval", "--reference", digits, "--candidate", hostile, "--candidate", coarse(digits, 8), "--data", DIGITS_DATA, "--task", "classify",
                  "--gate", "drift.top1_agreement > 0.9", "--html", tmp_path / "r.html", "--junit", tmp_path / "r.xml", "-q")
    assert done.returncode == 1
    text = (tmp_path / "r.html").read_text()
    page = Page()
    page.feed(text)
    assert page.stack == [] and page.links == [] and "://" not in text and not any(tag == "script" for tag, _ in page.tags)
    assert "prefers-color-scheme:dark" in text and hostile.name in page.text and "<b>&'x" not in text
    assert page.text.index("cliff") < page.text.index("Figures")  # verdicts come first
    for tag, attributes in page.tags:
        if tag == "polyline":
            points = np.array([p.split(",") for p in attributes["points"].split()], float)
            assert len(points) > 10 and np.isfinite(points).all() and points.min() >= 0 and points[:, 0].max() <= 840 and points[:, 1].max() <= 360
            assert (np.diff(points[:, 0]) >= 0).all() or (np.diff(points[:, 0]) <= 0).all()
    root = ElementTree.fromstring((tmp_path / "r.xml").read_text())
    suites = {suite.get("name"): suite for suite in root}
    assert suites[hostile.name].get("failures") == "2" and suites["digits_cnn_8.onnx"].get("failures") == "0"
