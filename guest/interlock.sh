#!/bin/sh
# What a guest does with its seed, which contains this program. Every kind of guest runs it, with busybox or dash:
#
#     early   before a login is possible, at the first boot (at every boot, if users are kept in memory): the user,
#             names, time zone, locale, environment, name servers
#     boot    once there is a network, at each boot: disks, mounts, scripts and files. At the first boot certificates
#             and packages come first; later boots skip scripts and files that are marked `once`
#     again   on demand: all scripts and files, preceded by every other step that failed
#     remount on demand, from a folder with other mounts beside it: these replace the mounts in the seed
#     peers       on demand: reads from stdin the addresses and names of the guests on its network
#     identity, become    on demand: gives the guest another identity (guest/identity.sh)
#     library     nothing: another program reads this one for its functions
#
# Its facts lie beside it, one in each file (guest/seed.py draws the tree). A failure does not stop it: a step's output
# and exit status are kept until it runs again, and the host gets every step whose last run failed, in whichever boot
# that was. A first boot that was interrupted starts over, so each step may run twice.
#
#     /var/lib/interlock/
#     ├── seed/               the facts, without the host key's private half; for root only
#     ├── pending             exists until the end of a first boot that is started by an init script
#     ├── booted              the instance's id, once its first boot is over
#     ├── peers              the addresses and names of guests on its network
#     ├── each-boot           exists if later boots have work, such as reporting an earlier failure
#     ├── report              of the last boot with work: its boot_id, then the steps whose last run failed
#     ├── news                of the last boot with work, as it happens: its boot_id, then each step that fails
#     ├── steps               every step that was ever run, in order: NAME TITLE
#     └── scripts/            NAME.log and NAME.status of each step's last run; NAME is NNN-MODE for scripts
#
# INTERLOCK_ROOT is the guest's root directory: other than / only in tests.

