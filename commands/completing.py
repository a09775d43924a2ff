"""Completion in a shell, without click, because importing click takes longer than the whole completion.

`completion.json` says what can be typed; it is generated from the commands themselves (`diagrams.commands`). The
protocol is click's, so that the scripts of click that earlier versions printed still work:

    _INTERLOCK_COMPLETE=bash_source                          the script for its startup file
    _INTERLOCK_COMPLETE=bash_complete COMP_WORDS COMP_CWORD  what can be typed there; zsh and fish likewise
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InterlockError
from ..host.home import NAME, Home
from .instead import SAME_IN_GROUP, meaning

TABLE = Path(__file__).with_name("completion.json")

BASH = """\
_interlock_completion() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
        plain) COMPREPLY+=("$value") ;;
        open) COMPREPLY+=("$value") && compopt -o nospace ;;
        file) compopt -o default ;;
        dir) compopt -o dirnames ;;
        esac
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" _INTERLOCK_COMPLETE=bash_complete "$1")
}
complete -o nosort -F _interlock_completion interlock
"""

ZSH = """\
#compdef interlock
_interlock_completion() {
    local -a response plain described open
    local kind value help
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) _INTERLOCK_COMPLETE=zsh_complete \\
        $words[1])}")
    for kind value help in $response; do
        case $kind in
        plain) if [[ $help == _ ]]; then plain+=("$value"); else described+=("${value//:/\\\\:}:$help"); fi ;;
        open) open+=("$value") ;;
        file) _path_files -f ;;
        dir) _path_files -/ ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#open )) && compadd -U -S '' -V unsorted -a open
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _interlock_completion "$@"
else
    compdef _interlock_completion interlock
fi
"""

FISH = """\
function _interlock_completion
    set -l words (commandline -opc)
    set -l response (env _INTERLOCK_COMPLETE=fish_complete COMP_WORDS="$words" COMP_CWORD=(commandline -ct) $words[1])
    for line in $response
        set -l parts (string split -m 1 , -- $line)
        switch $parts[1]
            case file
                __fish_complete_path (commandline -ct)
            case dir
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $parts[2]
        end
    end
end
complete --no-files --command interlock --arguments '(_interlock_completion)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


class Offer(NamedTuple):
    """A word that can be typed next."""

    value: str
    help: str = ""
    kind: str = "plain"
    """`open`: no space follows the word. `file`, `dir`: not a word; the shell itself completes files or folders."""


FILES, FOLDERS = Offer("_", kind="file"), Offer("_", kind="dir")


def answer(shell: str, environment: Mapping[str, str]) -> str:
    """Return the output for `shell`; `environment` has the command line so far. Empty if nothing can follow."""
    words = _split(environment.get("COMP_WORDS", ""))
    if shell == "fish":
        words, begun = words[1:], environment.get("COMP_CWORD", "")
        if begun and words[-1:] == [begun]:  # a script of click repeats it
            words.pop()
    else:
        place = int(environment.get("COMP_CWORD") or 0)
        words, begun = words[1:place], "".join(words[place : place + 1])
    host, words = _split_host(words, environment.get("INTERLOCK_HOST", ""))
    lines = ""
    with suppress(InterlockError, OSError):
        if host and not begun.startswith("-") and not all(word.startswith("-") for word in words):
            from ..remote.completing import asked  # names are those of that host

            there = asked(host, shell, words, begun)
            if there is not None:
                return there
        for offer in offers(words, begun):
            lines += _LINES[shell](offer)
    return lines


def lines_of(shell: str, words: Sequence[str], begun: str) -> str:
    """Return the output for `shell` of a user on another host, who has typed `words`."""
    return "".join(_LINES[shell](offer) for offer in offers(words, begun))


def _split_host(words: Sequence[str], host: str) -> tuple[str, list[str]]:
    """Return the host that `words` name (default: `host`) and the other words. bash splits `--host=build`."""
    rest = list(words)
    own = rest[: rest.index("--")] if "--" in rest else rest
    for number, word in enumerate(own):
        name, equals, value = word.partition("=")
        if name == "--host":
            end = number + (1 if equals else 3 if own[number + 1 : number + 2] == ["="] else 2)
            return (value or "".join(own[number + 1 : end])).removeprefix("="), rest[:number] + rest[end:]
    return host, rest


def _zsh(offer: Offer) -> str:
    return f"{offer.kind}\n{offer.value}\n{offer.help or '_'}\n"


_LINES: dict[str, Callable[[Offer], str]] = {
    "bash": lambda offer: f"{offer.kind},{offer.value}\n",
    "zsh": _zsh,
    "fish": lambda offer: f"{offer.kind},{offer.value}\t{offer.help}\n",
}


def _split(line: str) -> list[str]:
    """Return the words of `line` as a shell splits them; a quotation that is still open ends with the line."""
    if not any(sign in line for sign in "'\"\\"):
        return line.split()
    import shlex

    for end in ("", "'", '"'):
        try:
            return shlex.split(line + end)
        except ValueError:
            continue
    return line.split()


def offers(words: Sequence[str], begun: str) -> Iterator[Offer]:
    """Yield what can be typed in place of `begun` after `words`, which do not include the program's name."""
    if begun in ("=", ":"):  # bash splits `--format=json` and `web:/etc`
        words, begun = [*words, begun], ""
    line = _Line(json.loads(TABLE.read_bytes()))
    for word in words:
        line.take(word)
    if words and words[-1] == ":":
        return
    for offer in line.offers(begun):
        if offer in (FILES, FOLDERS) or offer.value.startswith(begun):
            yield offer


