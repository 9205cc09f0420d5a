#!/usr/bin/env bash
# Checks and times the packed bundles on this machine's GPU; below 25 minutes. Writes results.json beside itself (or to $1).
# Needs a driver and Python with numpy; torch adds yardsticks, compute-sanitizer adds a check. What is missing is said and left out.
# PYTHON: the interpreter (default: python3). DEVICE: what to run on (default: cuda:0). REPETITIONS: timed runs of each case
# (default: 50).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
device=${DEVICE:-cuda:0}
results=${1:-$here/results.json}
export PYTHONPATH="$here/python" LOWBIT_BUILD="$here"
"$python" -c 'import numpy' || { echo "run.sh: $python has no numpy" >&2; exit 6; }
timeout 700 "$python" "$here/check.py" "$here/cases" "$results" --device "$device" --repetitions "${REPETITIONS:-50}"
status=$?
if [ $status -eq 6 ]; then
  exit 6
fi
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck; do
    echo "compute-sanitizer $tool"
    timeout 200 compute-sanitizer --tool $tool --error-exitcode 1 "$python" "$here/check.py" "$here/cases" /dev/null --device "$device" \
      --no-times --only digits || { echo "compute-sanitizer $tool: FAILED"; status=1; }
  done
else
  echo "compute-sanitizer is not here: left out"
fi
timeout 300 "$python" "$here/yardsticks.py" "$results" || echo "yardsticks: left out"
exit $status
