r"""`completion`, and the calls that its scripts make in a shell.

    limactl __complete start w        one offer per line, its help after a tab; then `:` and a sum of NO_SPACE, NO_FILES
    limactl __completeNoDesc start w  the same without help

The last word is the one to complete. limactl's own scripts make the same calls.
Source: the documentation of spf13/cobra, "Shell completions".
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..commands.completing import TABLE
from ..commands.stdout import write
from ..errors import UsageError
from .commands import COMMANDS
from .flags import GLOBAL, Call, Command, Flag, named
from .home import LimaHome

if TYPE_CHECKING:
    from .session import Session

ASKED = {"__complete": True, "__completeNoDesc": False}
"""The command that a script calls → whether it wants help texts."""

NO_SPACE, NO_FILES = 2, 4
"""Instructions for the shell: put no space after an offer; do not complete file names if there is no offer."""

BASH = """\
# bash completion for limactl: eval "$(limactl completion bash)"
_limactl_completion() {
    local line=${COMP_LINE:0:COMP_POINT} words begun apart offer help after=0
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    begun=${words[${#words[@]}-1]}
    apart=${begun%"${begun##*[:=]}"}  # bash takes what follows for a word of its own
    COMPREPLY=()
    while IFS=$'\\t' read -r offer help; do
        if [[ $offer == :* ]]; then after=${offer#:}; else COMPREPLY+=("${offer#"$apart"}"); fi
    done < <("${1/#\\~/$HOME}" __completeNoDesc "${words[@]:1}" 2>/dev/null)
    (( after & 2 )) && compopt -o nospace
    (( after & 4 )) || compopt -o default
}
complete -F _limactl_completion limactl
"""

ZSH = """\
#compdef limactl
# zsh completion for limactl: source <(limactl completion zsh), after compinit
_limactl() {
    local -a described
    local line offer help after=0
    for line in "${(@f)$(${~words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ $line == :<-> ]]; then
            after=${line#:}
        elif [[ -n $line ]]; then
            offer=${line%%$'\\t'*} help=${line#*$'\\t'}
            described+=("${offer//:/\\\\:}${help:+:$help}")
        fi
    done
    if (( $#described )); then
        if (( after & 2 )); then _describe -V limactl described -S ''; else _describe -V limactl described; fi
    fi
    (( after & 4 )) || _files
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _limactl "$@"; else compdef _limactl limactl; fi
"""

FISH = """\
# fish completion for limactl: limactl completion fish | source
function _limactl_completion
    set -l words (commandline -opc)
    set -l begun (commandline -ct)
    test (count $begun) -eq 0; and set begun ''
    for line in ($words[1] __complete $words[2..-1] $begun 2>/dev/null)
        switch $line
            case ':*'
                test (math "floor("(string sub -s 2 -- $line)" / 4) % 2") -eq 0; and __fish_complete_path $begun
            case '*'
                echo $line
        end
    end
end
complete -c limactl -f -a '(_limactl_completion)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

_PLACES = {
    "INSTANCE": "instance",
    "OLDINST": "instance",
    "NAME|FILE": "instance",
    "DISK": "disk",
    "NETWORK": "network",
    "TEMPLATE": "template",
    "template:": "template",
}
"""Word in a command's usage → the kind of name that is valid there."""


class Offer(NamedTuple):
    """A word that a shell may put in place of the incomplete one."""

    word: str
    help: str = ""


def script(_session: "Session", call: Call) -> int:
    """Print the script that makes a shell complete the command lines of limactl."""
    name = call.name.partition(" ")[2]
    if name not in SCRIPTS:
        raise UsageError(f"`limactl {call.name}` is not supported by this limactl: there are {', '.join(SCRIPTS)}")
    write(SCRIPTS[name])
    return 0


def answer(words: Sequence[str]) -> int:
    """Print the offers for a completion script, whose call is `words`."""
    kind, *line = words
    if not line:
        raise UsageError("requires at least 1 arg(s), only received 0")
    found, after = offers(line)
    lines = [f"{it.word}\t{it.help}".rstrip() if ASKED[kind] else it.word for it in found]
    write("".join(f"{it}\n" for it in [*lines, f":{after}"]))
    return 0


def offers(line: Sequence[str]) -> tuple[list[Offer], int]:
    """Return the offers for the last word of `line`, and the sum of the instructions for the shell."""
    *before, begun = line
    place: dict[str, dict[str, Command] | Command] | dict[str, Command] | Command = COMMANDS
    arguments: list[str] = []
    wanting: Flag | None = None
    only_arguments = False
    for word in before:
        if wanting:
            wanting = None
        elif word == "--":
            only_arguments = True
        elif word.startswith("-") and word != "-" and not only_arguments:
            wanting = _wanting(word, place)
        elif isinstance(place, Command):
            arguments.append(word)
        elif name := named(word, place):
            place = place[name]
        else:
            return [], NO_FILES
    apart = re.match(r"(--[\w-]+=)(.*)", begun)
    if wanting or apart:
        flag = wanting or _wanting(apart[1].rstrip("="), place) if apart else wanting
        return _values(flag, begun, apart[1] if apart else "")
    if begun.startswith("-") and not only_arguments and not (isinstance(place, Command) and _passed(place, arguments)):
        return _begun(_flags(place), begun), NO_FILES
    if isinstance(place, Command):
        return _arguments(place, arguments, begun)
    commands = [Offer(name, it.summary if isinstance(it, Command) else ", ".join(it)) for name, it in place.items()]
    return _begun(sorted(commands), begun), NO_FILES


def _known(place: object) -> tuple[Flag, ...]:
    own = place.flags if isinstance(place, Command) else ()
    return tuple(flag for flag in (*own, *GLOBAL) if not flag.refused)


def _wanting(word: str, place: object) -> Flag | None:
    """Return the flag `word` if the word after it is its value."""
    return next((it for it in _known(place) if word in (f"--{it.name}", f"-{it.short}") and it.kind != "bool"), None)


def _flags(place: object) -> Iterator[Offer]:
    for flag in _known(place):
        yield Offer(f"--{flag.name}", flag.help)
        if flag.short:
            yield Offer(f"-{flag.short}", flag.help)


def _passed(command: Command, arguments: Sequence[str]) -> bool:
    """Return whether the next words belong to a command in the guest."""
    return command.passes_on and bool(arguments)


def _values(flag: Flag | None, begun: str, apart: str) -> tuple[list[Offer], int]:
    values: Iterable[str] = flag.values if flag else ()
    if flag and flag.name == "instance":
        values = LimaHome().home.names()
    found = _begun([Offer(apart + value) for value in values], begun)
    return found, NO_FILES if found else 0


def _arguments(command: Command, given: Sequence[str], begun: str) -> tuple[list[Offer], int]:
    """Return the offers for the argument after those in `given`, according to the command's usage."""
    if (command.most is not None and len(given) >= command.most) or _passed(command, given):
        return [], NO_FILES
    places = re.findall(r"\S*[A-Z:]\S*", command.usage.replace("[OPTIONS]", ""))
    if not places:
        return [], NO_FILES
    place = places[min(len(given), len(places) - 1)]
    if "SOURCE" in command.usage:
        return _begun([Offer(f"{name}:") for name in LimaHome().home.names()], begun), NO_SPACE
    kinds = [kind for word, kind in _PLACES.items() if word in place]
    found = [Offer(word) for kind in kinds for word in _names(kind) if word not in given]
    files = any(word in place for word in ("FILE", "TEMPLATE", "DEST"))
    return _begun(found, begun), 0 if files else NO_FILES


def _names(kind: str) -> Iterable[str]:
    """Return the names of each `instance`, `disk`, `network` or `template`."""
    home = LimaHome().home
    match kind:
        case "instance":
            return home.names()
        case "disk":
            return home.disk_names()
        case "network":
            from .networks import NETWORKS

            return NETWORKS
        case _:
            return [f"template:{name}" for name in json.loads(TABLE.read_bytes())["templates"]]


def _begun(found: Iterable[Offer], begun: str) -> list[Offer]:
    return [it for it in found if it.word.startswith(begun)]
