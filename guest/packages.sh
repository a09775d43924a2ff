# Functions at the beginning of each script that Interlock writes itself; root runs it with sh in the guest.

say() { printf '%s\n' "$*"; }

has() { command -v "$1" >/dev/null 2>&1; }

# Fetches the package lists of the guest's distribution; to be called before `available` and `install`.
refresh() {
    if has apt-get; then
        apt-get -q -o DPkg::Lock::Timeout=300 update
    elif has dnf; then
        dnf -q makecache
    elif has zypper; then
        zypper --quiet --non-interactive refresh
    elif has pacman; then
        pacman -Sy --noprogressbar
    elif has apk; then
        apk update
    else
        say "this guest has no package manager"
        return 1
    fi
}

# Succeeds if the distribution has the package $1.
available() {
    if has apt-get; then
        apt-cache show "$1"
    elif has dnf; then
        dnf -q list "$1"
    elif has zypper; then
        zypper --quiet --non-interactive search --match-exact "$1"
    elif has pacman; then
        pacman -Si "$1"
    else
        apk search --exact "$1" | grep .
    fi >/dev/null 2>&1
}

# Installs the packages $*.
install() {
    if has apt-get; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    elif has dnf; then
        dnf -q -y install "$@"
    elif has zypper; then
        zypper --quiet --non-interactive install --no-recommends "$@"
    elif has pacman; then
        pacman -S --noconfirm --noprogressbar --needed "$@"
    else
        apk add "$@"
    fi
}

# Installs the packages $*, except those that the distribution does not have.
install_what_there_is() {
    found=
    for package in "$@"; do ! available "$package" || found="$found $package"; done
    [ -z "$found" ] || install $found
}
