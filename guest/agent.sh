#!/bin/sh
# Answers the host on a virtio-serial port, one line for each line:
#
#     NONCE ping                  ok BOOT_ID                      it is there, and this is the boot
#     NONCE copying MARK          ok BOOT_ID                      the kernel's log has a line with the mark from now on
#     NONCE standby MARK          ok BOOT_ID                      the same, and this guest, which is nobody's, is only good
#                                                                 for copies that become somebody's
#     NONCE ready INSTANCE_ID     ok yes KEY | ok soon | ok no    yes: sshd listens and has the host's key, this boot's work
#                                                                 is over, and nothing failed; soon: nothing has failed yet. KEY is the host's
#     NONCE ports                 ok TABLE:ADDRESS:PORT...        what listens, as /proc/net/tcp and tcp6 write it
#     NONCE load                  ok LOAD LOAD LOAD KIB UPTIME    of 1, 5, 15 minutes; memory that is available
#     NONCE clock SECONDS         ok                              the clock is set: as the machine's own, else to this time, counted from 1970
#     NONCE identity FACTS        as for ready                    this guest is another instance's (guest/identity.sh)
#     NONCE peers FACT            ok                              the guests on its network have these names (`interlock peers`)
#     NONCE become BYTES FACTS    as for ready                    this guest, which was nobody's, is an instance's now; as
#                                                                 many bytes of a tar archive follow
#
# An answer begins with the request's nonce, so that late answers to an earlier client are recognised; `failed REASON`
# is an answer, too. Images that Interlock built run this from the seed; status 3 says that the machine has no such port.
#
# It starts a process only if the shell cannot do without: under emulation, each costs tens of milliseconds.

NAME=interlock.agent
LONGEST=4000

# Where addresses are random, the emulator translates each new program again, ten thousand blocks of code.
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
        # The kernel lists what listens first.
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

# Whether the host may log in by its key: without that, only a login tells what is wrong.
admits_host() {
    read -r home <"$folder/home" && [ -f "$home/.ssh/authorized_keys" ] || return
    while read -r mine; do
        while read -r theirs; do
            [ "$theirs" != "$mine" ] || return 0
        done <"$home/.ssh/authorized_keys"
    done <"$folder/authorized_keys"
    return 1
}

# Sets $ready, after a second if that is how long the boot's work still takes.
know_readiness() {
    know_boot
    for try in 1 1 2 2 4; do
        ready=no
        # A failure of an earlier boot remains until that step succeeds; then, and if work recurs, ssh reports it.
        [ ! -e $state/each-boot ] || return
        of='' failed=''
        [ ! -f $state/news ] || { read -r of && read -r failed; } <$state/news
        [ "$of" != "$boot_id" ] || [ -z "$failed" ] || return
        booted=$became
        [ -n "$became" ] || [ ! -f $state/booted ] || read -r booted <$state/booted
        if [ "$booted" = "$1" ] && ssh_listens; then
            ! { know_key && admits_host; } || ready="yes $key"
            return
        fi
        ready=soon
        sleep 0.$try
    done
}
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

# Has the functions by which a guest takes another identity, which are read once.
know_how() {
    [ -n "$knows" ] || { set -- library && . "$folder/interlock" && . "$folder/identity" && knows=yes; }
}
knows=

# Says that this guest is ready as the instance that it has just become, whose server listens.
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
        # The machine's own kept running; the host's time is as old as the wait was long.
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
    # While the host is not connected, a read ends at once, but a write waits: so this waits for the host.
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
