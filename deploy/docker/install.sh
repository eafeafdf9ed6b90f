#!/bin/sh
# Runs in the image's build stages, beside the sources: installs what NeuroFed needs, or NeuroFed itself. Wheels that lie
# there are taken and no index is asked; without any, packages come from the index, and torch from where uv knows that
# the one for TORCH_BACKEND (cpu, cu128, ...) is.
#
#   install.sh dependencies    into a virtual environment, /opt/neurofed
#   install.sh package         into a folder for Python's path, /opt/package
set -eu

environment=/opt/neurofed
if ls ./*.whl >/dev/null 2>&1; then offline=yes; else offline=; fi

install() {
  uv pip install --python $environment/bin/python --quiet --no-cache --compile-bytecode \
    ${offline:+--no-index --find-links .} "$@"
}

case $1 in
  dependencies)
    python -m pip install --quiet --no-cache-dir --root-user-action ignore ${offline:+--no-index --find-links .} uv
    python -m venv --without-pip $environment
    set -- --constraint constraints.txt --requirement requirements.txt
    [ -n "$offline" ] || set -- --torch-backend "$TORCH_BACKEND" "$@"
    install "$@"
    # what only builds and tests of these packages use
    for site in "$environment"/lib/python3.*/site-packages; do
      rm -rf "$site/torch/include" "$site/torch/test"
      find "$site/torch/bin" -type f ! -name torch_shm_manager -delete
      find "$site/numpy" "$site/scipy" "$site/sklearn" -type d -name tests -prune -exec rm -rf {} +
    done
    ;;
  package)
    if [ -n "$offline" ]; then
      install --no-deps --target /opt/package neurofed
    else # the wheel carries compiled kernels
      apt-get update -qq
      apt-get install -qq -y --no-install-recommends gcc libc6-dev
      install --no-deps --target /opt/package .
    fi
    ;;
esac
