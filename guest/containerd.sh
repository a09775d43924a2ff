# Installs containerd, from $archive (a URL; its digest is $digest) or else from the packages of the guest's
# distribution, and starts it: for root if $for_root, for the user if $for_user. It may be run at each boot.

etc=${INTERLOCK_ROOT-}/etc
setup=containerd-rootless-setuptool.sh
archives="give the template an archive of nerdctl in containerd.archives"
of_user=${for_user:+rootlesskit slirp4netns fuse-overlayfs uidmap dbus-user-session}

from_packages() {
    refresh || return
    if ! available containerd; then
        say "this guest's distribution has no package containerd; $archives"
        return 1
    fi
    # A distribution may have only some of these. People type nerdctl; the rest is for networks and for the user.
    install_what_there_is containerd nerdctl buildkit containernetworking-plugins cni-plugins iptables $of_user || return
    # Some distributions start what they install.
    [ -n "$for_root" ] || ! has systemctl || systemctl disable --now containerd
}

from_archive() {
    refresh && install_what_there_is curl ca-certificates tar gzip iptables $of_user || return
    work=$(mktemp -d) || return
    if has curl; then
        curl --fail --silent --show-error --location --output "$work/archive" "$archive"
    else
        wget -O "$work/archive" "$archive"
    fi || return
    if [ -n "$digest" ] && ! say "${digest#*:}  $work/archive" | "${digest%%:*}sum" -c >/dev/null 2>&1; then
        say "$archive has another digest than containerd.archives says"
        return 1
    fi
    tar -xzf "$work/archive" -C /usr/local && rm -rf "$work" && { ! has systemctl || systemctl daemon-reload; }
}

# Makes containerd read conf.d, where templates put settings, as Lima's does. Sets $changed if it did not do so before.
read_conf_d() {
    changed=
    mkdir -p "$etc/containerd/conf.d"
    ! grep -qs '^imports' "$etc/containerd/config.toml" || return 0
    changed=yes
    [ -s "$etc/containerd/config.toml" ] || say 'version = 2' >"$etc/containerd/config.toml"
    sed -i '1i imports = ["/etc/containerd/conf.d/*.toml"]' "$etc/containerd/config.toml"
}

serve_root() {
    read_conf_d || return
    if has systemctl; then
        systemctl enable --now containerd && { [ -z "$changed" ] || systemctl restart containerd; } || return
        ! systemctl cat buildkit >/dev/null 2>&1 || systemctl enable --now buildkit
    else
        rc-update add containerd default && rc-service containerd "${changed:+re}start"
    fi
}

# Ubuntu does not let programs without a profile make user namespaces.
allow_namespaces() {
    [ -e /proc/sys/kernel/apparmor_restrict_unprivileged_userns ] && [ -e "$etc/apparmor.d/abi/4.0" ] || return 0
    kit=$(command -v rootlesskit) || return 0
    [ ! -e "$etc/apparmor.d/interlock-rootlesskit" ] || return 0
    cat >"$etc/apparmor.d/interlock-rootlesskit" <<PROFILE
abi <abi/4.0>,
include <tunables/global>

$kit flags=(unconfined) {
  userns,
}
PROFILE
    systemctl restart apparmor.service
}

serve_user() {
    has systemctl || { say "containerd for a user takes systemd, which this guest lacks"; return 1; }
    has $setup || { say "no package of this guest's distribution sets up containerd for a user; $archives"; return 1; }
    account=$LIMA_CIDATA_USER
    uid=$(id -u "$account") || return
    [ ! -e "$LIMA_CIDATA_HOME/.config/systemd/user/containerd.service" ] || return 0
    for ids in "$etc/subuid" "$etc/subgid"; do
        grep -qs "^$account:" "$ids" || say "$account:100000:65536" >>"$ids"
    done
    allow_namespaces || return
    loginctl enable-linger "$account" && systemctl start "user@$uid.service" || return
    cat >/run/interlock-containerd <<LINES
export XDG_RUNTIME_DIR=/run/user/$uid CONTAINERD_NAMESPACE=default PATH="\$PATH:/usr/local/bin:/usr/sbin:/sbin"
systemctl --user start dbus.socket
$setup install || exit
! command -v buildkitd >/dev/null || $setup install-buildkit-containerd
LINES
    su -l -s /bin/sh -c "sh /run/interlock-containerd" "$account"
}

export PATH="$PATH:/usr/local/bin:/usr/local/sbin"
if ! has containerd; then
    if [ -n "$archive" ]; then from_archive; else from_packages; fi || exit
fi
[ -z "$for_root" ] || serve_root || exit
[ -z "$for_user" ] || serve_user || exit