root=${INTERLOCK_ROOT-}
seed=${0%/*}
state=$root/var/lib/interlock
results=$state/scripts
umask 022
newline='
'
# After su or sudo, PATH may lack these.
PATH=$PATH:/usr/sbin:/sbin

# Prints its arguments unchanged: echo interprets backslashes in some shells.
say() { printf '%s\n' "$*"; }

# Sets $fact to the fact $1; fails if the seed does not have it.
fact() {
    fact=
    [ -f "$seed/$1" ] && IFS= read -r fact <"$seed/$1"
}

# Sets $boot_id to the id of this boot.
know_boot() { read -r boot_id </proc/sys/kernel/random/boot_id; }

# Records that the step $1 with the title $2 runs. The record is read only once, without starting a process.
note_step() {
    [ -n "$noted" ] || while IFS= read -r line; do noted="$noted$line$newline"; done <"$state/steps"
    case $newline$noted in *"$newline$1 $2$newline"*) return ;; esac
    say "$1 $2" >>"$state/steps" && noted="$noted$1 $2$newline"
}
noted=

# Runs the other arguments as the step with the title $2, whose output is kept under the name $1. Never fails. While
# $only_failed is set, steps whose last run succeeded are skipped.
attempt() {
    step=$1 title=$2
    shift 2
    ended=
    [ -f "$results/$step.status" ] && read -r ended <"$results/$step.status"
    [ -z "$only_failed" ] || [ "$ended" != 0 ] || return 0
    say "running $title"
    note_step "$step" "$title"
    # Without descriptor 3: a background process of the step would keep it open, and a listening session would not end.
    ("$@") >"$results/$step.log" 2>&1 </dev/null 3>&-
    status=$?
    say $status >"$results/$step.status"
    [ $status = 0 ] || { failed=yes && failure | as_news >&3; }
}
only_failed=
exec 3>/dev/null

# Prints how $step ended: `failed STATUS TITLE`, then its last lines, indented.
failure() {
    say "failed $status $title"
    # Long lines are cut; the last line may lack its newline.
    { tail -c 65536 "$results/$step.log" | tail -n 20 | cut -b -2000 | sed 's/^/ /' && echo; } | sed '/^$/d'
}

# Prints each step whose last run failed.
failures() {
    while read -r step title; do
        status=1
        [ -f "$results/$step.status" ] && read -r status <"$results/$step.status"
        [ "$status" = 0 ] || failure
    done <"$state/steps"
}

# Turns failures into news of failures.
as_news() { sed 's/^failed/now failed/'; }

# Succeeds once the first boot of this instance is over.
has_booted() {
    booted=
    [ -f "$state/booted" ] && read -r booted <"$state/booted"
    fact instance-id && [ "$booted" = "$fact" ]
}

# Sets $text to the content of the file $1, which is small: the shell reads it byte by byte, in less time than a process
# needs to start under emulation.
read_text() {
    text=
    [ -f "$1" ] || return
    while IFS= read -r line || [ -n "$line" ]; do text="$text$line$newline"; done <"$1"
}

# Puts $2, in printf's format $3 (%s or %b), as our block at the end of the small file $1, in place of an earlier block.
put_text() {
    [ -d "${1%/*}" ] || mkdir -p "${1%/*}"
    before='' within=''
    [ ! -f "$1" ] || while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        "# begin interlock") within=yes ;;
        "# end interlock") within= ;;
        *) [ -n "$within" ] || before="$before$line$newline" ;;
        esac
    done <"$1"
    # Overwritten in place: owner, mode and label stay, and /etc/hosts may be a mount.
    printf "%s# begin interlock\n$3# end interlock\n" "$before" "$2" >"$1"
}

# Like `put_text`, for text of any size, from stdin.
put_block() {
    mkdir -p "${1%/*}"
    [ -f "$1" ] || : >"$1"
    sed '/^# begin interlock$/,/^# end interlock$/d' "$1" >"$1.new" || return
    { say "# begin interlock" && cat && say "# end interlock"; } >>"$1.new"
    cat "$1.new" >"$1" && rm "$1.new"
}

has() { command -v "$1" >/dev/null 2>&1; }

by_systemd() { [ -d "$root/run/systemd/system" ]; }
by_openrc() { has openrc-run && ! by_systemd; }

# --- early ------------------------------------------------------------------------------------------------------------

early() {
    # Results of another instance on this disk do not count.
    has_booted || rm -rf "$results" "$state/steps" "$state/each-boot" "$state/peers"
    # The output of scripts may be secret.
    mkdir -p "$results" && chmod 700 "$results"
    : >>"$state/steps"
    # A seed for cloud-init, which does not have this key, configures the card in its network configuration.
    [ ! -f "$seed/ssh_host_ed25519_key" ] || claim_lan
    keep_seed
    identify
}

identify() {
    attempt user "user" make_user
    attempt names "hostname and hosts" set_names
    [ ! -f "$seed/timezone" ] || attempt timezone "time zone" set_timezone
    [ ! -f "$seed/locale" ] || attempt locale "locale" set_locale
    [ ! -f "$seed/environment.sh" ] || attempt environment "environment" set_environment
    [ ! -f "$seed/dns" ] || attempt dns "name servers" set_dns
    network=$(sed -n 's/.*\<interlock\.network=\([^ ]*\).*/\1/p' /proc/cmdline)
    [ -z "$network" ] || attempt network "network" set_network
    attempt lima "variables of Lima" set_lima
}

# Gives the guest the address from the kernel's command line: interlock.network=ADDRESS/BITS,GATEWAY[,DNS...]
set_network() {
    IFS=, read -r address gateway servers <<end
$network
end
    if [ -d "$root/etc/systemd/network" ]; then
        {
            printf '[Match]\nName=en* eth*\n\n[Network]\nAddress=%s\n' "$address"
            [ -z "$gateway" ] || say "Gateway=$gateway"
            say "LinkLocalAddressing=no"
            say "IPv6AcceptRA=no"
        } >"$root/etc/systemd/network/10-interlock.network"
    else
        ip addr flush dev eth0
        # Hosts may still know the card of an earlier guest with this address: the kernel announces the new one.
        say 1 >/proc/sys/net/ipv4/conf/eth0/arp_notify
        ip link set eth0 down
        ip addr add "$address" dev eth0
        ip link set eth0 up
        [ -z "$gateway" ] || ip route add default via "$gateway"
    fi
    # If the seed has name servers of its own, set_dns has already set them.
    [ -z "$servers" ] || [ -f "$seed/dns" ] || say "$servers" | tr , '\n' | sed 's/^/nameserver /' >"$root/etc/resolv.conf"
}

