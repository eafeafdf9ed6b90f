#!/bin/sh
# Before the worker starts: what systemd hands over in CREDENTIALS_DIRECTORY goes to STATE_DIRECTORY, readable for the
# worker's user alone. An empty file is none, and then what the worker has got by itself stays.
set -eu
umask 077

keep() { # FILE TARGET
  if [ -s "$CREDENTIALS_DIRECTORY/$1" ]; then
    cp "$CREDENTIALS_DIRECTORY/$1" "$2.new"
    mv -f "$2.new" "$2"
  fi
}

mkdir -p "$STATE_DIRECTORY/tls"
keep join.token "$STATE_DIRECTORY/join.token"
for name in ca.crt tls.crt tls.key; do
  keep $name "$STATE_DIRECTORY/tls/$name"
done
