#!/bin/sh
# Takes a real virtual machine through its life, in a home of its own that is gone afterwards.
set -eu

interlock=$1
INTERLOCK_HOME=$(mktemp -d)
export INTERLOCK_HOME INTERLOCK_LOG_FORMAT=human
trap '"$interlock" delete --force web 2>/dev/null || true; rm -rf "$INTERLOCK_HOME"' EXIT

run() {
    printf '\n\033[1m$ interlock %s\033[0m\n' "$*"
    "$interlock" "$@"
}

run image build tiny
run create web --template tiny --yes
run start web
run list
run shell web -- uname -a
run can web delete || true
run stop web
run start web
run diagram web
run stop web
run history web
run delete web
run list
