# Gives a running guest another identity. These functions are read after those of `interlock`, whose facts they change.
#
#     get_ready   just before the machine is copied: does the slow look-ups, so that the copies need not
#     stand_by    the same, for a guest that belongs to no instance: also ends all sessions
#     identity    in a copy of an instance's guest: makes it another instance's
#     become      in a copy of a guest that belonged to no instance: makes it an instance's, as a first boot would
#
# In an emulated guest, a new process costs as much as a thousand lines in a running shell. So the shell itself does
# what every copy has to do: it reads and writes small files, and overwrites files in place.
#
# A new identity is one line of words NAME=VALUE, the values escaped as for printf's %b: facts of the seed, and also
#
#     boot, mark                      the boot of the original, and the mark of the copying in its kernel's log
#     clock                           the present time, in seconds since 1970
#     machine-id                      of the new instance
#     random                          something to stir into the kernel's random state
#     ssh_host_ed25519_key(.pub)      the only host key from now on
#     dropbear_host_key               the same, as dropbear reads it
#     without                         names of facts that the seed no longer has, each between two commas
#
# If something cannot be done, $reason says what. Each function may be repeated. Before the host gets its answer, only
# those things are changed that must differ before anybody can see the guest; `settle` then writes the seed. Until all is
# flushed, `booted` lacks the instance's id, so a guest that loses power before that boots with the identity of its seed.

watched=/run/interlock.reseeded
reason=

# Reads the facts $1 into variables.
take() {
    new_random='' new_clock='' new_boot='' new_mark='' new_machine_id='' new_host_key='' new_public_key=''
    new_dropbear_key='' new_user_keys='' new_id='' new_hostname='' new_hosts='' new_lima='' without='' given=' '
    facts=$1 kept=''
    set -f
    for word in $1; do
        name=${word%%=*} value=${word#*=}
        given="$given$name "
        case $name in
        random) new_random=$value ;;
        clock) new_clock=$value ;;
        boot) new_boot=$value ;;
        mark) new_mark=$value ;;
        machine-id) new_machine_id=$value ;;
        ssh_host_ed25519_key) new_host_key=$value ;;
        dropbear_host_key) new_dropbear_key=$value ;;
        instance-id) new_id=$value ;;
        authorized_keys) new_user_keys=$value ;;
        without) without=$value ;;
        hostname) new_hostname=$value ;;
        hosts) new_hosts=$value ;;
        lima.env) new_lima=$value ;;
        ssh_host_ed25519_key.pub) new_public_key=$value ;;
        esac
    done
    set +f
}

# Writes the facts that `take` has read to the seed, except the instance's id.
keep_facts() {
    [ -z "$kept" ] || return 0
    for it in "$seed"/*; do
        case $without in *,"${it##*/}",*) rm -rf "$it" ;; esac
    done
    set -f
    for word in $facts; do
        name=${word%%=*}
        case $name in
        random | clock | boot | mark | machine-id | without | instance-id | ssh_host_ed25519_key | dropbear_host_key) ;;
        *) (umask 077 && printf %b "${word#*=}" >"$seed/$name") || return ;;
        esac
    done
    set +f
    kept=yes
}

# Succeeds if one of the facts $* has changed.
changed() {
    for it in "$@"; do
        case $given$without in *" $it "* | *",$it,"*) return 0 ;; esac
    done
    return 1
}

identity() {
    seed=$state/seed
    take "$1"
    [ ! -f "$state/peers" ] || rm -f "$state/peers"
    must "key of the user" set_user_keys && take_over || return
    [ ! -f "$seed/lan-mac" ] || { must "seed" keep_facts && must "network of instances" join_lan && claim_lan; }
}

# Reads $2 bytes from stdin: a tar archive with the facts that lie in folders of the seed.
become() {
    seed=$state/seed failed=''
    [ "${2:-0}" = 0 ] || (umask 077 && head -c "$2" | tar -x -f - -C "$seed") || { reason="the seed is damaged" && return 1; }
    take "$1"
    ! changed user uid home shell comment authorized_keys sudo timezone zone locale environment.sh dns || refurnish >/dev/null || return
    take_over
}

