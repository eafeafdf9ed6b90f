#!/bin/sh
# What a container of the image does, by its first word. Any other word is a command of neurofed.
#
#   server      the aggregator, at NEUROFED_LISTEN
#   worker      a worker of NEUROFED_AGGREGATOR, named NEUROFED_WORKER_NAME or, as replica N of a service, worker-N
#   health      is what runs in this container well?
#   workers     in the aggregator's container: who has joined
#   provision   certificates for NEUROFED_WORKERS workers in /pki; other containers find theirs in what is /handout here.
#               With words: neurofed provision WORD there, and hand out again. Example: provision revoke worker-3
set -eu

aggregator=${NEUROFED_AGGREGATOR:-aggregator:9050}
listen=${NEUROFED_LISTEN:-0.0.0.0:9050}

# Replicas are alike but for the number in the container's name, by which the engine's DNS knows its address.
replica_name() {
  for address in $(hostname -i); do
    number=$(getent -s hosts:dns hosts "$address" | sed -n 's/^[^ ]* *[^ .]*[-_]\([0-9][0-9]*\)\..*$/\1/p')
    [ -z "$number" ] || { echo "worker-$number" && return; }
  done
  echo "entrypoint: expected a container name that ends in a number, got none: set NEUROFED_WORKER_NAME" >&2
  exit 10
}

use_credentials() { # of a folder in /tls, where there is one; without, NEUROFED_INSECURE decides
  if [ -d "/tls/$1" ]; then export NEUROFED_TLS_DIR="/tls/$1"; fi
}

# Copy folders of credentials to where other containers see them, each file whole or not at all
hand_out() {
  target=/handout/$1
  shift
  for folder in "$@"; do
    mkdir -p "$target/${folder##*/}"
    for file in "$folder"/*; do
      cp "$file" "$target/.new"
      mv -f "$target/.new" "$target/${folder##*/}/${file##*/}"
    done
  done
}

provision() {
  umask 077
  pki=/pki/federation
  if [ $# != 0 ]; then
    command=$1
    shift
    neurofed provision "$command" $pki "$@"
  elif [ ! -d $pki ]; then
    for host in ${NEUROFED_HOSTS:-}; do set -- "$@" --host "$host"; done
    neurofed provision init $pki --host "${aggregator%:*}" "$@"
  fi
  set --
  for number in $(seq "${NEUROFED_WORKERS:-5}"); do
    [ -d "$pki/worker-worker-$number" ] || set -- "$@" "worker-$number"
  done
  [ $# = 0 ] || neurofed provision issue $pki worker "$@"
  if [ ! -e $pki/http/tokens ]; then
    mkdir $pki/http
    python -c 'from secrets import token_hex as t; print(f"operator {t(24)}\nviewer {t(24)}")' >$pki/http/tokens
  fi
  hand_out aggregator $pki/server $pki/viewer $pki/http
  hand_out workers "$pki"/worker-*
  hand_out operator $pki/operator
  umask 022 # monitoring programs run as other users, and only they see this folder
  sed -n 's/^viewer //p' $pki/http/tokens >/handout/monitoring/viewer-token
  for file in ca.crt tls.crt tls.key; do cat "$pki/viewer/$file" >"/handout/monitoring/$file"; done
}

case ${1:-} in
  server)
    shift
    use_credentials server
    exec neurofed server --listen "$listen" --out /runs "$@"
    ;;
  worker)
    shift
    name=${NEUROFED_WORKER_NAME:-$(replica_name)}
    echo "$name" >/tmp/name
    use_credentials "worker-$name"
    exec neurofed worker join "$aggregator" --name "$name" --state-dir "/state/$name" "$@"
    ;;
  health)
    if [ -s /tmp/name ]; then # a worker is well while the aggregator knows its certificate and serves it
      use_credentials "worker-$(cat /tmp/name)"
      exec python -m neurofed.health "$aggregator" --service neurofed.v1.FleetService
    fi
    use_credentials viewer
    exec python -m neurofed.health "127.0.0.1:${listen##*:}"
    ;;
  workers) # who has joined: for status displays, which need not know where the certificates are
    shift
    use_credentials viewer
    exec neurofed workers --address "127.0.0.1:${listen##*:}" "$@"
    ;;
  provision)
    shift
    provision "$@"
    ;;
  *)
    exec neurofed "$@"
    ;;
esac
