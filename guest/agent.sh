#!/bin/sh
# Answers the host's requests on a virtio-serial port, one line each:
#
#     NONCE ping                  ok BOOT_ID                      the agent is running, in this boot
#     NONCE copying MARK          ok BOOT_ID                      the kernel's log now has a line with the mark
#     NONCE standby MARK          ok BOOT_ID                      likewise; this guest, which belongs to no instance, now
#                                                                 only serves to be copied, for instances to take over
#     NONCE ready INSTANCE_ID     ok yes KEY | ok soon | ok no    yes: sshd listens, the host may log in, this boot's work
#                                                                 is over, and nothing failed; KEY is the guest's host
#                                                                 key. soon: nothing has failed yet
#     NONCE ports                 ok TABLE:ADDRESS:PORT...        what listens, in the form of /proc/net/tcp and tcp6
#     NONCE load                  ok LOAD LOAD LOAD KIB UPTIME    of 1, 5, 15 minutes; memory that is available
#     NONCE clock SECONDS         ok                              the clock is set: to the machine's own clock, or else
#                                                                 to this time, in seconds since 1970
#     NONCE identity FACTS        as for ready                    this guest is now another instance's (guest/identity.sh)
#     NONCE peers FACT            ok                              the guest knows the names of the others on its network
#                                                                 (`interlock peers`)
#     NONCE become BYTES FACTS    as for ready                    this guest, which belonged to no instance, is now an
#                                                                 instance's; BYTES of a tar archive follow the request
#
# An answer begins with the request's nonce, so that late answers to an earlier client are recognised; `failed REASON`
# is an answer, too. Images that Interlock built run this from the seed; status 3 means that the machine has no such port.
#
# It starts a process only for what the shell cannot do itself: under emulation, each costs tens of milliseconds.

NAME=interlock.agent
LONGEST=4000

# With random addresses, the emulator has to translate each new program again, ten thousand blocks of code.
if [ -z "${INTERLOCK_AGENT-}" ] && [ -x /usr/bin/setarch ]; then
    export INTERLOCK_AGENT=yes
    exec setarch "$(uname -m)" -R /bin/sh "$0"
fi

folder=${0%/*}
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

# Sets $boot_id.
know_boot() { read -r boot_id </proc/sys/kernel/random/boot_id; }

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

# Succeeds if something listens at ssh's port.
ssh_listens() {
    for table in tcp tcp6; do
        [ -r /proc/net/$table ] || continue
        # The kernel lists the listening sockets first.
        while read -r _ address _ status _; do
            case $address:$status in *:0016:0A) return 0 ;; *:0A | *:st) ;; *) break ;; esac
        done </proc/net/$table
    done
    return 1
}

# Sets $key to the public key by which the host recognises this guest.
know_key() {
    key=
    [ -f "$folder/ssh_host_ed25519_key.pub" ] && read -r _ key _ <"$folder/ssh_host_ed25519_key.pub"
}

# Succeeds if the host may log in with its key. If it may not, only an attempt to log in shows what is wrong.
admits_host() {
    read -r home <"$folder/home" && [ -f "$home/.ssh/authorized_keys" ] || return
    while read -r mine; do
        while read -r theirs; do
            [ "$theirs" != "$mine" ] || return 0
        done <"$home/.ssh/authorized_keys"
    done <"$folder/authorized_keys"
    return 1
}

# Sets $ready, after waiting up to a second for the boot's work to end.
know_readiness() {
    know_boot
    for try in 1 1 2 2 4; do
        ready=no
        # An earlier boot's failure stays until that step succeeds. Until then, and if work recurs, ssh reports it.
        [ ! -e $state/each-boot ] || return
        of='' failed=''
        [ ! -f $state/news ] || { read -r of && read -r failed; } <$state/news
        [ "$of" != "$boot_id" ] || [ -z "$failed" ] || return
        booted=$became
        [ "$became" = "$1" ] || [ ! -f $state/booted ] || read -r booted <$state/booted
        if [ "$booted" = "$1" ] && ssh_listens; then
            ! { know_key && admits_host; } || ready="yes $key"
            return
        fi
        ready=soon
        sleep 0.$try
    done
}
# The instance that this process has made the guest of; over ssh, another process may have done so since, for a later one.
became=

load() {
    read -r one five fifteen _ </proc/loadavg
    available=0
    while read -r name amount _; do
        [ "$name" != MemAvailable: ] || { available=$amount && break; }
    done </proc/meminfo
    read -r uptime _ </proc/uptime
    reply="ok $one $five $fifteen $available $uptime"
}

# Reads the functions by which a guest takes another identity, once.
know_how() {
    [ -n "$knows" ] || { set -- library && . "$folder/interlock" && . "$folder/identity" && knows=yes; }
}
knows=

# Answers that this guest is ready as the guest of its new instance; its ssh server listens.
introduce() {
    became=${new_id%%\\*} key=${new_public_key#*\\0040} ready=no later=yes
    ! admits_host || ready="yes ${key%%\\*}"
    reply="ok $ready"
}

# Sets $reply to the answer to the request $1 with the argument $2.
answer() {
    reply=failed
    case $1 in
    ping) know_boot && reply="ok $boot_id" ;;
    copying) know_how && get_ready "$2" && know_boot && reply="ok $boot_id" ;;
    standby) know_how && stand_by "$2" && know_boot && reply="ok $boot_id" ;;
    ready) know_readiness "$2" && reply="ok $ready" ;;
    ports) know_ports && reply="ok$found" ;;
    load) load ;;
    clock)
        # The machine's own clock kept running; the host's time is out of date by the time that this request waited.
        { read -r now </sys/class/rtc/rtc0/since_epoch; } 2>/dev/null || now=$2
        date -s "@$now" && reply=ok
        ;;
    identity) if know_how && identity "$2"; then introduce; else reply="failed $reason"; fi ;;
    peers) printf '%b\n' "${2#*=}" | sh "$folder/interlock" peers 4>&- && reply=ok ;;
    become)
        if ! know_how || ! become "${2#* }" "${2%% *}" <&4; then
            reply="failed $reason"
        elif has_work; then
            settle && begin_work && reply="ok soon"
        else
            introduce
        fi
        ;;
    *) reply="failed $1 is unknown" ;;
    esac
}

find_port || exit 3
exec 4<>"$port" || exit
while :; do
    # While the host is not connected, a read ends at once but a write blocks, so this line waits for the host.
    say "interlock agent 1" >&4
    while read -r nonce verb argument <&4; do
        later=
        answer "$verb" "$argument" >/dev/null 2>&1 </dev/null
        printf "%s %.${LONGEST}s\n" "$nonce" "$reply" >&4
        if [ -n "$later" ]; then
            settle && { become_known 4>&- & }
        fi >/dev/null 2>&1 </dev/null
    done
done