# Copies the seed to where every boot finds it.
keep_seed() {
    mkdir -p "$state"
    if [ -f "$seed/ssh_host_ed25519_key" ] && [ -d "$root/etc/ssh" ]; then
        cp "$seed/ssh_host_ed25519_key.pub" "$root/etc/ssh/"
        (umask 077 && cat "$seed/ssh_host_ed25519_key" >"$root/etc/ssh/ssh_host_ed25519_key")
    fi
    if [ "$seed" != "$state/seed" ]; then
        rm -rf "$state/seed"
        (umask 077 && cp -r "$seed" "$state/seed")
        chmod 700 "$state/seed"
    fi
    rm -f "$state/seed/ssh_host_ed25519_key"
}

make_user() {
    fact user && user=$fact
    fact uid && uid=$fact
    fact home && home=$fact
    fact shell && shell=$fact
    [ -x "$root$shell" ] || shell=/bin/sh
    trouble=0
    if ! grep -q "^$user:" "$root/etc/passwd"; then
        if grep -q "^[^:]*:[^:]*:$uid:" "$root/etc/passwd"; then
            say "the user number $uid is taken; $user gets another"
            trouble=1 uid=
        fi
        fact comment
        add_user "$fact" || return
    fi
    # `!` locks an account, for some servers even against keys; `*` is a password that never matches.
    sed -i "s/^$user:!*:/$user:*:/" "$root/etc/shadow"
    # The user may have changed an existing folder; but images have an empty one for root.
    if [ ! -e "$root$home/.ssh" ] || { ! has_booted && [ -z "$(ls -A "$root$home/.ssh")" ]; }; then
        mkdir -p "$root$home/.ssh" || return
        cp "$seed/authorized_keys" "$root$home/.ssh/"
        chmod 700 "$root$home/.ssh"
        chmod 600 "$root$home/.ssh/authorized_keys"
        chown "$user:" "$root$home" "$root$home/.ssh" "$root$home/.ssh/authorized_keys" || return
        # With SELinux, sshd reads only keys with the right label.
        ! has restorecon || restorecon -R "$root$home"
    fi
    if [ -f "$seed/sudo" ] && [ "$user" != root ]; then
        [ ! -d "$root/etc/doas.d" ] || say "permit nopass $user" >"$root/etc/doas.d/interlock.conf"
        mkdir -p "$root/etc/sudoers.d"
        say "$user ALL=(ALL) NOPASSWD:ALL" >"$root/etc/sudoers.d/interlock"
        chmod 440 "$root/etc/sudoers.d/interlock"
    fi
    return $trouble
}

# Adds $user, whose full name is $1, with the number $uid if that is not empty.
add_user() {
    if has useradd; then
        useradd --create-home --home-dir "$home" --shell "$shell" --comment "$1" ${uid:+--uid "$uid"} "$user"
    elif has adduser; then
        adduser -D -h "$home" -s "$shell" -g "$1" ${uid:+-u "$uid"} "$user"
    else
        uid=${uid:-1001}
        say "$user:x:$uid:$uid:$1:$home:$shell" >>"$root/etc/passwd"
        say "$user:*:::::::" >>"$root/etc/shadow"
        say "$user:x:$uid:" >>"$root/etc/group"
        mkdir -p "$root$home"
        chmod 700 "$root$home"
    fi
}

