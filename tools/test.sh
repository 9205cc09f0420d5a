#!/usr/bin/env bash
# Sets up, builds, and runs every test: lit (with the C++ unit tests) and Python. Arguments go to lit, e.g. --filter Import.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
tools/setup.sh
[ -d ../shared/models ] || echo "test.sh: ../shared is absent: the tests on its models are skipped" >&2
/usr/bin/python3 -c '' && .venv/bin/python /usr/lib/llvm-22/bin/lit -s --timeout 900 "$@" build/test
LOWBIT_BUILD="$root/build" .venv/bin/python -m pytest -q test/Python
