"""The view itself: the layout of the screen, and what each key does.

The screen never blocks: one thread looks at the instances, others carry out requests (`looking`, `requests`), and both
send messages here. The view decides nothing: `keys` says what is legal.
"""

import shlex
import sys
from bisect import insort
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key, Resize
from textual.message import Message
from textual.widget import Widget

from ..api import Interlock
from ..commands.terminal import printable
from ..errors import InterlockError
from ..fsm import words
from ..fsm.events import Event
from ..fsm.records import Status
from ..fsm.table import BY_TRIGGER, By, Row, Trigger
from ..fsm.watch import Change
from . import picture
from .dialogs import Page, Question, Words
from .keys import LETTERS, legal, loses, refusal
from .looking import Looking, Seen
from .reading import Terminal
from .requests import Request, Requests

if TYPE_CHECKING:
    from ..guest.agent import Load

CALL_OFF = "x"
OWN_KEYS = (
    ("↑↓", "choose"),
    ("Enter", "diagram"),
    (CALL_OFF, "call off"),
    ("PgUp", "earlier"),
    ("?", "keys"),
    ("q", "quit"),
)

PROMPTED = {"new", "tag"}
"""Arguments of rows that a line of text can give. For rows that need more, the user types the command."""

_KEPT = 500
"""How many lines of messages are kept."""

_OTHER_ROWS, _FEWEST_ROWS = 10, 5
"""The rows that title, facts, keys and separators take, and the least that the messages and the table need."""

_SCROLL_BAR = 2
"""The width of the scroll bar of a page that is longer than the screen."""

NOTHING = "No instances. This makes one: interlock create web --template debian"


class Drawn(Widget):
    """A part of the screen that shows the text that a function makes for its size."""

    def __init__(self, draw: Callable[[int, int], Text], name: str) -> None:
        super().__init__(id=name)
        self._draw = draw

    def render(self) -> Text:
        return self._draw(self.size.width, self.size.height)


