#!/usr/bin/env bash
# Packs what a machine with an NVIDIA GPU and no compiler needs to check and time CUDA bundles, in one folder below 60 MB:
# bundles, the runtime, inputs, and the outputs that the CPU gave. Then, over there: OUT/run.sh
#
#   package.sh OUT [MODELS]
#
# LOWBIT_BUILD: the build folder (default: build). PYTHON: an interpreter with numpy (default: python3). MODELS: a folder with
# models/ and data/ as in MODELS.md; the models that come with the package are taken where it is not given.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../../.." && pwd)
build=$(cd "${LOWBIT_BUILD:-$source/build}" && pwd)
python=${PYTHON:-python3}
out=$1
if [ -e "$out" ]; then
  echo "package.sh: $out exists" >&2
  exit 4
fi
mkdir -p "$out/python" "$out/lib" "$out/cases"
cp "$here/run.sh" "$here/check.py" "$here/yardsticks.py" "$out/"
cp "$build/lib/liblowbit-runtime.so" "$build/lib/liblowbit-emulator.so" "$out/lib/"
mkdir "$out/python/lowbit"
# Running needs these alone.
for file in __init__ _native device errors runtime signature; do
  if [ "$file" = __init__ ]; then
    printf '"""The part of lowbit that runs bundles."""\nfrom .runtime import Bundle\n' > "$out/python/lowbit/__init__.py"
  else
    cp "$source/python/lowbit/$file.py" "$out/python/lowbit/"
  fi
done
PYTHONPATH="$source/python" LOWBIT_BUILD="$build" "$python" "$here/pack.py" "$out/cases" "${2:-}"
bytes=$(du -sb "$out" | cut -f1)
if [ "$bytes" -gt 60000000 ]; then
  echo "package.sh: $out has $bytes bytes, more than the 60 MB that it may have" >&2
  exit 5
fi
echo "$out: $bytes bytes; copy it to the machine with the GPU and start run.sh there"