# Changes everything that no two guests may share.
take_over() {
    must "random state" renew_random &&
        must "clock" set_clock &&
        must "machine id" set_machine_id &&
        must "hostname" take_name &&
        must "variables of Lima" take_lima &&
        must "host key" set_host_key
}

# Does what can wait until the host has its answer.
settle() {
    keep_facts && printf %b "$new_id" >"$seed/instance-id"
    [ -z "$watcher" ] || kill "$watcher"
    watcher=
}

take_name() {
    printf %b "$new_hostname" >"$root/etc/hostname" || return
    [ -n "$root" ] || printf %b "$new_hostname" >/proc/sys/kernel/hostname || return
    [ -z "$new_hosts" ] || put_text "$root/etc/hosts" "$new_hosts" %b
}

take_lima() {
    [ -n "$new_lima" ] || return 0
    [ -d "$root/mnt/lima-cidata" ] || mkdir -p "$root/mnt/lima-cidata" || return
    printf %b "$new_lima" >"$root/mnt/lima-cidata/lima.env"
}

# Runs the steps of a first boot whose facts have changed since this guest belonged to no instance. Sets $failed if one
# failed.
refurnish() {
    fact user && former=$fact
    fact home && former_home=$fact
    keep_facts || { reason="the seed cannot be written" && return 1; }
    # Before the user is made: with the new id, `has_booted` fails until this instance's first boot is over.
    printf %b "$new_id" >"$seed/instance-id"
    if changed user uid home shell comment authorized_keys sudo; then
        must "former user" remove_user || return
        attempt user "user" make_user
    fi
    # Without a time zone, a guest uses UTC.
    [ -f "$seed/timezone" ] || ! changed timezone || rm -f "$root/etc/localtime" "$root/etc/timezone"
    [ ! -f "$seed/timezone" ] || ! changed timezone zone || attempt timezone "time zone" set_timezone
    ! changed locale || sed -i '/^LANG=/d' "$root/etc/default/locale" "$root/etc/locale.conf" 2>/dev/null
    [ ! -f "$seed/locale" ] || ! changed locale || attempt locale "locale" set_locale
    [ ! -f "$seed/environment.sh" ] || attempt environment "environment" set_environment
    [ ! -f "$seed/dns" ] || attempt dns "name servers" set_dns
}

# Succeeds if the first boot has more work than to record that it is over, such as reporting what failed.
has_work() {
    [ -z "$failed" ] || return 0
    for each in scripts files disks mounts lan-mac ca remove-default-ca-certs upgrade-packages; do
        [ ! -e "$seed/$each" ] || return 0
    done
    return 1
}

# Starts the rest of the first boot in the background.
begin_work() {
    claim_lan
    rm -f "$state/booted"
    if by_systemd && [ -f "$root/etc/systemd/system/interlock-first-boot.service" ]; then
        : >"$state/pending"
        systemctl --no-block restart interlock-first-boot.service
    else
        setsid sh "$seed/interlock" boot </dev/null >/dev/null 2>&1 3>&- 4>&- &
    fi
}

# Flushes the changes, and then records that the first boot of this instance is over.
become_known() {
    sync && cat "$seed/instance-id" >"$state/booted" && sync
}

must() {
    title=$1
    shift
    "$@" >/dev/null 2>&1 </dev/null || { reason="the $title could not be changed" && return 1; }
}

# The kernel renews its random state when the machine's generation id changes, and says so in its log; until then copies
# of a guest draw the same numbers. What is written to /dev/urandom is stirred in, but has no effect for minutes.
renew_random() {
    printf %s "$new_random" >/dev/urandom || return
    know_boot
    [ "$new_boot" = "$boot_id" ] || return 0
    for try in 01 01 02 02 04 05 1 1 1 2 2 3 4 5 6 7 8 9; do
        ! was_renewed || return 0
        sleep 0.$try
    done
    dmesg | sed -n "/interlock: copying $new_mark/,\$p" | grep -q 'reseeded due to virtual machine fork'
}

