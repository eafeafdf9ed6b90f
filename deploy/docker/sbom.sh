#!/usr/bin/env bash
# Writes the software bill of materials of an image, in CycloneDX's format: the Python packages in it, with versions and
# licences. The tool runs inside a container of that image and is no part of it. What Debian's base image holds is not listed.
#
#   deploy/docker/sbom.sh neurofed-worker worker.cdx.json
set -euo pipefail

image=${1:?expected an image}
file=${2:?expected the file to write}
TOOLS=${NEUROFED_SBOM_TOOLS:-${NEUROFED_ENGINE_DIR:-/var/tmp/neurofed-engine}/sbom-tools}
PYTHON=${PYTHON:-python3}
BOM=cyclonedx-bom==7.5.0

docker() { # Debian's client fits Debian's engine
  if [ -x /usr/bin/docker ]; then /usr/bin/docker "$@"; else command docker "$@"; fi
}

# For the image's Python, which need not be the one here
if [ ! -d "$TOOLS/$BOM" ]; then
  rm -rf "$TOOLS"
  "$PYTHON" -m pip install -qqq --only-binary :all: --implementation cp --python-version 3.11 \
    --target "$TOOLS/part" "$BOM" || { echo "sbom.sh: expected to install $BOM, got an error of pip's" >&2 && exit 1; }
  mv "$TOOLS/part" "$TOOLS/$BOM"
fi
run='import sys; sys.path.append("/tools"); from cyclonedx_py._internal.cli import run; sys.exit(run())'
docker run --rm --network none --read-only --tmpfs /tmp --volume "$TOOLS/$BOM:/tools:ro" --entrypoint python "$image" \
  -c "$run" environment --output-reproducible --output-format JSON /opt/neurofed/bin/python >"$file.part"
mv "$file.part" "$file"
