# Edits $path by $program, a program of jq. $format is json or yaml. A file that is empty or not there begins as null, and
# is made with its folders. What $owner may not write is not written.

path=${INTERLOCK_ROOT-}$path
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
user=$(id -un "${owner%%:*}") || exit

# Runs the line $1 of sh as the owner; $2 is its $0.
as_owner() {
    if [ "$(id -un)" = "$user" ]; then
        sh -c "$1" "$2"
    else
        su -s /bin/sh -c "$1" "$user" "$2"
    fi
}

by_python() { python3 -c "import json, sys, yaml; $1"; }

to_json() {
    case $format in
    json) cat ;;
    yaml) by_python 'print(json.dumps(yaml.safe_load(sys.stdin.buffer), default=str))' ;;
    esac
}

from_json() {
    case $format in
    json) cat ;;
    yaml) by_python 'yaml.safe_dump(json.load(sys.stdin.buffer), sys.stdout.buffer, sort_keys=False, allow_unicode=True, encoding="utf-8")' ;;
    esac
}

if ! has jq; then
    say "this guest has no jq, which edits files here"
    exit 1
elif [ "$format" = yaml ] && ! by_python pass 2>"$work/python"; then
    say "this guest has no Python with yaml, which reads and writes YAML here"
    exit 1
fi
if [ -s "$path" ]; then
    to_json <"$path" >"$work/before" || exit
else
    say null >"$work/before"
fi
jq "$program" "$work/before" >"$work/json" && from_json <"$work/json" >"$work/after" || exit
as_owner 'mkdir -p "${0%/*}" && { [ -e "$0" ] || (umask 077 && : >"$0"); } && cat >"$0"' "$path" <"$work/after" &&
    chown "$owner" "$path" && chmod "$permissions" "$path"
