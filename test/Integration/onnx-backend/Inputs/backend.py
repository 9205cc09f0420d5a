# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs the onnx package's node cases through import, compile and run, and compares with the expectations file.

python backend.py [--third N] [--filter REGEX] [--variants static,dynamic,constant] [--update] [-j N]

Exit 1 where a case fails that should pass, passes that should fail, fails otherwise than listed, gives a wrong number,
crashes or hangs: the last three cannot be listed. --update writes the expectations file from what was found.
"""
from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import worker
from cases import VARIANTS, load

sys.path.insert(0, str(Path(__file__).parents[2] / "Inputs"))
from pool import Result, run_all

EXPECTATIONS = Path(__file__).parents[1] / "expectations.txt"
HEADER = """\
# The node cases of the onnx package that do not pass, one per line: name, variants, result: reason. See backend.py.
# Written by `backend.py --update`. A wrong number, a crash or a hang is never listed here.
"""
#: Results that may be listed.
LISTED = ("unsupported", "invalid", "error")
SECONDS_PER_CASE = 120


def one_line(reason: str) -> str:
    """Without what changes from run to run."""
    reason = re.sub(r"\s+", " ", reason)
    reason = re.sub(r"\S*/lowbit-\w+/", "", reason)
    return re.sub(r"^.*node\(s\) cannot be compiled: ", "", reason)[:200]


def read_expectations() -> dict[tuple[str, str], str]:
    expected = {}
    for line in EXPECTATIONS.read_text().splitlines() if EXPECTATIONS.exists() else []:
        if line and not line.startswith("#"):
            name, variants, rest = line.split(" ", 2)
            for kind in variants.split(","):
                expected[name, kind] = rest.split(":", 1)[0]
    return expected


def write_expectations(results: dict[tuple[str, str], Result]) -> None:
    lines: dict[tuple[str, str], list[str]] = {}
    for (name, kind), (result, why) in results.items():
        if result in LISTED:
            lines.setdefault((name, f"{result}: {one_line(why)}"), []).append(kind)
    with open(EXPECTATIONS, "w") as file:
        file.write(HEADER)
        file.writelines(f"{name} {','.join(kinds)} {text}\n" for (name, text), kinds in sorted(lines.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--third", type=int, choices=range(3), help="only the cases whose name's hash is this modulo 3")
    parser.add_argument("--filter", default="", help="only the cases whose name matches")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--update", action="store_true", help="write the expectations file (the whole suite only)")
    parser.add_argument("--cache", type=Path, help="folder that keeps the computed cases")
    parser.add_argument("-j", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    arguments = parser.parse_args()
    if arguments.update and (arguments.third is not None or arguments.filter or arguments.variants != ",".join(VARIANTS)):
        parser.error("--update needs the whole suite")

    started = time.monotonic()
    cases = [case for case in load(arguments.cache)
             if (arguments.third is None or case.third == arguments.third) and re.search(arguments.filter, case.name)]
    jobs = [(case, kind) for kind in arguments.variants.split(",") for case in cases]
    found = run_all(worker.run, jobs, arguments.j, SECONDS_PER_CASE)
    results = {(case.name, kind): result for (case, kind), result in zip(jobs, found)}

    expected = read_expectations()
    unforeseen = 0
    for (name, kind), (result, why) in sorted(results.items()):
        if result == "skip" or result == expected.get((name, kind), "pass") and result in ("pass", *LISTED):
            continue
        unforeseen += 1
        print(f"{name} ({kind}): {result}: {one_line(why)}; expected {expected.get((name, kind), 'pass')}")
    for kind in arguments.variants.split(","):
        counts = Counter(result for (_, other), (result, _) in results.items() if other == kind)
        print(f"{kind}: {counts['pass']} of {sum(counts.values()) - counts['skip']} pass; "
              + ", ".join(f"{count} {result}" for result, count in sorted(counts.items()) if result not in ("pass", "skip")))
    print(f"{unforeseen} unforeseen result(s) in {time.monotonic() - started:.0f} s")
    if arguments.update:
        write_expectations(results)
    return 1 if unforeseen else 0


if __name__ == "__main__":
    sys.exit(main())
