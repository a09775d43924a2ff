# Grows the file system that keeps a guest's data to the size of the disk below it; run by root, in any kind of shell.
# If the guest lacks a program, or the layout of its disk does not allow it, the script says so and fails.

PATH=$PATH:/usr/sbin:/sbin

# The tiny guest runs in memory, and keeps its data below /disk.
device= kept=
while read -r from at type _; do
    case "$at $from" in
    "/ /dev/"*) device=$from folder=$at kind=$type ;;
    "/disk /dev/"*) kept=$from kept_kind=$type ;;
    esac
done </proc/self/mounts
[ -n "$device" ] || { device=$kept folder=/disk kind=$kept_kind; }
[ -n "$device" ] || { echo "its data is on no disk" && exit 1; }
[ "$device" != /dev/root ] || device=$(findfs "$(sed 's/.*root=\([^ ]*\).*/\1/' /proc/cmdline)")

name=${device##*/}
[ -e "/sys/class/block/$name" ] || { echo "$device is no partition of a disk" && exit 1; }

# The partition grows first. The guest itself, or an earlier attempt that was cut off, may already have grown it.
if [ -e "/sys/class/block/$name/partition" ]; then
    read -r number <"/sys/class/block/$name/partition"
    disk=$(readlink -f "/sys/class/block/$name")
    disk=${disk%/*}
    disk=${disk##*/}
    before=$(cat "/sys/class/block/$name/size")
    if command -v growpart >/dev/null; then
        growpart "/dev/$disk" "$number" >/dev/null 2>&1
    elif command -v sfdisk >/dev/null; then
        echo ', +' | sfdisk --quiet --no-reread --no-tell-kernel -N "$number" "/dev/$disk" >/dev/null 2>&1
        partx --update --nr "$number" "/dev/$disk"
    fi
    now=$(cat "/sys/class/block/$name/size")
    behind=$(($(cat "/sys/class/block/$disk/size") - $(cat "/sys/class/block/$name/start") - now))
    # In sectors: the partition table's second copy and the alignment take 1 or 2 MiB.
    [ "$now" -gt "$before" ] || [ "$behind" -lt 8192 ] ||
        { echo "the partition $device did not grow with its disk" && exit 1; }
fi

case $kind in
ext*) set -- resize2fs "$device" ;;
xfs) set -- xfs_growfs "$folder" ;;
btrfs) set -- btrfs filesystem resize max "$folder" ;;
*) echo "nothing here grows a file system of the type $kind" && exit 1 ;;
esac
command -v "$1" >/dev/null || { echo "this guest has no $1" && exit 1; }
said=$("$@" 2>&1) || { echo "$1: $said" && exit 1; }
