#!/usr/bin/env bash
# Builds the images where neither a registry nor, from inside a build, a package index is reached: wheels are gathered
# outside, and the base image is made by engine.sh. Elsewhere `docker compose -f deploy/compose.yaml build` does.
# Each image's bill of materials is written beside the engine: neurofed-worker.cdx.json, neurofed-server.cdx.json.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
DIR=${NEUROFED_ENGINE_DIR:-/var/tmp/neurofed-engine}
CONTEXT=$DIR/context
export DOCKER_HOST=unix://$DIR/docker.sock DOCKER_CONFIG=$DIR/config DOCKER_BUILDKIT=0

# A copy, so that what changes meanwhile does not matter, and nothing is built into the checkout
rm -rf "$CONTEXT"
mkdir -p "$CONTEXT" "$DIR/wheels"
cp -r pyproject.toml constraints.txt hatch_build.py README.md LICENSE .dockerignore \
  neurofed neuro_engine server worker workloads deploy "$CONTEXT"
find "$CONTEXT" -name __pycache__ -prune -exec rm -rf {} +
rm -rf "$CONTEXT/neuro_engine/kernels/lib"

# Dependencies again only when they change: their layer is most of the image
"$PYTHON" deploy/docker/requirements.py pyproject.toml >"$DIR/requirements.txt"
key=$(cat "$DIR/requirements.txt" constraints.txt | sha256sum | cut -c1-16)
if [ ! -d "$DIR/wheels/$key" ]; then
  rm -rf "$DIR/wheels"/*
  "$PYTHON" -m pip wheel -qq -c constraints.txt -w "$DIR/wheels/$key.part" -r "$DIR/requirements.txt"
  mv "$DIR/wheels/$key.part" "$DIR/wheels/$key"
fi
mkdir -p "$CONTEXT/wheels/package"
"$PYTHON" -m pip wheel -qq --no-deps -w "$CONTEXT/wheels/package" "$CONTEXT"
cp -r "$DIR/wheels/$key" "$CONTEXT/wheels/dependencies"

docker() { # Debian's client fits Debian's engine
  if [ -x /usr/bin/docker ]; then /usr/bin/docker "$@"; else command docker "$@"; fi
}

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' neurofed/__init__.py)
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
for target in server worker; do
  docker build --quiet --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    -f "$CONTEXT/deploy/docker/Dockerfile" --target $target -t "neurofed-$target" "$CONTEXT" >"$DIR/build-$target.log" 2>&1 ||
    { tail -40 "$DIR/build-$target.log" >&2 && exit 1; }
  PYTHON=$PYTHON deploy/docker/sbom.sh "neurofed-$target" "$DIR/neurofed-$target.cdx.json"
done
rm -rf "$CONTEXT"
docker images --format '{{.Repository}} {{.Size}}' | grep -E '^neurofed-(server|worker) '
