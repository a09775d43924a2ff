# Edits $path with $program, a jq program. $format is json, yaml or ini. A missing or empty file is read as null; it is
# created, with its folders. A file that $owner may not write is not changed.

path=${INTERLOCK_ROOT-}$path
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
user=$(id -un "${owner%%:*}") || exit

# Runs $1, a line of sh, as the owner; $2 is its $0.
as_owner() {
    if [ "$(id -un)" = "$user" ]; then
        sh -c "$1" "$2"
    else
        su -s /bin/sh -c "$1" "$user" "$2"
    fi
}

# Python that turns the file on stdin into JSON ($load), and JSON into a file ($save). Comments are lost.
case $format in
yaml)
    module=yaml
    load='print(json.dumps(yaml.safe_load(sys.stdin), default=str))'
    save='yaml.safe_dump(json.load(sys.stdin), sys.stdout, sort_keys=False, allow_unicode=True)'
    ;;
ini)
    module=configparser
    # Names keep their case, and no section is special.
    ini='f = configparser.ConfigParser(interpolation=None, default_section=""); f.optionxform = str; '
    load="$ini"'f.read_string(sys.stdin.read()); print(json.dumps({name: dict(f[name]) for name in f.sections()}))'
    text='lambda value: value if isinstance(value, str) else json.dumps(value)'
    save="$ini text = $text; "'
for name, values in json.load(sys.stdin).items():
    f[name] = {key: text(value) for key, value in values.items()}
f.write(sys.stdout)'
    ;;
esac

by_python() { PYTHONUTF8=1 python3 -c "import json, sys, $module; $1"; }

if ! has jq; then
    say "this guest has no jq, which edits files here"
    exit 1
elif [ "$format" != json ] && ! by_python pass >/dev/null 2>&1; then
    say "this guest has no Python with the module $module, which reads and writes such a file here"
    exit 1
fi
if [ ! -s "$path" ]; then
    say null >"$work/before"
elif [ "$format" = json ]; then
    cat "$path" >"$work/before" || exit
else
    by_python "$load" <"$path" >"$work/before" || exit
fi
jq "$program" "$work/before" >"$work/after" || exit
if [ "$format" != json ]; then
    mv "$work/after" "$work/json" && by_python "$save" <"$work/json" >"$work/after" || exit
fi
as_owner 'mkdir -p "${0%/*}" && { [ -e "$0" ] || (umask 077 && : >"$0"); } && cat >"$0"' "$path" <"$work/after" &&
    chown "$owner" "$path" && chmod "$permissions" "$path"