set_names() {
    fact hostname
    say "$fact" >"$root/etc/hostname"
    [ -n "$root" ] || say "$fact" >/proc/sys/kernel/hostname
    [ -s "$root/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    read_text "$seed/hosts" || return
    hosts=$text
    read_text "$state/peers"
    put_text "$root/etc/hosts" "$hosts$text" %s
}

set_timezone() {
    fact timezone
    if [ -f "$root/usr/share/zoneinfo/$fact" ]; then
        ln -sf "/usr/share/zoneinfo/$fact" "$root/etc/localtime"
    elif [ -f "$seed/zone" ]; then
        rm -f "$root/etc/localtime"
        cp "$seed/zone" "$root/etc/localtime"
        chmod 644 "$root/etc/localtime"
    else
        say "this guest has no zone $fact"
        return 1
    fi
    [ ! -f "$root/etc/debian_version" ] || say "$fact" >"$root/etc/timezone"
}

set_locale() {
    fact locale
    file=$root/etc/locale.conf
    [ ! -f "$root/etc/debian_version" ] || file=$root/etc/default/locale
    grep -qs '^LANG=' "$file" || { mkdir -p "${file%/*}" && say "LANG=$fact" >>"$file"; }
}

# PAM reads /etc/environment at every login; sshd gets the rest, and all of it where there is no PAM.
set_environment() {
    read_text "$seed/environment" && put_text "$root/etc/environment" "$text" %s
    if [ -d "$root/etc/ssh/sshd_config.d" ]; then
        (umask 077 && cat "$seed/environment.sshd" >"$root/etc/ssh/sshd_config.d/10-interlock.conf")
    fi
}

# Configures programs that write resolv.conf from DHCP to leave it alone.
set_dns() {
    servers=
    while read -r server; do servers="$servers $server"; done <"$seed/dns"
    if [ -x "$root/lib/systemd/systemd-resolved" ] || [ -x "$root/usr/lib/systemd/systemd-resolved" ]; then
        mkdir -p "$root/etc/systemd/resolved.conf.d"
        printf '[Resolve]\nDNS=%s\nDomains=~.\n' "${servers# }" >"$root/etc/systemd/resolved.conf.d/interlock.conf"
        ! by_systemd || systemctl try-restart systemd-resolved
    fi
    if [ -d "$root/etc/NetworkManager" ]; then
        mkdir -p "$root/etc/NetworkManager/conf.d"
        printf '[main]\ndns=none\n' >"$root/etc/NetworkManager/conf.d/90-interlock.conf"
        ! by_systemd || systemctl try-reload-or-restart NetworkManager
    fi
    if [ -d "$root/etc/udhcpc" ] || by_openrc; then
        mkdir -p "$root/etc/udhcpc"
        say 'RESOLV_CONF="no"' >"$root/etc/udhcpc/udhcpc.conf"
    fi
    case $(readlink "$root/etc/resolv.conf") in *systemd*) return 0 ;; esac
    rm -f "$root/etc/resolv.conf"
    for server in $servers; do say "nameserver $server"; done >"$root/etc/resolv.conf"
}

# Programs made for Lima's guests read this file.
set_lima() {
    [ -d "$root/mnt/lima-cidata" ] || mkdir -p "$root/mnt/lima-cidata"
    read_text "$seed/lima.env" && printf %s "$text" >"$root/mnt/lima-cidata/lima.env"
}

# --- boot -------------------------------------------------------------------------------------------------------------

boot() {
    later=
    ! has_booted || later=yes
    [ -z "$later" ] || [ -e "$state/each-boot" ] || exit 0
    know_boot
    open_news
    connect
    [ ! -d "$seed/scripts" ] && [ ! -f "$seed/upgrade-packages" ] || await_network
    [ -n "$later" ] || prepare
    disks_and_mounts
    everything
    if [ -z "$later" ] && { recurs || [ -n "$(failures)" ]; }; then
        attempt service "start script" install_service
        : >"$state/each-boot"
    fi
    report
    [ -z "$later" ] || return 0
    cp "$seed/instance-id" "$state/booted.new" && chmod 644 "$state/booted.new" && sync
    mv "$state/booted.new" "$state/booted" && sync
    rm -f "$state/pending"
}

# Reports to the host the steps whose last run failed, as of this boot.
report() { { say "$boot_id" && failures; } | for_the_host report; }

# Opens the news, in which the host sees each step as it fails. At the first boot they begin with its earlier failures.
open_news() {
    { say "$boot_id" && { [ -n "$later" ] || failures | as_news; }; } | for_the_host news
    exec 3>>"$state/news"
}

# Writes stdin to the file $1 of the state, which the user may read.
for_the_host() {
    cat >"$state/$1.new"
    fact user
    chmod 600 "$state/$1.new"
    chown "$fact" "$state/$1.new"
    # By rename, so that a reader sees all of it.
    mv "$state/$1.new" "$state/$1"
}

