#!/bin/sh
# Takes a real virtual machine through its lifecycle. The machine is removed at the end; the image stays in your home, so
# that your own first machine starts quickly.
set -eu

interlock=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
export INTERLOCK_LOG_FORMAT=human
name=demo
if "$interlock" inspect "$name" >/dev/null 2>&1; then name=demo-$$; fi # the existing one is yours
trap '"$interlock" delete --force "$name" 2>/dev/null || true' EXIT

run() {
    printf '\n\033[1m$ interlock %s\033[0m\n' "$*"
    "$interlock" "$@"
}

run image build tiny
run create "$name" --template tiny --yes
run start "$name"
run list
run shell "$name" -- uname -a
run can "$name" delete || true
run stop "$name"
run start "$name"
run diagram "$name"
run stop "$name"
run history "$name"
run delete "$name"

cat <<END

The program is $interlock; docs/guide.md says how to install it.
The image is kept, so your first machine takes seconds:

    $interlock up web --template tiny
    $interlock shell web
    $interlock delete --force web

With --template debian you get a Debian with systemd and apt; its image is built once, which takes some minutes.
END
