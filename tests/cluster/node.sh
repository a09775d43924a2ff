#!/bin/sh
# Becomes the first process of a node of the cluster, in namespaces that unshare(1) has made.
#
#     node.sh NAME CHROOT DIRECTORY SHARED
#
# Its disk is DIRECTORY/upper over the folder CHROOT, which all nodes share read-only. SHARED is /srv on every node, in
# place of a network file system.
set -eu
name=$1 chroot=$2 directory=$3 shared=$4
root=$directory/root

mkdir -p "$directory/upper" "$directory/work" "$root"
mount -t overlay "$name" -o "lowerdir=$chroot,upperdir=$directory/upper,workdir=$directory/work" "$root"
hostname "$name"
cd "$root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 dev dev
mkdir -p dev/net dev/pts dev/shm
for device in null zero full random urandom tty net/tun; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 run run
mkdir -p run/sshd run/lock old
mount --bind "$shared" srv

pivot_root . old
# A zombie looks alive to a program that waits for it to end, so the first process has to reap children.
exec chroot . /bin/sh -c 'umount -l /old && exec python3 -c "
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
print(flush=True)
os.dup2(os.open(os.devnull, os.O_RDWR), 1)
while True:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError:
        pass
    signal.sigwait([signal.SIGCHLD])
"'