# Succeeds if every boot has something to do.
recurs() {
    [ ! -f "$seed/lan-mac" ] || return 0
    for each in "$seed"/disks/* "$seed"/mounts/* "$seed"/files/* "$seed"/scripts/*; do
        case $each in *.once) continue ;; esac
        [ ! -e "$each" ] || [ -e "$each.once" ] || return 0
    done
    return 1
}

connect() { [ ! -f "$seed/lan-mac" ] || attempt lan "network of instances" join_lan; }

# Keeps systemd-networkd from asking for an address for the card of the network of instances: nothing would answer.
claim_lan() {
    fact lan-mac && [ -d "$root/etc/systemd/network" ] || return 0
    printf '[Match]\nMACAddress=%s\n\n[Link]\nUnmanaged=yes\n' "$fact" >"$root/etc/systemd/network/10-interlock.network"
}

# Gives the card of the network of instances its name and its addresses. A guest that was copied has the card already,
# with the hardware address of its original.
join_lan() {
    fact lan-interface && card=$fact
    fact lan-address && address=$fact
    fact lan-mac && mac=$fact
    case $(ip addr show dev "$card" 2>/dev/null) in *"$mac"*" $address "*) return 0 ;; esac
    found=$card
    for candidate in "$root"/sys/class/net/*; do
        read -r is <"$candidate/address" && [ "$is" = "$mac" ] && found=${candidate##*/}
    done
    ip link set "$found" down || return
    [ "$found" = "$card" ] || ip link set "$found" name "$card" || return
    ip link set "$card" address "$mac" && ip addr flush dev "$card" && ip link set "$card" up &&
        ip addr add "$address" dev "$card"
}

peers() {
    mkdir -p "$state" && cat >"$state/peers.new" && mv "$state/peers.new" "$state/peers" && set_names
}

# Does what comes before disks and scripts, at the first boot only.
prepare() {
    if [ -d "$seed/ca" ] || [ -f "$seed/remove-default-ca-certs" ]; then
        attempt certificates "certificates" set_certificates
    fi
    [ ! -f "$seed/upgrade-packages" ] || attempt upgrade "package upgrade" upgrade_packages
}

everything() {
    scripts boot
    scripts dependency
    for file in "$seed"/files/*; do
        [ -d "$file" ] && due "$file" || continue
        fact "files/${file##*/}/path" && attempt "file-${file##*/}" "file $fact" put_file "$file"
    done
    scripts edit
    scripts system
    scripts user
}

# Succeeds unless the script or file $1 of the seed is marked `once` and this is a later boot.
due() { [ -z "$later" ] || [ ! -e "$1.once" ]; }

# Runs the scripts of the mode $1, in order.
scripts() {
    for script in "$seed"/scripts/*-"$1"; do
        [ -f "$script" ] && due "$script" || continue
        name=${script##*/}
        fact "titles/$name" || fact="script ${name%%-*} ($1)"
        if [ "$1" = user ]; then
            attempt "$name" "$fact" run_as_user "$script"
        else
            attempt "$name" "$fact" run_as_root "$script"
        fi
    done
}

run_as_root() {
    cd / || return
    export HOME="$root/root" USER=root LOGNAME=root
    [ ! -f "$seed/environment.sh" ] || . "$seed/environment.sh"
    . "$seed/variables.sh"
    run_script "$1"
}

# Runs a script by its `#!` line, or by sh if it has none.
run_script() {
    if [ "$(head -c 2 "$1")" = "#!" ]; then
        [ -x "$1" ] || chmod u+x "$1"
        "$1"
    else
        sh "$1"
    fi
}

# Runs the script $1 in a login of the user: script and environment lie in a folder that only the user can read.
run_as_user() {
    fact user && user=$fact
    fact home && home=$fact
    mine=$state/user
    rm -rf "$mine" && mkdir -m 700 "$mine" || return
    uid=$(id -u "$user") || return
    if by_systemd && [ "$user" != root ]; then
        # So that processes that the script starts may outlive it, and have a runtime directory.
        loginctl enable-linger "$user" && systemctl start "user@$uid.service" || say "no lingering"
    elif [ -z "$root" ] && [ ! -d "/run/user/$uid" ]; then
        mkdir -p "/run/user/$uid" && chmod 700 "/run/user/$uid" && chown "$user:" "/run/user/$uid"
    fi
    cp "$1" "$mine/script"
    {
        cat "$seed/environment.sh" "$seed/variables.sh" 2>/dev/null
        say "export XDG_RUNTIME_DIR=/run/user/$uid"
        say 'cd || exit'
        say 'if [ "$(head -c 2 "$1")" = "#!" ]; then exec "$1"; else exec sh "$1"; fi'
    } >"$mine/run"
    chmod 500 "$mine/script" "$mine/run"
    if [ "$(id -u)" = "$uid" ]; then
        HOME=$root$home USER=$user LOGNAME=$user sh -l "$mine/run" "$mine/script"
    else
        chown -R "$user:" "$mine"
        su - "$user" -c "sh $mine/run $mine/script"
    fi
    ended=$?
    rm -rf "$mine"
    return $ended
}

