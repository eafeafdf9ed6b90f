#!/bin/sh
# Makes this board a worker that starts with it: a virtual environment, a systemd unit, and a token or a certificate.
#
#   sudo deploy/edge/install.sh agg.example:9050 --token board-3.token
#   sudo deploy/edge/install.sh agg.example:9050 --tls worker-board-3
#   deploy/edge/install.sh --check                    only look whether the board can be a worker
#
#   --token FILE     join token, as `neurofed provision token` makes it
#   --tls FOLDER     or a folder with ca.crt, tls.crt and tls.key, as `neurofed provision issue` makes it
#   --wheels FOLDER  take packages from there: for a board without a way to a package index
#   --memory SIZE    limit of the worker, by default 1G
#   --rest-above C   let training rest while the board is hotter than C degrees Celsius, by default never
#   --chip CHIP      chip to emulate where a run names none
#
# Run it again to install a newer version or to change an option. `systemctl disable --now neurofed-worker` undoes it.
set -eu

source=$(cd "$(dirname "$0")/../.." && pwd)
environment=/opt/neurofed
settings=/etc/neurofed
token='' tls='' wheels='' memory=1G rest_above='' chip=core20_28nm check='' address=''

fail() {
  echo "install.sh: $*" >&2
  exit 60
}

while [ $# -gt 0 ]; do
  case $1 in
    --token | --tls | --wheels | --memory | --rest-above | --chip)
      [ $# -gt 1 ] || fail "expected a value after $1"
      case $1 in
        --token) token=$2 ;;
        --tls) tls=$2 ;;
        --wheels) wheels=$2 ;;
        --memory) memory=$2 ;;
        --rest-above) rest_above=$2 ;;
        --chip) chip=$2 ;;
      esac
      shift 2
      ;;
    --check) check=yes && shift ;;
    -*) fail "expected an option that the head of $0 tells of, got $1" ;;
    *) address=$1 && shift ;;
  esac
done

# The board, before anything is changed on it
case $(uname -m) in
  aarch64 | arm64 | x86_64) ;;
  arm*) fail "expected 64-bit ARM, got $(uname -m): there is no torch for 32-bit ARM. Boards from Raspberry Pi 3 on have
  64-bit processors: install a 64-bit system on them" ;;
  *) fail "expected x86-64 or 64-bit ARM, got $(uname -m): there is no torch for it" ;;
esac
[ "$(getconf LONG_BIT)" = 64 ] || fail "expected a 64-bit system, got a 32-bit one on $(uname -m): install a 64-bit one"
python=''
for candidate in python3.13 python3.12 python3.11 python3; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || fail "expected Python 3.11 or newer with venv, got none: apt-get install python3 python3-venv"
free_kib=$(df -Pk "$(dirname $environment)" | awk 'NR == 2 {print $4}')
[ "$free_kib" -gt 2000000 ] || fail "expected 2 GB free in $(dirname $environment), got $((free_kib / 1000)) MB: make room"
if [ -n "$check" ]; then
  echo "install.sh: $(uname -m), $($python --version), $((free_kib / 1000000)) GB free: fit"
  exit 0
fi

[ -n "$address" ] || fail "expected HOST:PORT of the aggregator, got none"
if [ -z "$token" ] && [ -z "$tls" ] && [ ! -s $settings/join.token ]; then
  fail "expected --token or --tls, got neither: the aggregator must know who joins"
fi
[ "$(id -u)" = 0 ] || fail "expected root, got $(id -un): sudo $0 ..."
[ -d /run/systemd/system ] || fail "expected systemd, got another init: start \`neurofed worker join\` by its means"

echo "install.sh: packages into $environment"
[ -x $environment/bin/python ] || "$python" -m venv $environment
if [ -n "$wheels" ]; then
  $environment/bin/pip install --quiet --upgrade --no-index --find-links "$wheels" neurofed
else
  # uv knows where the torch without CUDA is, which is a tenth in size
  $environment/bin/pip install --quiet --upgrade uv
  $environment/bin/uv pip install --quiet --python $environment/bin/python --torch-backend cpu "$source"
fi

echo "install.sh: settings into $settings"
install -d -m 700 $settings
for name in ca.crt tls.crt tls.key; do
  if [ -n "$tls" ]; then install -m 600 "$tls/$name" $settings/$name; fi
done
if [ -n "$token" ]; then install -m 600 "$token" $settings/join.token; fi
for name in join.token ca.crt tls.crt tls.key; do # an empty file is none
  [ -e $settings/$name ] || install -m 600 /dev/null $settings/$name
done
cat >$settings/worker.env <<SETTINGS
# Written by install.sh; read by neurofed-worker.service. Each is an option of \`neurofed worker join\`.
NEUROFED_AGGREGATOR=$address
NEUROFED_WORKER_JOIN_CHIP=$chip
SETTINGS
if [ -n "$rest_above" ]; then echo "NEUROFED_WORKER_JOIN_MAX_TEMPERATURE_C=$rest_above" >>$settings/worker.env; fi

install -m 755 "$source/deploy/edge/credentials.sh" $environment/bin/neurofed-credentials
install -m 644 "$source/deploy/edge/neurofed-worker.service" /etc/systemd/system/neurofed-worker.service
install -d /etc/systemd/system/neurofed-worker.service.d
printf '[Service]\nMemoryMax=%s\n' "$memory" >/etc/systemd/system/neurofed-worker.service.d/memory.conf
systemctl daemon-reload
$environment/bin/neurofed doctor --state-dir $environment ||
  fail "see the lines above; then: systemctl enable --now neurofed-worker"
systemctl enable --now neurofed-worker
echo "install.sh: journalctl -fu neurofed-worker shows what it does"
