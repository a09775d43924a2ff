#!/bin/sh
# Puts the JavaScript libraries that draw and run our diagrams into the folder $1, and installs the programs that the
# tests render them with. If no browser can be installed, the tests that need one are skipped, and say so.
set -eu

here=$(dirname "$0")
command -v npm >/dev/null || "$here/packages.sh" npm
command -v plantuml >/dev/null || "$here/packages.sh" plantuml
command -v chromium >/dev/null || command -v google-chrome >/dev/null || "$here/packages.sh" chromium ||
    echo "no Chromium: the diagrams for Mermaid, XState and SCXML will not be tested" >&2

# fetch PACKAGE@VERSION FILE...: extracts these files from an npm package, without its dependencies.
fetch() {
    package=$1
    shift
    archive=$(npm pack --silent --pack-destination "$parts" "$package")
    for file in "$@"; do tar -xzf "$parts/$archive" -O "package/$file" >"$parts/$(basename "$file")"; done
    rm "$parts/$archive"
}

parts=$1.part
rm -rf "$parts" "$1"
mkdir -p "$parts"
fetch mermaid@11.17.2 dist/mermaid.min.js
fetch xstate@5.33.3 dist/xstate.umd.min.js
fetch scxml@5.0.4 dist/scxml.min.js
fetch regenerator-runtime@0.14.1 runtime.js # scxml needs it
mv "$parts" "$1"
