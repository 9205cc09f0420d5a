"""check.py CASES RESULTS.json --device D [--no-times] [--only PART]: every case against the outputs that the CPU gave, then its time.

Exit code: 0 all agree, 1 some do not, 6 no device.
"""
import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import lowbit
from lowbit.errors import Error, Unavailable

parser = argparse.ArgumentParser()
parser.add_argument("cases", type=Path)
parser.add_argument("results", type=Path)
parser.add_argument("--device", default="cuda:0")
parser.add_argument("--no-times", action="store_true")
parser.add_argument("--repetitions", type=int, default=50)
parser.add_argument("--only", default="")
args = parser.parse_args()
rows, wrong = [], 0


def difference(expected: dict, got: dict) -> float:
    """The largest over the outputs, relative to the range of the output."""
    worst = 0.0
    for name, array in expected.items():
        if array.shape != got[name].shape:
            return float("inf")
        spread = float(np.ptp(array)) or 1.0
        gap = np.abs(array.astype(np.float64) - got[name].astype(np.float64))
        worst = max(worst, float(np.max(gap, initial=0)) / spread if np.all(np.isfinite(got[name])) else float("inf"))
    return worst


def timed(bundle: lowbit.Bundle, feeds: dict) -> dict:
    bundle.run(feeds)
    samples = []
    for _ in range(args.repetitions):
        begin = time.perf_counter()
        bundle.run(feeds)
        samples.append(1e3 * (time.perf_counter() - begin))
    row = {"run_ms": float(np.median(samples)), "run_p90_ms": float(np.percentile(samples, 90))}
    try:
        row["graph_ms"] = bundle.time(feeds, 4 * args.repetitions)  # on the GPU alone, one replay after the other
    except Error as error:
        row["graph_ms_left_out"] = str(error)
    return row


for case in sorted(path for path in args.cases.iterdir() if args.only in path.name):
    tolerance = json.loads((case / "case.json").read_text())["tolerance"]
    try:
        bundle = lowbit.Bundle(case / "bundle", device=args.device)
    except Unavailable as error:
        print(f"check.py: {error}", file=sys.stderr)
        sys.exit(6)
    for inputs in sorted(case.glob("*.inputs.npz")):
        feeds, expected = dict(np.load(inputs)), dict(np.load(str(inputs).replace(".inputs.", ".outputs.")))
        row = {"case": case.name, "inputs": {name: list(array.shape) for name, array in feeds.items()}}
        try:
            first, second = bundle.run(feeds), bundle.run(feeds)
            row["difference"], row["tolerance"] = difference(expected, first), tolerance
            row["repeatable"] = all(first[name].tobytes() == second[name].tobytes() for name in first)
            row["agrees"] = row["difference"] <= tolerance and row["repeatable"]
            row.update(bundle.plan or {})
            if not args.no_times:
                row.update(timed(bundle, feeds))
        except Error as error:
            row["agrees"], row["error"] = False, str(error)
        wrong += not row["agrees"]
        rows.append(row)
        print(f"{'agrees ' if row['agrees'] else 'DIFFERS'} {case.name} {inputs.name.split('.')[0]}: "
              + row.get("error", f"difference {row.get('difference', 0):.2g} of {tolerance:g}")
              + (f", {row['run_ms']:.3f} ms a run" if "run_ms" in row else ""), flush=True)
    bundle.close()
print(f"{len(rows) - wrong} of {len(rows)} agree")
if args.results != Path("/dev/null"):
    args.results.write_text(json.dumps({"schema": "lowbit.cuda-results/1", "device": args.device, "cases": rows}, indent=1) + "\n")
sys.exit(1 if wrong or not rows else 0)