class _Line:
    """The command line so far: the command's entry in the table, and what was typed for it."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = self._node = tree
        self._wanted: Any = False
        """The kind of the value that comes next, if the last word was an option with a value; else False."""
        self.typed: list[str] = []
        """The arguments of the command so far."""
        self._given: set[str] = set()
        self._options_over = False

    def take(self, word: str) -> None:
        """Read `word`."""
        if word == "=":
            return
        if self._wanted is not False:
            self._wanted = False
        elif word == "--" and not self._options_over:
            self._options_over = True
        elif word.startswith("-") and word != "-" and not self._options_over:
            self._take_option(word)
        elif self._node.get("commands"):
            self._enter(word)
        else:
            self.typed.append(word)
            self._options_over |= bool(self._node.get("leads"))

    def _take_option(self, word: str) -> None:
        name, equals, _ = word.partition("=")
        if not name.startswith("--"):
            name = f"-{name[-1]}"  # the last of several in one word
        for option in self._node["options"]:
            if name in option["names"]:
                self._given.update(option["names"])
                self._wanted = False if equals else option["takes"]

    def _enter(self, word: str) -> None:
        """Enter the command `word`, which may be a name from another program; stay if it is not a command."""
        meant = meaning([word]) if self._node is self.tree else None
        for name in meant or [SAME_IN_GROUP.get(word, word)]:
            self._node = self._node.get("commands", {}).get(name, self._node)
        self._given = set()

    def offers(self, begun: str) -> Iterator[Offer]:
        """Yield what can come next."""
        if self._wanted is not False:
            yield from self._of_kind(self._wanted)
        elif begun.startswith("-") and not self._options_over:
            yield from self._options(begun)
        elif commands := self._node.get("commands"):
            yield from (Offer(name, command["help"]) for name, command in commands.items())
        else:
            yield from self._arguments()

    def _options(self, begun: str) -> Iterator[Offer]:
        """Yield the options that were not given yet; after an option with `=`, its values."""
        begun_name, equals, _ = begun.partition("=")
        for option in self._node["options"]:
            if equals and begun_name in option["names"]:
                for offer in self._of_kind(option["takes"]):
                    yield offer if offer in (FILES, FOLDERS) else offer._replace(value=f"{begun_name}={offer.value}")
            elif not equals and (option["many"] or not self._given & set(option["names"])):
                yield from (Offer(name, option["help"]) for name in option["names"])

    def _arguments(self) -> Iterator[Offer]:
        """Yield the possible values of the next argument, without those that were typed already."""
        arguments, place = self._node["arguments"], len(self.typed)
        if arguments and (place < len(arguments) or arguments[-1]["many"]):
            offers = self._of_kind(arguments[min(place, len(arguments) - 1)]["takes"])
            yield from (offer for offer in offers if offer.value not in self.typed)

    def _of_kind(self, kind: Any) -> Iterator[Offer]:
        if isinstance(kind, list):
            yield from (Offer(word, kind="open" if word.endswith("=") else "plain") for word in kind)
        elif kind in _KINDS:
            yield from _KINDS[kind](self)


def _drivers(line: _Line) -> Iterator[Offer]:
    from ..host import installed

    yield from map(Offer, sorted({*line.tree["drivers"]["names"], *installed.names(line.tree["drivers"]["group"])}))


def _templates(line: _Line) -> Iterator[Offer]:
    yield from map(Offer, line.tree["templates"])
    yield FILES


def _snapshots(line: _Line) -> Iterator[Offer]:
    """Yield the snapshots of the instance that was typed."""
    from ..fsm.snapshots import listed

    if line.typed and NAME.fullmatch(line.typed[0]):
        yield from (Offer(one.tag) for one in listed(Home.from_environment().directory(line.typed[0])))


def _of_guests(_: _Line) -> Iterator[Offer]:
    yield from (Offer(f"{name}:", kind="open") for name in Home.from_environment().names())
    yield FILES


def _hosts(_: _Line) -> Iterator[Offer]:
    from ..remote.address import HERE, named

    yield from map(Offer, [*named(), HERE])


def _topics(line: _Line) -> Iterator[Offer]:
    yield from (Offer(name, command["help"]) for name, command in line.tree["commands"].items())
    yield from map(Offer, line.tree["topics"])


_KINDS: dict[str, Callable[[_Line], Iterator[Offer]]] = {
    "instance": lambda _: map(Offer, Home.from_environment().names()),
    "image": lambda _: map(Offer, Home.from_environment().image_names()),
    "disk": lambda _: map(Offer, Home.from_environment().disk_names()),
    "driver": _drivers,
    "template": _templates,
    "guest-path": _of_guests,
    "topic": _topics,
    "file": lambda _: iter((FILES,)),
    "dir": lambda _: iter((FOLDERS,)),
    "diagram": lambda line: map(Offer, line.tree["diagrams"]),
    "snapshot": _snapshots,
    "host": _hosts,
}
"""Kind of a parameter, as in `options.Named` → the function that yields its existing values."""

KINDS = frozenset(_KINDS)