put_file() {
    fact "files/${1##*/}/path" && path=$root$fact
    [ ! -e "$path" ] || [ ! -f "$1/keep" ] || { say "$path is there" && return 0; }
    fact "files/${1##*/}/permissions" && permissions=$fact
    fact "files/${1##*/}/owner" && owner=$fact
    make_folders "${path%/*}" || return
    # A file is made private before its content is written, whether it is new or existed with other permissions.
    [ ! -f "$path" ] || chmod "$permissions" "$path" || return
    (umask 077 && cat "$1/content" >"$path") && chown "$owner" "$path" && chmod "$permissions" "$path"
}

# Makes the folder $1 and its parents. Those made below a folder that $owner owns are owned by $owner.
make_folders() {
    [ -n "$1" ] && [ ! -d "$1" ] || return 0
    make_folders "${1%/*}" && mkdir "$1" || return
    [ "$(stat -c %u "${1%/*}/")" != "$(id -u "${owner%%:*}")" ] || chown "$owner" "$1"
}

await_network() {
    if by_systemd && systemctl --quiet is-active systemd-networkd; then
        for wait in /lib/systemd/systemd-networkd-wait-online /usr/lib/systemd/systemd-networkd-wait-online; do
            [ ! -x $wait ] || { $wait --any --timeout=30 && return; }
        done
    elif by_systemd && has nm-online; then
        nm-online --quiet --timeout 30
    fi
    return 0
}

set_certificates() {
    if has update-ca-certificates && [ -d "$root/etc/pki/trust/anchors" ]; then
        store=etc/pki/trust/anchors defaults=usr/share/pki/trust update=update-ca-certificates # openSUSE
    elif has update-ca-certificates; then
        store=usr/local/share/ca-certificates defaults= update=update-ca-certificates # Debian, Ubuntu, Alpine
    elif has update-ca-trust && [ -d "$root/etc/pki/ca-trust/source/anchors" ]; then
        store=etc/pki/ca-trust/source/anchors defaults=usr/share/pki/ca-trust-source update=update-ca-trust # Fedora
    elif has update-ca-trust; then
        store=etc/ca-certificates/trust-source/anchors # Arch
        defaults=usr/share/ca-certificates/trust-source update=update-ca-trust
    else
        # One file with all certificates, where most programs without a store of their own look.
        mkdir -p "$root/etc/ssl/certs"
        bundle=$root/etc/ssl/certs/ca-certificates.crt
        [ ! -f "$seed/remove-default-ca-certs" ] || : >"$bundle"
        [ ! -d "$seed/ca" ] || put_block "$bundle" <<CERTIFICATES
$(cat "$seed"/ca/*)
CERTIFICATES
        return
    fi
    if [ -f "$seed/remove-default-ca-certs" ]; then
        if [ -n "$defaults" ]; then
            rm -rf "$root/$defaults"/*
        else
            sed -i 's/^\([^#!]\)/!\1/' "$root/etc/ca-certificates.conf" || return
        fi
    fi
    mkdir -p "$root/$store"
    for certificate in "$seed"/ca/*; do
        [ -f "$certificate" ] || continue
        cp "$certificate" "$root/$store/interlock-${certificate##*/}.crt" || return
        chmod 644 "$root/$store/interlock-${certificate##*/}.crt"
    done
    $update
}

upgrade_packages() {
    if has apt-get; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q -o DPkg::Lock::Timeout=300 update &&
            apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold upgrade
    elif has dnf; then
        dnf -q -y upgrade
    elif has zypper; then
        zypper --quiet --non-interactive update
    elif has pacman; then
        pacman -Syu --noconfirm --noprogressbar
    elif has apk; then
        apk upgrade --update-cache
    else
        say "this guest has no package manager"
        return 1
    fi
}

# --- disks and mounts -------------------------------------------------------------------------------------------------

disks_and_mounts() {
    for disk in "$seed"/disks/*; do
        [ ! -d "$disk" ] || { fact "disks/${disk##*/}/path" && attempt "disk-${disk##*/}" "disk at $fact" mount_disk "$disk"; }
    done
    mounts
}

mounts() {
    [ ! -d "$seed/mounts" ] || load_modules
    for mount in "$seed"/mounts/*; do
        [ ! -d "$mount" ] || { fact "mounts/${mount##*/}/path" && attempt "mount-${mount##*/}" "mount at $fact" mount_folder "$mount"; }
    done
}

# In a guest without modprobe, a file lists the modules in the order in which they must be loaded.
load_modules() {
    if [ -f /lib/modules/order.mounts ]; then
        while read -r module; do
            [ -d "/sys/module/$module" ] || insmod "/lib/modules/$module.ko"
        done </lib/modules/order.mounts
    elif has modprobe; then
        modprobe -q 9pnet_virtio
    fi
}

mount_disk() {
    disk=disks/${1##*/}
    fact "$disk/serial" && serial=$fact
    device=
    for candidate in "$root"/sys/block/*/serial; do
        found=
        [ -f "$candidate" ] && IFS= read -r found <"$candidate"
        [ "$found" != "$serial" ] || { device=${candidate%/serial} && device=/dev/${device##*/}; }
    done
    [ -n "$device" ] || { say "no disk has the serial number $serial" && return 1; }
    fact "$disk/fs-type" && type=$fact
    fact "$disk/path" && path=$fact
    if [ -b "${device}1" ]; then
        device=${device}1
    elif is_blank "$device"; then
        [ -f "$1/format" ] || { say "$device is blank, and format is false" && return 1; }
        fact "$disk/label"
        make_file_system "$1" "$fact" || return
    fi
    # Identified by its content, because it may have been formatted elsewhere, and fstab knows no serial numbers.
    uuid=$(blkid "$device" | sed -n 's/.* UUID="\([^"]*\)".*/\1/p')
    type=$(blkid "$device" | sed -n 's/.* TYPE="\([^"]*\)".*/\1/p')
    [ -n "$type" ] || { say "$device is not blank, and has no file system that can be mounted" && return 1; }
    mount_at "${uuid:+UUID=$uuid}" "$path" "$type" defaults "$device" x-systemd.device-timeout=10s
}

