#!/usr/bin/env bash
# Two commands from a fresh machine to figures: sets up, quantizes the two bundled models, runs them, and writes
# demo-report.html. Safe to run again. Arguments go to tools/demo.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
tools/setup.sh
LOWBIT_BUILD="$root/build" exec .venv/bin/python tools/demo.py "$@"
