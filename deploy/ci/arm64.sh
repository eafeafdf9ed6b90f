#!/usr/bin/env bash
# A userland for 64-bit ARM with what a worker needs, and the program that emulates it, for tests on an x86-64 machine:
# Debian's Python, unpacked and not configured, and wheels. Twice is once; remove the folder to begin anew.
#
#   deploy/ci/arm64.sh        prints the folder
#
# Needs root and Debian's apt-get, and uv. NEUROFED_ARM64_DIR is where it lives, about 1.5 GB.
set -euo pipefail
cd "$(dirname "$0")/../.."

DIR=${NEUROFED_ARM64_DIR:-/var/tmp/neurofed-arm64}
UV=${UV:-.venv/bin/uv}
PYTHON=${PYTHON:-.venv/bin/python}

make() {
  local part=$DIR/part mirror archive
  if ! { command -v qemu-aarch64-static && command -v debootstrap; } >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends qemu-user-static debootstrap
  fi
  rm -rf "$part" "$DIR/packages"
  mkdir -p "$part/opt/site"
  mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources)
  debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,libgomp1 bookworm "$DIR/packages" "$mirror"
  for archive in "$DIR"/packages/var/cache/apt/archives/*.deb; do dpkg-deb -x "$archive" "$part"; done
  rm -rf "$DIR/packages"
  # The newest torch for ARM that comes without CUDA's libraries
  "$PYTHON" deploy/docker/requirements.py pyproject.toml | sed 's/^torch.*/torch==2.9.1/' >"$DIR/requirements.txt"
  grep -v '^torch==' constraints.txt >"$DIR/constraints.txt"
  "$UV" pip install --quiet --target "$part/opt/site" --python-platform aarch64-manylinux_2_34 --python-version 3.11 \
    --only-binary :all: --constraint "$DIR/constraints.txt" --requirement "$DIR/requirements.txt"
  mv "$part" "$DIR/root"
}

mkdir -p "$DIR"
[ -d "$DIR/root" ] || make >&2
echo "$DIR/root"
