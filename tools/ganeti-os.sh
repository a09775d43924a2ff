#!/bin/sh
# Packs the OS definition `interlock-os` for the nodes of a Ganeti cluster: tools/ganeti-os.sh [FOLDER]
#
# The package is written to FOLDER, by default the working directory. It contains only the folder
# drivers/ganeti/interlock-os, which can also be copied to /usr/share/ganeti/os on each node by hand.
set -eu
into=$(realpath "${1:-.}")
cd "$(dirname "$0")/.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' version.py)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/usr/share/ganeti/os" "$work/DEBIAN"
cp -R drivers/ganeti/interlock-os "$work/usr/share/ganeti/os/"
cat >"$work/DEBIAN/control" <<end
Package: interlock-os
Version: $version
Architecture: all
Maintainer: the authors of Interlock <interlock@example.org>
Depends: ganeti, qemu-utils
Section: admin
Priority: optional
Description: OS definition for instances that Interlock makes
 Writes an image from a folder that all nodes share to the disk of a Ganeti instance.
end
chmod -R u=rwX,go=rX "$work"
dpkg-deb --root-owner-group --build "$work" "$into/interlock-os_${version}_all.deb"