# True only if blkid finds nothing on the device $1 and its first and last MiB, where file systems, partition tables,
# RAIDs and volume managers have their signatures, contain only zeros.
is_blank() {
    [ -z "$(blkid "$1")" ] || return
    read -r sectors <"/sys/class/block/${1##*/}/size"
    [ "$sectors" -gt 4096 ] || return
    for at in 0 $((sectors - 2048)); do
        something=$(dd if="$1" bs=512 count=2048 skip=$at 2>/dev/null | tr -d '\0' | head -c 1 | wc -c)
        [ "$something" -eq 0 ] || return
    done
}

# Makes a file system of $type with the label $2 on $device, with the options of the disk $1 of the seed.
make_file_system() {
    label=$2
    set -- "$1/fs-args"
    set -- "$@" -L "$label"
    case $type in xfs | btrfs) set -- "$@" -f ;; ext*) set -- "$@" -q -F ;; esac
    if [ -f "$1" ]; then
        while IFS= read -r argument; do set -- "$@" "$argument"; done <"$1"
    fi
    shift
    for tool in /sbin/mkfs."$type" /usr/sbin/mkfs."$type" /usr/bin/mkfs."$type"; do
        [ ! -x "$tool" ] || { "$tool" "$@" "$device" && return; }
    done
    # By its path, because busybox's applet of that name makes no journal.
    case $type in ext*) [ ! -x /sbin/mke2fs ] || { /sbin/mke2fs -t "$type" "$@" "$device" && return; } ;; esac
    say "this guest cannot make a file system of the type $type"
    return 1
}

