# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Command-line syntax. Usage errors are one line and suggest what is nearest."""
from __future__ import annotations

import argparse
import difflib
import re
from typing import NoReturn

DEVICE_FORMS = ("ptx", "cubin")
FORMS = ("onnx", "float", "qdq", "quantized", "scheduled", "llvm", "asm", *DEVICE_FORMS)


class UsageError(Exception):
    """The command line is wrong."""


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        choice = re.match(r"argument (.+): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice:
            argument, given, known = choice.groups()
            known = [k.strip(" '") for k in known.split(",")]
            near = difflib.get_close_matches(given, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there is {', '.join(known)}"
            message = f"{'no command' if argument == 'COMMAND' else argument + ' cannot be'} '{given}' ({hint})"
        raise UsageError(message)

    def parse_known_args(self, args=None, namespace=None):  # noqa: ANN001, ANN201
        namespace, extra = super().parse_known_args(args, namespace)
        if extra and namespace is not None:
            namespace._own_options = list(self._option_string_actions)
        return namespace, extra


def _size(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"([^=]+)=(\d+)", text)
    if not match or int(match.group(2)) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=SIZE")
    return match.group(1), int(match.group(2))


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number ≥ 0")
    return int(text)


class Parser:
    """Builds the parser; `parse` returns a namespace with `verb`, or raises UsageError."""

    VERBS = ("inspect", "recipe", "calibrate", "compile", "run", "bench", "eval", "restore", "export")

    def __init__(self) -> None:
        self._top = _Parser(prog="lowbit", description="Compile ONNX models to low-bit code, run them, and measure what quantization changed.",
                            epilog="Exit codes: 0 done; 1 a gate failed; 2 bad usage or input; 3 unsupported; 4 out of memory or disk; "
                                   "5 internal error; 6 device or tool not available.")
        from .. import __version__

        self._top.add_argument("--version", action="version", version=f"lowbit {__version__}")
        self._verbs = self._top.add_subparsers(dest="verb", metavar="COMMAND", parser_class=_Parser)
        self._inspect()
        self._recipe()
        self._calibrate()
        self._compile()
        self._run()
        self._bench()
        self._eval()
        self._restore()
        self._export()

    def parse(self, argv: list[str]) -> argparse.Namespace:
        options, extra = self._top.parse_known_args(argv)
        if extra:
            known = getattr(options, "_own_options", []) + (list(self._verbs.choices[options.verb]._option_string_actions) if options.verb else [])
            near = difflib.get_close_matches(extra[0].split("=")[0], known, 1)
            raise UsageError(f"unknown argument '{extra[0]}'" + (f" (did you mean '{near[0]}'?)" if near else ""))
        if options.verb is None:
            raise UsageError(f"name a command: {', '.join(self.VERBS)}; lowbit COMMAND --help tells more")
        return options

    def _verb(self, name: str, text: str, output: str | None, epilog: str | None = None, *, required: bool = False) -> argparse.ArgumentParser:
        parser = self._verbs.add_parser(name, help=text, description=text, epilog=epilog)
        if output:
            parser.add_argument("-o", "--out", metavar=output, required=required, help="where the result is written")
        parser.add_argument("--force", action="store_true", help="replace what exists")
        parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
        parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no remarks")
        parser.add_argument("-v", "--verbose", action="store_true", help="say more")
        parser.add_argument("--seed", type=_count, default=0, metavar="N", help="of everything random (default 0)")
        parser.add_argument("--threads", type=_count, default=0, metavar="N", help="threads to run models with (default: all cores)")
        return parser

    def _model_options(self, parser: argparse.ArgumentParser, recipe: str | None) -> None:
        parser.add_argument("--recipe", default=recipe, required=recipe is None, metavar="R", help="NAME, NAME:key=value,… or a file" + (f" (default {recipe})" if recipe else ""))

    def _inspect(self) -> None:
        parser = self._verb("inspect", "operators, layers, shapes, bytes per precision; what can be quantized and why not; or what a bundle holds", "F.json")
        parser.add_argument("model", metavar="MODEL.onnx", help="or a bundle")

    def _recipe(self) -> None:
        parser = self._verb("recipe", "show a named recipe, explain what it does to a model, or print the schema of recipes", "FILE")
        what = parser.add_subparsers(dest="what", metavar="COMMAND", parser_class=_Parser, required=True)
        show = what.add_parser("show", help="a named recipe as a file")
        show.add_argument("name", metavar="NAME")
        explain = what.add_parser("explain", help="which rule hits which layer")
        explain.add_argument("model", metavar="MODEL.onnx")
        explain.add_argument("recipe", metavar="RECIPE")
        what.add_parser("schema", help="the JSON schema")
        for each in what.choices.values():  # also after the inner command
            each.add_argument("-o", "--out", metavar="FILE", default=argparse.SUPPRESS)
            for flags in (("--force",), ("--json",), ("-q", "--quiet"), ("-v", "--verbose")):
                each.add_argument(*flags, action="store_true", default=argparse.SUPPRESS)

    def _calibrate(self) -> None:
        parser = self._verb("calibrate", "run data through the model and keep what the recipe needs to know", "CAL", epilog=(
            "The calibration does not depend on --batch or the order of the samples. Interrupted, it leaves CAL.part, and\n"
            "--resume goes on from there. Files of parts of the data, made on several machines, are put together with --merge."))
        parser.add_argument("model", metavar="MODEL.onnx")
        self._model_options(parser, None)
        parser.add_argument("--data", metavar="D", help="F.npz, a folder, or FILE.py:FUNC; [a:b] selects samples")
        parser.add_argument("--batch", type=_count, default=1, metavar="N", help="samples per run where the model allows it (default 1)")
        parser.add_argument("--resume", action="store_true", help="go on from CAL.part or CAL, which has seen the first samples of the data")
        parser.add_argument("--merge", action="append", default=[], metavar="CAL", help="add what this calibration file holds; repeatable, also without --data")
        parser.add_argument("--coverage", metavar="CAL", help="write no calibration: report how much of the data lies outside of what CAL covers")

    def _compile(self) -> None:
        parser = self._verb("compile", "compile a model to a bundle, or print a form on the way (--emit)", "OUT.lowbit")
        parser.add_argument("model", metavar="MODEL.onnx")
        self._model_options(parser, "fp32")
        parser.add_argument("--calibration", metavar="CAL", help="a file that lowbit calibrate wrote")
        parser.add_argument("--data", metavar="D", help="calibrate with these data first")
        parser.add_argument("--target", choices=("cpu", "cuda"), default="cpu")
        parser.add_argument("--arch", metavar="A", help="host, x86-64-v3, x86-64-v4; for cuda sm_80,sm_90a,…")
        parser.add_argument("--dim", type=_size, action="append", default=[], metavar="NAME=SIZE", help="fix a dynamic dimension; repeatable")
        parser.add_argument("--emit", choices=FORMS, metavar="FORM", help=f"stop there and print that form: {', '.join(FORMS)}")

    def _export(self) -> None:
        parser = self._verb("export", "write a quantized ONNX model for another runtime", "MODEL.qdq.onnx", required=True)
        parser.add_argument("model", metavar="MODEL.onnx")
        self._model_options(parser, None)
        parser.add_argument("--calibration", metavar="CAL", help="a file that lowbit calibrate wrote")
        parser.add_argument("--data", metavar="D", help="calibrate with these data first")
        parser.add_argument("--for", dest="runtime", choices=("onnxruntime", "tensorrt", "openvino"), required=True, help="whose rules apply")
        parser.add_argument("--dim", type=_size, action="append", default=[], metavar="NAME=SIZE", help="fix a dynamic dimension; repeatable")
        parser.add_argument("--external-data", action="store_true", help="tensors of a KiB and more go to MODEL.qdq.onnx.data (above a GiB they do so anyway)")

    def _run(self) -> None:
        parser = self._verb("run", "run a bundle", "OUT.npz", required=True)
        parser.add_argument("bundle", metavar="OUT.lowbit")
        parser.add_argument("--inputs", required=True, metavar="IN.npz", help="one array per input; data as for eval")
        parser.add_argument("--device", metavar="D", help="cpu, cuda:0 or emulator (default: what the bundle is made for)")

    def _bench(self) -> None:
        parser = self._verb("bench", "time several models, interleaved", "F.json")
        parser.add_argument("models", nargs="+", metavar="OUT.lowbit|ort:MODEL.onnx")
        parser.add_argument("--inputs", metavar="IN.npz", help="data as for eval, of which the first is used (default: random)")
        parser.add_argument("--repeat", type=_count, default=0, metavar="N", help="rounds (default: as many as fit three seconds)")
        parser.add_argument("--batch", type=_count, default=1, metavar="N", help="samples per run where the model allows it (default 1)")
        parser.add_argument("--dim", type=_size, action="append", default=[], metavar="NAME=SIZE", help="size of a dynamic dimension of random inputs")

    def _eval(self) -> None:
        parser = self._verb("eval", "measure what candidates lost against a reference", "F.json", epilog=(
            "An .onnx runs in onnxruntime; ort: or lowbit: before a path chooses the runtime; OUT.lowbit@emulator, @cuda:0 or\n"
            "@cpu says where a bundle runs; FILE.py:FUNC is a function from a dict of inputs to a dict of outputs.\n"
            "A gate is PATH OPERATOR NUMBER over a candidate's part of the JSON, such as\n"
            "'drift.top1_agreement >= 0.99' or 'tail.kl.p99 < 0.1'; if one fails the exit code is 1."))
        parser.add_argument("--reference", required=True, metavar="MODEL")
        parser.add_argument("--candidate", action="append", required=True, metavar="MODEL", help="repeatable")
        self._task_options(parser)
        parser.add_argument("--sensitivity", type=_count, metavar="N", help="bundles: which layers cause the drift, on the first N samples (0: all); one or two compilations per layer")
        parser.add_argument("--error-budget", type=_count, metavar="K", help="with --sensitivity: what the errors of the K most sensitive layers consist of")
        self._calibration_options(parser, "; warns of samples that are also evaluated on")
        parser.add_argument("--baseline", metavar="OLD.json", help="fail (exit 1) where a candidate is worse than in this earlier result")
        parser.add_argument("--checkpoint", metavar="FILE", help="where an interrupted run leaves what it has (default: F.json.part with -o F.json)")
        parser.add_argument("--resume", action="store_true", help="go on from the checkpoint; the result is the same as without the interruption")
        parser.add_argument("--tokenizer", metavar="TOKENIZER.json", help="choices, cloze, generate: for text; lm: shows the worst tokens as text")
        parser.add_argument("--scorer", metavar="FILE.py:FUNC", help="generate: FUNC(text, item) → a score; from 0.5 on an answer is right")
        parser.add_argument("--bench", metavar="B.json", help="times of these models, as lowbit bench -o wrote them, for the report")
        parser.add_argument("--html", metavar="R.html", help="write a page")
        parser.add_argument("--junit", metavar="R.xml", help="write JUnit test cases")

    def _task_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--data", required=True, metavar="D", help="F.npz, a folder, FILE.py:FUNC, or F.jsonl for tasks on text; [a:b] selects samples")
        parser.add_argument("--task", required=True, metavar="T", help="classify, embed, lm, regress, drift (no labels), choices, cloze, generate (all three on a .jsonl), or FILE.py:FUNC")
        parser.add_argument("--label-key", default="label", metavar="KEY", help="the labels' array (default label)")
        parser.add_argument("--output", metavar="NAME", help="the output that the task looks at")
        parser.add_argument("--metric", metavar="NAME", help="classify: accuracy, top5, f1; choices: accuracy, acc_norm; regress: rmse, mse, mae, pearson, spearman; embed: spearman, pearson")
        parser.add_argument("--gate", action="append", default=[], metavar="EXPR", help="repeatable")
        parser.add_argument("--batch", type=_count, default=32, metavar="N", help="samples per run where all models allow it (default 32)")
        parser.add_argument("--window", type=_count, default=0, metavar="N", help="lm: tokens per run (default: whole sequences)")
        parser.add_argument("--stride", type=_count, default=0, metavar="N", help="lm: new tokens per window (default: the window)")
        parser.add_argument("--pool", choices=("mean", "cls"), default="mean", help="embed: how [N, T, D] becomes [N, D] (default mean)")

    def _calibration_options(self, parser: argparse.ArgumentParser, warns: str = "") -> None:
        parser.add_argument("--calibration-data", metavar="C", help="the data that the bundle was calibrated with: what compiling it again needs" + warns)
        parser.add_argument("--calibration", metavar="CAL", help="the same as a file that lowbit calibrate wrote")
        parser.add_argument("--dim", type=_size, action="append", default=[], metavar="NAME=SIZE", help="a dynamic dimension that was fixed when the bundle was compiled; repeatable")

    def _restore(self) -> None:
        parser = self._verb("restore", "raise the fewest layers of a bundle until gates hold", "FIXED.lowbit", required=True, epilog=(
            "The data are split by hash: layers are chosen on one half, the figures come from the other. FIXED.recipe.yaml is\n"
            "written beside the bundle. Exit code 1, and nothing written, if the gates cannot be made to hold on both halves."))
        parser.add_argument("bundle", metavar="OUT.lowbit")
        parser.add_argument("--model", required=True, metavar="MODEL.onnx", help="what the bundle was compiled from")
        self._task_options(parser)
        self._calibration_options(parser)
        parser.add_argument("--levels", default="int8,fp16", metavar="L,…", help="how layers are raised, in this order: of int8, fp16, float (default int8,fp16)")
        parser.add_argument("--sensitivity", type=_count, default=64, metavar="N", help="samples on which single layers are measured; 0: the whole half (default 64)")
        parser.add_argument("--reround", choices=("rtn", "mse", "gptq", "hqq"), metavar="A", help="round the layers of less than 8 bits that are not raised again by this algorithm, at their own width: rtn, mse, hqq or gptq")
        parser.add_argument("--resamples", type=_count, default=4, metavar="N", help="bootstrap resamples of the choosing half on which the gates have to hold too (default 4)")
        parser.add_argument("--price-per-hour", type=float, metavar="P", help="what the machine costs: the report says what 1,000 tokens or samples do")
