#!/bin/sh
# Answers the host on a virtio-serial port, one line for each line:
#
#     NONCE ping                  ok BOOT_ID                      it is there, and this is the boot
#     NONCE copying MARK          ok BOOT_ID                      the kernel's log has a line with the mark from now on
#     NONCE ready INSTANCE_ID     ok yes KEY | ok soon | ok no    yes: sshd listens and has the host's key, this boot's work
#                                                                 is over, and nothing failed; soon: nothing has failed yet. KEY is the host's
#     NONCE ports                 ok TABLE:ADDRESS:PORT...        what listens, as /proc/net/tcp and tcp6 write it
#     NONCE load                  ok LOAD LOAD LOAD KIB UPTIME    of 1, 5, 15 minutes; memory that is available
#     NONCE clock SECONDS         ok                              the clock is set to this time, counted from 1970
#     NONCE identity FACTS        ok                              this guest is another instance's (`interlock identity`)
#     NONCE peers FACT            ok                              the guests on its network have these names (`interlock peers`)
#     NONCE become BYTES          ok                              this guest is the instance's of the so many bytes that follow
#                                                                 (`interlock become`)
#
# An answer begins with the request's nonce, so that late answers to an earlier client are recognised; `failed REASON`
# is an answer, too. Images that Interlock built run this from the seed; status 3 says that the machine has no such port.

NAME=interlock.agent
LONGEST=4000

program=${0%/*}/interlock
state=/var/lib/interlock

say() { printf '%s\n' "$*"; }

# Sets $port to the device of the port, once the kernel has found it.
find_port() {
    grep -qs 0x0003 /sys/bus/virtio/devices/*/device || return
    for try in 0 1 2 3 4 5 6 7 8 9; do
        for candidate in /sys/class/virtio-ports/*; do
            name=
            [ ! -f "$candidate/name" ] || read -r name <"$candidate/name"
            port=/dev/${candidate##*/}
            [ "$name" != $NAME ] || [ ! -c "$port" ] || return 0
        done
        sleep 0.$try 2>/dev/null || sleep 1
    done
    return 1
}

# Sets $boot.
know_boot() { read -r boot </proc/sys/kernel/random/boot_id; }

# Sets $found to what listens on TCP.
know_ports() {
    found=
    for table in tcp tcp6; do
        [ -r /proc/net/$table ] || continue
        while read -r _ address _ status _; do
            [ "$status" != 0A ] || [ ${#found} -ge $LONGEST ] || found="$found $table:$address"
        done </proc/net/$table
    done
}

# Sets $key to the public key by which the host recognises this guest.
know_key() {
    key=
    [ -f "${0%/*}/ssh_host_ed25519_key.pub" ] && read -r _ key _ <"${0%/*}/ssh_host_ed25519_key.pub"
}

# Whether the host may log in by its key: without that, only a login tells what is wrong.
admits_host() {
    read -r home <"${0%/*}/home" && grep -qxFf "${0%/*}/authorized_keys" "$home/.ssh/authorized_keys"
}

# Sets $ready, after a second if that is how long the boot's work still takes.
know_readiness() {
    know_boot
    for try in 1 1 2 2 4; do
        ready=no
        # What failed in an earlier boot stands until it succeeds; then, and where work recurs, ssh has the words.
        [ ! -e $state/each-boot ] || return
        of='' failed=''
        [ ! -f $state/news ] || { read -r of && read -r failed; } <$state/news
        [ "$of" != "$boot" ] || [ -z "$failed" ] || return
        booted=
        [ ! -f $state/booted ] || read -r booted <$state/booted
        know_ports
        case "$booted $found " in
        "$1 "*":0016 "*)
            ! { know_key && admits_host; } || ready="yes $key"
            return
            ;;
        esac
        ready=soon
        sleep 0.$try
    done
}

load() {
    read -r one five fifteen _ </proc/loadavg
    available=0
    while read -r name amount _; do
        [ "$name" != MemAvailable: ] || available=$amount
    done </proc/meminfo
    read -r uptime _ </proc/uptime
    say "ok $one $five $fifteen $available $uptime"
}

# Prints the answer to the request $1 with the argument $2.
answer() {
    case $1 in
    ping) know_boot && say "ok $boot" ;;
    copying) know_boot && say "interlock: copying $2" >/dev/kmsg && say "ok $boot" ;;
    ready) know_readiness "$2" && say "ok $ready" ;;
    ports) know_ports && say "ok$found" ;;
    load) load ;;
    clock) date -s "@$2" >/dev/null && say ok ;;
    # On stdin, because a host key is in it, and everybody can read a command line.
    identity) if reason=$(say "$2" | sh "$program" identity 3>&-); then say ok; else say "failed $reason"; fi ;;
    peers) printf '%b\n' "${2#*=}" | sh "$program" peers >/dev/null && say ok ;;
    become) if reason=$(head -c "$2" <&3 | sh "$program" become 3>&-); then say ok; else say "failed $reason"; fi ;;
    *) say "failed $1 is unknown" ;;
    esac
}

find_port || exit 3
exec 3<>"$port" || exit
while :; do
    # While the host is not connected, a read ends at once, and a write waits: so this waits for the host.
    say "interlock agent 1" >&3
    while read -r nonce verb argument <&3; do
        reply=$(answer "$verb" "$argument" 2>/dev/null </dev/null | head -n 1 | cut -b -$LONGEST)
        say "$nonce $reply" >&3
    done
done