mount_folder() {
    folder=mounts/${1##*/}
    fact "$folder/tag" && tag=$fact
    fact "$folder/path" && path=$fact
    fact "$folder/type" && type=$fact
    fact "$folder/options" && options=$fact
    mount_at "$tag" "$path" "$type" "${options:-defaults}" "$tag"
}

# Mounts $5, of the type $3 with the options $4, at $2, unless something is mounted there. If the init reads fstab, an
# entry there mounts it at each boot, with $1 as its source and $6 as one more option for systemd.
mount_at() {
    mkdir -p "$2" || return
    at=$(printf %s "$2" | sed 's/\\/\\134/g; s/ /\\040/g; s/\t/\\011/g')
    line=
    if by_systemd; then
        line="$1 $at $3 $4,nofail,x-systemd.before=interlock.service${6:+,$6} 0 0"
    elif by_openrc; then
        line="$1 $at $3 $4,nofail 0 0"
    fi
    if [ -n "$line" ] && [ -n "$1" ] && ! grep -qsxF "$line" /etc/fstab; then
        { grep -vsF " $at $3 " /etc/fstab; say "$line"; } >/etc/fstab.new
        cat /etc/fstab.new >/etc/fstab && rm /etc/fstab.new
        ! by_systemd || systemctl daemon-reload
    fi
    while read -r _ mounted _; do
        [ "$mounted" != "$at" ] || return 0
    done </proc/self/mounts
    mount -t "$3" -o "$4" "$5" "$2"
}

# Makes the init of a cloud image run this program at later boots. At the first boot cloud-init runs it, and is disabled.
install_service() {
    program=$state/seed/interlock
    if by_systemd; then
        cat >"$root/etc/systemd/system/interlock.service" <<UNIT
[Unit]
Description=What Interlock was asked to do at each boot
ConditionPathExists=$state/booted
Wants=network-online.target
After=network-online.target local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh $program boot
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
UNIT
        systemctl --quiet enable interlock.service
    elif by_openrc; then
        cat >"$root/etc/init.d/interlock" <<SERVICE
#!/sbin/openrc-run
description="What Interlock was asked to do at each boot"
depend() { after net localmount; }
start() { /bin/sh $program boot; }
SERVICE
        chmod 755 "$root/etc/init.d/interlock"
        rc-update add interlock default
    fi
}

# --- again ------------------------------------------------------------------------------------------------------------

again() {
    later= only_failed=yes
    exec 3>&1
    identify
    connect
    prepare
    disks_and_mounts
    only_failed=
    everything
    know_boot
    report
    failures
}

# --- remount ----------------------------------------------------------------------------------------------------------

remount() {
    given=$seed seed=$state/seed later=yes
    for mount in "$seed"/mounts/*; do
        [ ! -d "$mount" ] || same_mount "$mount" "$given/mounts/${mount##*/}" || forget_mount "$mount"
    done
    rm -rf "$seed/mounts" "$results"/mount-*
    sed '/^mount-/d' "$state/steps" >"$state/steps.new" && mv "$state/steps.new" "$state/steps" || exit
    [ ! -d "$given/mounts" ] || (umask 077 && cp -r "$given/mounts" "$seed/mounts") || exit
    mounts
    if recurs && [ ! -e "$state/each-boot" ]; then
        cp "$given/interlock" "$seed/interlock" && attempt service "start script" install_service
        : >"$state/each-boot"
    fi
    know_boot
    report
    failures
}

# Succeeds if the folders $1 and $2 describe the same mount.
same_mount() {
    for name in tag path type options; do
        cmp -s "$1/$name" "$2/$name" || return
    done
}

# Unmounts the mount in the folder $1 of the seed, now and at later boots; a program that uses it keeps it until it ends.
forget_mount() {
    fact "mounts/${1##*/}/type" && type=$fact
    fact "mounts/${1##*/}/path" && path=$fact
    at=$(printf %s "$path" | sed 's/\\/\\134/g; s/ /\\040/g; s/\t/\\011/g')
    if grep -qsF " $at $type " /etc/fstab; then
        grep -vF " $at $type " /etc/fstab >/etc/fstab.new
        cat /etc/fstab.new >/etc/fstab && rm /etc/fstab.new
        ! by_systemd || systemctl daemon-reload
    fi
    while read -r _ mounted kind _; do
        [ "$mounted $kind" != "$at $type" ] || umount -l "$path"
    done </proc/self/mounts
}

case ${1-} in
early | boot | again | remount | peers) "$1" ;;
identity | become)
    # Over ssh, the content of that file comes before this text.
    [ ! -f "$seed/identity" ] || . "$seed/identity"
    IFS= read -r line && "$1" "$line" "${2-}" && settle || { say "$reason" && exit 1; }
    if [ "$1" = become ] && has_work; then begin_work; else become_known; fi
    ;;
library) ;;
*)
    say "usage: $0 early | boot | again | remount | identity | peers | become" >&2
    exit 2
    ;;
esac