# Succeeds if the process that `watch_log` started has seen the renewal; or, without that process, if the log has it.
was_renewed() {
    if [ -f "$watched" ]; then
        seen=
        read -r seen <"$watched" && [ "$seen" = "$new_mark renewed" ]
    else
        dmesg | sed -n "/interlock: copying $new_mark/,\$p" | grep -q 'reseeded due to virtual machine fork'
    fi
}

# Writes the mark $1 to the kernel's log, and starts a process that waits for the kernel to log a copying after the mark.
watch_log() {
    [ -z "$watcher" ] || kill "$watcher"
    rm -f "$watched"
    say "interlock: copying $1" >/dev/kmsg || return
    awk -v mark="$1" -v seen="$watched" '
        index($0, "interlock: copying " mark) { found = 1; print mark >seen; close(seen) }
        found && /reseeded due to virtual machine fork/ { print mark, "renewed" >seen; close(seen) }
    ' </dev/kmsg >/dev/null 2>&1 3>&- 4>&- &
    watcher=$!
    # The process reads the whole log before it waits.
    for try in 1 1 1 1 1 2 2 3 4 5; do
        [ ! -s "$watched" ] || return 0
        sleep 0.$try
    done
    rm -f "$watched"
}
watcher=

# A clock that is right is not changed. The machine's own clock kept running; the host's time is out of date by the time
# that the request waited.
set_clock() {
    [ -n "$new_clock" ] || return 0
    { read -r now </sys/class/rtc/rtc0/since_epoch; } 2>/dev/null && new_clock=$now
    late=$((new_clock - ${EPOCHSECONDS:-$(date +%s)}))
    [ $late -ge -1 ] && [ $late -le 1 ] || date -s "@$new_clock"
}

set_machine_id() {
    [ -n "$new_machine_id" ] || return
    for file in "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"; do
        # The file of D-Bus is a link to the other one, a file of its own, or missing.
        [ "$file" = "$root/etc/machine-id" ] || { [ -f "$file" ] && [ ! -h "$file" ]; } || continue
        [ -f "$file" ] || { printf '' >"$file" && chmod 444 "$file"; } || return
        printf %b "$new_machine_id" >"$file" || return
    done
}

# Replaces the host's keys, and keeps those that the user has added.
set_user_keys() {
    [ -n "$new_user_keys" ] || return 0
    fact home
    keys=$root$fact/.ssh/authorized_keys
    others=$(grep -vxF -f "$seed/authorized_keys" "$keys")
    printf '%s%b' "${others:+$others$newline}" "$new_user_keys" >"$keys"
}

# Removes the former user, its right to become root, and the keys with which root could log in.
remove_user() {
    [ "$former" = root ] || sed -i "/^$former:/d" "$root/etc/passwd" "$root/etc/shadow" "$root/etc/group" || return
    for file in "$root/etc/gshadow" "$root/etc/subuid" "$root/etc/subgid"; do
        [ "$former" = root ] || [ ! -f "$file" ] || sed -i "/^$former:/d" "$file"
    done
    [ "$former" = root ] || rm -rf "$root/${former_home#/}" "$root/var/mail/$former"
    rm -f "$root/root/.ssh/authorized_keys" "$root/etc/sudoers.d/interlock" "$root/etc/doas.d/interlock.conf"
    # The tiny guest's `sudo` asks for root's password, which is empty if the user may become root.
    [ -d "$root/etc/dropbear" ] || return 0
    if [ -f "$seed/sudo" ]; then
        sed -i 's/^root:\*:/root::/' "$root/etc/shadow"
    else
        sed -i 's/^root::/root:*:/' "$root/etc/shadow"
    fi
}

# --- the ssh server ---------------------------------------------------------------------------------------------------

