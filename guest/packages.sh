# Functions that begin a script of ours: it is read by sh, and run by root in the guest.

say() { printf '%s\n' "$*"; }

has() { command -v "$1" >/dev/null 2>&1; }

# Installs the packages $* by the guest's own package manager.
install() {
    if has apt-get; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q -o DPkg::Lock::Timeout=300 update &&
            apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    elif has dnf; then
        dnf -q -y install "$@"
    elif has zypper; then
        zypper --quiet --non-interactive install --no-recommends "$@"
    elif has pacman; then
        pacman -Sy --noconfirm --noprogressbar --needed "$@"
    elif has apk; then
        apk add --update-cache "$@"
    else
        say "this guest has no package manager to install $* with"
        return 1
    fi
}