class Top(App[None]):
    """The live view of the instances `names` of one home, or of all.

    `run_outside` runs a command line on the terminal, and waits for Enter if its second argument is true. `hear`
    receives what our requests announce; it is given to the API. `typed` returns a command of a hint as it is typed
    on the user's host.
    """

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose(-1)", show=False),
        Binding("down", "choose(1)", show=False),
        Binding("home", "choose(-1000000)", show=False),
        Binding("end", "choose(1000000)", show=False),
        Binding("pageup", "earlier(1)", show=False),
        Binding("pagedown", "earlier(-1)", show=False),
        Binding("enter", "diagram", show=False),
        Binding(CALL_OFF, "call_off", show=False),
        Binding("question_mark", "explain", show=False),
        Binding("q,ctrl+c,ctrl+q", "leave", show=False, priority=False),
    ]
    CSS = """
    #title { height: 1 }
    #keys { height: auto }
    #lifecycle { height: 4; margin: 1 0 0 0 }
    #known { height: 3; margin: 1 0 0 0 }
    #messages { height: 1fr; border-top: solid ansi_default }
    #keys { border-top: solid ansi_default }
    .dialog { width: 76; height: auto; border: round ansi_default; padding: 0 1 }
    Question, Words { align: center middle; background: transparent }
    Page, Page Static { background: ansi_default; width: 100% }
    Input, Input:focus { border: none; height: 1; padding: 0; background: ansi_default; text-style: underline }
    """

    class Looked(Message):
        """The instances have been looked at."""

        def __init__(self, everyone: list[Seen]) -> None:
            super().__init__()
            self.everyone = everyone

    class Said(Message):
        """There are lines to show."""

        def __init__(self, lines: Sequence[Text], moment: datetime | None = None) -> None:
            super().__init__()
            self.lines, self.moment = lines, moment or datetime.now().astimezone()

    class Ended(Message):
        """One of the looking threads has ended because of an error."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(
        self,
        interlock: Interlock,
        run_outside: Callable[[Sequence[str], bool], int],
        names: Collection[str] = (),
        typed: Callable[[str], str] = str,
    ) -> None:
        super().__init__(driver_class=Terminal, ansi_color=True)
        self.theme = "ansi-dark"
        self._interlock, self._run_outside, self._names = interlock, run_outside, names
        self._typed = typed
        self._load: tuple[str | None, Load | None] = None, None
        """The name of the instance whose guest was asked last, and the load that it reported."""
        self.requests = Requests(interlock, self._over)
        self._everyone: list[Seen] = []
        self._chosen: str | None = None
        self._messages: list[tuple[datetime, str, Text]] = []
        """In the order of their moments: what happened before the view was opened is read after it answers keys."""
        self._back = 0
        self.failure: Exception | None = None
        """Why the view ended by itself."""

    # -- layout ----------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Drawn(lambda width, _: picture.title(self._everyone, width), "title")
        yield Drawn(self._table, "table")
        yield Drawn(lambda width, _: self._of_chosen(lambda seen: self._known(seen, width)), "known")
        yield Drawn(self._lifecycle, "lifecycle")
        yield Drawn(self._shown_messages, "messages")
        yield Drawn(self._keys, "keys")

    def on_mount(self) -> None:
        self._looking = Looking(self._interlock, self, self._chosen_status, self._names)

    def on_unmount(self) -> None:
        self._looking.close()

    def on_resize(self, event: Resize) -> None:
        self._share_out(event.size.height)

    def _share_out(self, height: int) -> None:
        """Show the lifecycle's whole drawing if the rest stays usable, then give the table the rows it needs."""
        whole = picture.whole_rows()
        lifecycle = whole if height - whole >= _OTHER_ROWS + 2 * _FEWEST_ROWS else picture.WAYS_ROWS
        room = height - lifecycle - _OTHER_ROWS - _FEWEST_ROWS
        heights = {"lifecycle": lifecycle, "table": max(2, min(len(self._everyone) + 1, room))}
        for part in self._parts():
            if part.id in heights:
                part.styles.height = heights[part.id]

    def _table(self, width: int, height: int) -> Text:
        if not self._everyone:
            return Text(NOTHING)
        return picture.table(self._everyone, self._chosen, width, height)

    def _lifecycle(self, width: int, height: int) -> Text:
        return self._of_chosen(lambda seen: picture.lifecycle(seen.status, width, height))

    def _keys(self, width: int, _: int) -> Text:
        seen = self._seen()
        own = [pair for pair in OWN_KEYS if pair[0] != CALL_OFF or (seen and self.requests.of(seen.status.name))]
        return picture.keys(legal(seen.status) if seen else [], own, width)

    def _shown_messages(self, width: int, height: int) -> Text:
        lines = [
            Text(when if number == 0 else " " * len(when)).append(line)
            for _, when, text in self._messages
            for number, line in enumerate(text.wrap(self.console, max(1, width - len(when))))
        ]
        self._back = max(0, min(self._back, len(lines) - height))
        end = len(lines) - self._back
        return Text("\n").join(lines[max(0, end - height) : end])

    def _of_chosen(self, draw: Callable[[Seen], Text]) -> Text:
        seen = self._seen()
        return draw(seen) if seen else Text("")

    def _seen(self) -> Seen | None:
        return next((it for it in self._everyone if it.status.name == self._chosen), None)

    def _known(self, seen: Seen, width: int) -> Text:
        name, load = self._load
        return picture.known(seen, load if name == seen.status.name else None, width)

    def _chosen_status(self) -> Status | None:
        seen = self._seen()
        return seen.status if seen else None

    def _redraw(self) -> None:
        for part in self._parts():
            part.refresh(layout=part.id in ("keys", "known"))

    def _parts(self) -> list[Drawn]:
        """Return the parts of the view; empty if a message arrives when the screen is already gone."""
        return [part for screen in self.screen_stack[:1] for part in screen.query(Drawn)]

    # -- messages of the threads -----------------------------------------------------------------------------------

    def seen(self, instances: list[Seen]) -> None:
        self.post_message(self.Looked(instances))

    def happened(self, change: Change) -> None:
        moment = datetime.fromisoformat(change.time).astimezone()
        self.post_message(self.Said([Text(printable(change.message))], moment))

    def heard(self, name: str, load: "Load | None") -> None:
        self._load = name, load

    def ended(self, error: Exception) -> None:
        self.post_message(self.Ended(error))

    def hear(self, event: Event) -> None:
        """Show an event of one of our requests, unless it is in a journal: the watch shows those."""
        if event.seq is None:
            self.post_message(self.Said([Text(printable(event.message))]))

    def _over(self, request: Request) -> None:
        error = request.call.future.exception()
        if error is not None:
            self.post_message(self.Said(self._complaint(error)))
        elif not BY_TRIGGER[request.trigger].recorded:  # then no event was announced for it
            outcome = request.call.future.result()
            said = (*outcome.mended, words.repaired(outcome.instance, outcome.state, outcome.mended))
            self.post_message(self.Said([Text(printable(line)) for line in said]))
        self._looking.look_now()

    def on_top_looked(self, message: Looked) -> None:
        names = [it.status.name for it in message.everyone]
        if self._chosen not in names:
            before = [it.status.name for it in self._everyone]
            at = before.index(self._chosen) if self._chosen in before else 0
            self._chosen = names[min(at, len(names) - 1)] if names else None
        self._everyone = message.everyone
        self._share_out(self.size.height)
        self._redraw()

    def on_top_said(self, message: Said) -> None:
        when = f"{message.moment:%H:%M:%S}  "
        for number, line in enumerate(message.lines):
            shown = (message.moment, when if number == 0 else " " * len(when), line)
            insort(self._messages, shown, key=lambda it: it[0])
        del self._messages[:-_KEPT]
        self._redraw()

    def on_top_ended(self, message: Ended) -> None:
        self.failure = message.error
        self.exit()

    # -- keys ------------------------------------------------------------------------------------------------------

    def on_key(self, event: Key) -> None:
        trigger = LETTERS.get(event.character or "")
        seen = self._seen()
        if trigger and seen and len(self.screen_stack) == 1:
            event.stop()
            self._ask_for(trigger, seen.status)

    def action_choose(self, step: int) -> None:
        names = [it.status.name for it in self._everyone]
        if self._chosen in names:
            self._chosen = names[max(0, min(names.index(self._chosen) + step, len(names) - 1))]
            self._redraw()

    def action_earlier(self, pages: int) -> None:
        self._back = max(0, self._back + pages * self.query_one("#messages").size.height)
        self._redraw()

    def action_diagram(self) -> None:
        if seen := self._seen():
            self.push_screen(Page(picture.whole_lifecycle(seen.status.state, with_notes=True)))

    def action_explain(self) -> None:
        self.push_screen(Page(picture.explained(self.size.width - _SCROLL_BAR)))

    def action_call_off(self) -> None:
        """Cancel the requests of this view that are under way for the chosen instance."""
        if self._chosen is None:
            return
        ours = self.requests.of(self._chosen)
        for request in ours:
            request.call.call_off()
        if not ours:
            self._say(f'no action of yours is under way for "{self._chosen}"')

    def action_leave(self) -> None:
        under_way = self.requests.under_way
        if not under_way:
            self.exit()
            return
        answers = {"q": "quit; this terminal waits until it is done, and Ctrl-C cancels it", "x": "cancel it and quit"}

        def leave(answer: str | None) -> None:
            if answer == "x":
                for request in list(under_way):
                    request.call.call_off()
            if answer:
                self.exit()

        self.push_screen(Question(f"Under way: {', '.join(request.words for request in under_way)}", answers), leave)

    def _ask_for(self, trigger: Trigger, status: Status) -> None:
        """Carry out `trigger` on the instance of `status`, or say why not; ask first if something would be lost."""
        row = BY_TRIGGER[trigger]
        if trigger not in legal(status):
            why = refusal(status, trigger)
            self.post_message(self.Said(self._refused(why.message, why.hint)))
        elif status.damage or not (row.needs or row.by is By.caller):
            self._confirmed(trigger, status)
        elif set(row.needs) <= PROMPTED and row.needs:
            self._prompt(row, status)
        elif row.example == "NAME":
            self._outside(words.typed(status.name, trigger), pause=False)
        else:
            self._type(words.typed(status.name, trigger))

    def _confirmed(self, trigger: Trigger, status: Status, arguments: Sequence[str] = ()) -> None:
        if not loses(trigger):
            self._begin(trigger, status, arguments)
            return
        what = " ".join([str(trigger), status.name, *arguments])
        row = BY_TRIGGER[trigger]

        def begin(answer: str | None) -> None:
            if answer:
                self._begin(trigger, status, arguments)

        self.push_screen(
            Question(f"{what}?\n\n{row.why if not status.damage else row.on_damage}", {"y": str(trigger)}), begin
        )

    def _begin(self, trigger: Trigger, status: Status, arguments: Sequence[str] = ()) -> None:
        self.requests.begin(status.name, trigger, arguments, damaged=bool(status.damage))
        self._looking.look_now()

    def _prompt(self, row: Row, status: Status) -> None:
        example = row.example.replace("NAME", "").strip()
        what = f"{row.trigger} {status.name}\n\n{row.why}\n"

        def begin(answer: str | None) -> None:
            if answer:
                several = row.trigger is Trigger.fork
                self._confirmed(row.trigger, status, answer.split() if several else [answer.strip()])

        self.push_screen(Words(what, example=example), begin)

    def _type(self, line: str) -> None:
        def begin(answer: str | None) -> None:
            if answer:
                self._outside(answer, pause=True)

        self.push_screen(Words("This is a command of the shell; it runs on this terminal.", line), begin)

    def _outside(self, line: str, *, pause: bool) -> None:
        """Run one of our command lines on the terminal; with `pause`, its output stays until Enter is pressed."""
        try:
            program, *arguments = shlex.split(line)
        except ValueError as error:
            self._say(f"{line}: {error}")
            return
        if program != "interlock":
            self._say(f"{program}: expected a command line of interlock")
            return
        with self.suspend():
            status = self._run_outside([sys.executable, "-m", "interlock", *arguments], pause)
        if status:
            self._say(f"{line}: ended with exit code {status}")
        self._looking.look_now()

    def _say(self, text: str) -> None:
        self.post_message(self.Said([Text(text)]))

    def _refused(self, message: str, hint: str | None, details: Sequence[str] = ()) -> list[Text]:
        lines = [Text(printable(message), style="bold"), *(Text(printable(line)) for line in details)]
        return [*lines, Text(f"hint: {self._typed(hint)}")] if hint else lines

    def _complaint(self, error: BaseException) -> list[Text]:
        if isinstance(error, InterlockError):
            return self._refused(error.message, error.hint, error.details)
        return self._refused(f"{type(error).__name__}: {error}; this is a defect of Interlock", None)