# Sets $servers to the processes that wait for connections, $key_file to the file with their key, $by_socket to yes if
# systemd starts a server when a connection comes, and $rereads to yes if the key is read again for each connection.
know_server() {
    servers='' by_socket='' rereads='' key_file=$root/etc/ssh/ssh_host_ed25519_key
    if [ -d "$root/etc/dropbear" ]; then
        key_file=$root/etc/dropbear/host_key
        for pid in $(pidof dropbear); do
            read -r _ _ _ parent _ <"/proc/$pid/stat" && read -r name <"/proc/$parent/comm" || continue
            # A newer dropbear executes itself again for each connection (-2 DESCRIPTOR), before it reads anything.
            if [ "$name" != dropbear ]; then
                servers="$servers $pid"
            elif tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -e ' -2 '; then
                rereads=yes
            fi
        done
    elif by_systemd && systemctl --quiet is-active ssh.socket sshd.socket; then
        by_socket=yes
    else
        for file in "$root/run/sshd.pid" "$root/var/run/sshd.pid"; do
            [ -z "$servers" ] && [ -f "$file" ] && read -r servers <"$file"
        done
        # sshd executes itself again, too, before 9.8, which has another program for sessions.
        [ -z "$servers" ] || [ -e /usr/lib/openssh/sshd-session ] || [ -e /usr/libexec/openssh/sshd-session ] || rereads=yes
    fi
    known_server=yes
}
known_server=

# Makes the server read its key again.
restart_server() {
    if [ -d "$root/etc/dropbear" ]; then
        for pid in $servers; do
            # Its parent, which keeps it running, reads the environment for sessions only when it starts.
            if [ -f "$seed/environment.sh" ]; then
                read -r _ _ _ parent _ <"/proc/$pid/stat" && kill "$parent"
            fi
            kill -KILL "$pid"
        done
    elif [ -n "$by_socket" ]; then
        systemctl try-restart ssh.service
    else
        for pid in $servers; do kill -HUP "$pid"; done
    fi
}

# Makes the new host key the only one, and returns once a server that shows it listens. A process of its own handles each
# connection, and draws fresh random numbers.
set_host_key() {
    [ -n "$new_host_key" ] || return 0
    [ -n "$known_server" ] || know_server
    server_key=$new_host_key
    [ ! -d "$root/etc/dropbear" ] || server_key=$new_dropbear_key
    [ -n "$server_key" ] || return
    for file in "$root"/etc/ssh/ssh_host_*; do
        [ ! -e "$file" ] || [ "$file" = "$key_file" ] || [ "$file" = "$key_file.pub" ] || rm -f "$file"
    done
    [ -d "$root/etc/dropbear" ] || printf %b "$new_public_key" >"$key_file.pub" || return
    [ -f "$key_file" ] || { printf '' >"$key_file" && chmod 600 "$key_file"; } || return
    printf %b "$server_key" >"$key_file" || return
    if [ -n "$rereads" ] && ! changed environment.sh; then return; fi
    know_listener
    before=$listener
    restart_server
    [ -n "$before" ] && [ -z "$by_socket" ] || return 0
    for try in 02 02 02 03 03 05 05 1 1 1 2 2 2 3 3 4 5 6 7 8 9 9 9 9; do
        know_listener
        ! is_renewed || return 0
        sleep 0.$try
    done
    return 1
}

# Succeeds if at least as many sockets listen as in $before, and all of them are new: while a server stops or starts, it
# may have only some of its sockets.
is_renewed() {
    before_count=0 count=0
    for socket in $before; do before_count=$((before_count + 1)); done
    for socket in $listener; do
        case "$before " in *" $socket "*) return 1 ;; esac
        count=$((count + 1))
    done
    [ $count -ge $before_count ]
}

# Sets $listener to the sockets that listen on ssh's port.
know_listener() {
    listener=
    for table in "$root/proc/net/tcp" "$root/proc/net/tcp6"; do
        [ -r "$table" ] || continue
        while read -r _ address _ status _ _ _ _ _ inode _; do
            case "$address $status" in *:"0016 0A") listener="$listener $inode" ;; *" 0A" | *" st") ;; *) break ;; esac
        done <"$table"
    done
}

# --- before the machine is copied ---------------------------------------------------------------------------------------

# $1 is the mark.
get_ready() {
    know_server
    watch_log "$1"
}

stand_by() {
    know_server
    fact user
    ! by_systemd || [ "$fact" = root ] || loginctl terminate-user "$fact"
    for pid in $(pidof sshd sshd-session dropbear); do
        case " $servers " in *" $pid "*) ;; *) kill -KILL "$pid" ;; esac
    done
    watch_log "$1"
}
