#!/bin/sh
# Puts pyright into the folder $1: besides mypy, the type checker for programs that embed Interlock.
set -eu

command -v npm >/dev/null || "$(dirname "$0")/packages.sh" npm

parts=$1.part
rm -rf "$parts" "$1"
mkdir -p "$parts"
archive=$(npm pack --silent --pack-destination "$parts" pyright@1.1.414)
tar -xzf "$parts/$archive" -C "$parts" --strip-components=1
rm "$parts/$archive"
mv "$parts" "$1"
