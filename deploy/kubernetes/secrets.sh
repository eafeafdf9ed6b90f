#!/bin/sh
# Prints the secrets of a federation for `kubectl apply -f -`, from the folder that `neurofed provision init` made.
# The authority's key stays in that folder. For monitoring, put lines `operator TOKEN` and `viewer TOKEN` into http/tokens.
set -eu

pki=${1:?expected the folder that neurofed provision made}
namespace=${2:-neurofed}

secret() { # NAME
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: Opaque\ndata:\n' "$1" "$namespace"
}

entry() { # KEY FILE
  printf '  %s: %s\n' "$1" "$(base64 <"$2" | tr -d '\n')"
}

for role in server viewer operator; do
  secret "neurofed-$role"
  for file in "$pki/$role"/*; do entry "${file##*/}" "$file"; done
done
if [ -e "$pki/http/tokens" ]; then
  secret neurofed-http
  entry tokens "$pki/http/tokens"
  secret neurofed-monitoring
  entry ca.crt "$pki/server/ca.crt"
  sed -n 's/^viewer //p' "$pki/http/tokens" | tr -d '\n' | entry viewer-token /dev/stdin
fi
secret neurofed-workers
for folder in "$pki"/worker-*; do
  for file in "$folder"/*; do entry "${folder##*/worker-}.${file##*/}" "$file"; done
done
