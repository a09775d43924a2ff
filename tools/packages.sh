#!/bin/sh
# Installs the named Debian packages that are missing; if all are installed, it does nothing and needs no root.
set -eu

missing=
for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "installing:$missing" >&2
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update --quiet --quiet
# shellcheck disable=SC2086 - a list of names
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --option Dpkg::Use-Pty=0 --no-install-recommends $missing >/dev/null
