#!/usr/bin/env bash
# Installs what lowbit needs on Debian 12, makes .venv, and builds into build/. Safe to run again.
# --exports: also torch, torchvision and transformers (several GB), for the tests that export models.
# Environment: LOWBIT_JOBS (default: cores), LOWBIT_NO_APT=1 (packages are there already).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
exports=0
for option in "$@"; do
  case $option in
    --exports) exports=1 ;;
    *) echo "setup.sh: error: unknown option $option; there is --exports" >&2; exit 2 ;;
  esac
done
say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

packages=(
  clang-22 lld-22 llvm-22-dev llvm-22-tools libmlir-22-dev mlir-22-tools liblld-22-dev libclang-rt-22-dev
  cmake ninja-build ccache git
  libprotobuf-dev protobuf-compiler nlohmann-json3-dev zlib1g-dev libzstd-dev libgtest-dev libzip-dev libssl-dev libeigen3-dev
  python3 python3-dev python3-venv
  chromium-headless-shell # the tests open the report's page in it
)

install_packages() {
  local missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup.sh: error: run as root, or install sudo" >&2; exit 2; }
    sudo=(sudo)
  fi
  "${sudo[@]}" apt-get update -qq
  # LLVM 22 is in Debian 12's security suite, which the base system already lists.
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    ca-certificates "${missing[@]}" >/dev/null
}

make_venv() {
  if [ ! -x .venv/bin/python ]; then
    say "Making .venv"
    /usr/bin/python3 -m venv .venv
  fi
  local stamp=.venv/requirements.sha256 now
  now=$(cat python/requirements.txt python/pyproject.toml | sha256sum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$now" ]; then
    say "Installing Python packages into .venv"
    .venv/bin/pip install -q --disable-pip-version-check -r python/requirements.txt
    .venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e python
    echo "$now" >"$stamp"
  fi
  # ptxas: a toolkit's where there is one, else the wheel's.
  if [ ! -x "${CUDA_HOME:-/nonexistent}/bin/ptxas" ] && ! command -v ptxas >/dev/null &&
     ! .venv/bin/pip show -q nvidia-cuda-nvcc >/dev/null 2>&1; then
    say "No CUDA toolkit found: installing the nvidia-cuda-nvcc wheel for ptxas"
    .venv/bin/pip install -q --disable-pip-version-check nvidia-cuda-nvcc==13.0.88
  fi
}

build() {
  say "Building into build/ (ccache: a second build takes seconds)"
  export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
  cmake --preset release -DLOWBIT_PYTHON="$root/.venv/bin/python" >build-configure.log 2>&1 ||
    { cat build-configure.log >&2; exit 5; }
  rm -f build-configure.log
  cmake --build build -j "${LOWBIT_JOBS:-$(nproc)}"
}

install_exports() {
  say "Installing torch and the model libraries into .venv"
  .venv/bin/pip install -q --disable-pip-version-check -r python/requirements-export.txt
}

[ "${LOWBIT_NO_APT:-}" = 1 ] || install_packages
make_venv
[ "$exports" = 0 ] || install_exports
build
say "Ready: build/bin, build/lib/LowbitPlugin.so, .venv/bin/lowbit"
