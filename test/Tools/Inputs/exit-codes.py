"""Runs lowbit-run on bad input and prints the exit code and the line on stderr of each run."""
import os
import subprocess
import sys

tool, bundle = sys.argv[1:]


def run(*arguments):
    result = subprocess.run([tool, bundle, *arguments], capture_output=True, text=True)
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and result.stdout == "", result
    print(result.returncode, lines[0])


run("--inputs", "in.npz", "-o", "out.npz")
for name in ("label", "few", "f64", "shape", "object", "missing", "fails", "huge"):
    run("--inputs", name + ".npz", "-o", "new.npz")
for option in ("--isa=future", "--device=cuda:0", "--threads=1x", "--what=1"):
    run("--inputs", "in.npz", "-o", "new.npz", option)
assert not os.path.exists("new.npz")
print("no output was written")
