"""The live view on textual's test screen, with simulated machines: what it shows, and what its keys do."""

import asyncio
import re
import time
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.text import Text

from interlock import Interlock, SimulatedDriver, State, Trigger
from interlock.diagrams.render import text
from interlock.guest.agent import Load
from interlock.top.app import NOTHING, Top
from interlock.top.picture import TITLES, whole_rows

GOLDEN = Path(__file__).parents[1] / "golden" / "top.txt"
PATIENCE_S = 120


class View:
    """The view while it is on the screen."""

    def __init__(self, app, pilot):
        self.app, self.pilot = app, pilot

    @property
    def screen(self):
        """Return the text on the screen, with times replaced."""
        strips = self.app.screen._compositor.render_strips()
        text = "\n".join(strip.text.rstrip() for strip in strips)
        text = re.sub(r"\b\d\d:\d\d:\d\d\b", "hh:mm:ss", text)
        return re.sub(r"\b(in|after|for) [\d.]+ s\b", r"\1 N s", text)

    async def until(self, *words):
        """Wait until all of `words` are on the screen."""
        end = time.monotonic() + PATIENCE_S
        while missing := [word for word in words if word not in self.screen]:
            assert time.monotonic() < end, f"{missing} not in\n{self.screen}"
            await self.pilot.pause(0.02)

    async def press(self, *keys):
        await self.pilot.press(*keys)


@pytest.fixture
def driver():
    """Return the driver of the simulated machines; tests may change its orders."""
    return SimulatedDriver(orders={})


@pytest.fixture
def vms(home, driver):
    """Return the API with three instances: one created, one running, one stopped."""
    vms = Interlock(home, driver=driver)
    for name in ("build", "db", "web"):
        vms.create(name, "tiny")
    for name in ("db", "web"):
        vms.start(name)
    vms.stop("db")
    figures = {"cpu_s": 12.5, "resident_bytes": 190 << 20, "uptime_s": 125.0}
    driver.happen(vms.engine.site("web"), **figures)
    return vms


@pytest.fixture
def shown(home, driver, vms):  # noqa: ARG001 - it makes the instances
    """Return a function that shows the view on a terminal of the given size, and runs the coroutine `use` with it."""
    outside = []

    def show(use, size=(80, 24), typed=str):
        vms = Interlock(home, driver=driver, on_event=lambda event: app.hear(event))  # noqa: PLW0108 - it is made below
        app = Top(vms, lambda argv, pause: outside.append((argv, pause)) or 0, typed=typed)

        async def run():
            async with app.run_test(size=size) as pilot:
                await use(View(app, pilot))

        asyncio.run(run())
        return outside

    return show


def test_view_shows_the_chosen_one_its_state_and_what_is_legal(shown, agrees):
    """A terminal of 80 by 24 has the instances, the diagram, the messages and the keys."""

    async def use(view):
        await view.until("stopped · guest shut down", 'stopped "db"')
        await view.press("down", "down")
        await view.until(
            *TITLES, "db     stopped", "web    running", "web  running", 'stopped "db"', "t stop", "q quit"
        )
        agrees(GOLDEN, view.screen, part="80 x 24")

    shown(use)


@pytest.mark.usefixtures("vms")
def test_view_of_one_shows_it_alone_and_what_its_guest_says_of_itself(home, driver, monkeypatch):
    """The other instances are not shown, and neither are their events."""
    monkeypatch.setattr("interlock.top.looking.ASK_S", 0.01)
    monkeypatch.setattr(driver, "load", lambda _: Load((0.5, 0.25, 0.0), 180 << 20, 61.0))

    async def run():
        app = Top(Interlock(home, driver=driver), lambda *_: 0, ("web",))
        async with app.run_test(size=(80, 24)) as pilot:
            view = View(app, pilot)
            await view.until("1 running", 'started "web"', "guest · load 0.50 0.25 0.00 · 180 MiB free · up 1 min 1 s")
            assert not {"db", "build"} & set(view.screen.split())

    asyncio.run(run())


def test_view_of_a_large_terminal_has_the_whole_diagram(shown):
    """The drawing is that of `interlock diagram`, with the current state in a double border."""
    drawn = text(State.created).splitlines()[: whole_rows()]

    async def use(view):
        await view.until("build  created", *drawn, 'stopped "db"', "q quit")

    shown(use, size=(100, 50))


def test_what_is_seen_while_the_view_ends_is_nothing_to_it(shown):
    """The threads end after the screen does, and on a busy host one may still report something."""

    async def use(view):
        await view.until("build  created")
        await view.app.query("*").remove()
        view.app.seen([])
        view.app.hear(SimpleNamespace(seq=None, message="late"))
        await view.pilot.pause()

    shown(use)


def test_view_without_instances_says_how_to_make_one(home):
    """Without instances, keys that act on one do nothing."""

    async def run():
        app = Top(Interlock(home, driver="simulated"), lambda *_: 0)
        async with app.run_test(size=(80, 24)) as pilot:
            view = View(app, pilot)
            await view.until(NOTHING)
            await view.press("up", "enter", "s", "x", "pageup")
            await view.until("quit")

    asyncio.run(run())


def test_key_asks_for_its_trigger_and_the_steps_are_shown(shown, vms, driver, tmp_path):
    """The view shows the current step, where it leads and the keys that cancel it; in the end, the new state."""
    driver.orders = {"start": {"until": str(tmp_path / "go")}}

    async def use(view):
        await view.until("build  created")
        await view.press("s")
        await view.until('starting "build": waiting for the simulated guest', "starting: created ═► running", "t stop")
        assert "d delete" not in view.screen
        (tmp_path / "go").touch()
        await view.until('started "build" in N s', "u suspend")

    shown(use)
    assert vms.status("build").state == "running"


def test_key_of_what_is_refused_says_why_and_what_to_type(shown):
    """The message and the hint are those of the command line, and nothing is done."""

    async def use(view):
        await view.until("build  created", 'stopped "db"')
        await view.press("f")
        await view.until('"build" is created; fork is legal from running only', "hint: interlock start build &&")

    shown(use)


def test_hint_of_the_view_is_typed_where_the_user_is(shown):
    """With `interlock --host build top`, the hint has to be typed on this host, not on that one."""

    async def use(view):
        await view.until("build  created", 'stopped "db"')
        await view.press("f")
        await view.until("hint: there: interlock start build")

    shown(use, typed=lambda hint: f"there: {hint}")


@pytest.mark.parametrize(("answer", "left"), [("escape", True), ("n", True), ("y", False)])
def test_key_of_what_loses_something_asks_first(shown, vms, answer, left):
    """Only the letter shown in the question confirms."""

    async def use(view):
        await view.until("build  created", 'stopped "db"')
        await view.press("d")
        await view.until("delete build?", "Removes the instance with all its files", "y  delete", "Esc  back")
        await view.press(answer)
        if left:
            await view.press("escape")
            await view.until("d delete")
        else:
            await view.until('deleted "build"')

    shown(use)
    assert vms.status("build").exists == left


def test_key_of_what_needs_a_name_asks_for_it(shown, vms):
    """The name is typed on a line; an empty line cancels."""

    async def use(view):
        await view.until("build  created")
        await view.press("l")
        await view.until("clone build", "Enter: do it")
        await view.press("enter", "l", *"other", "enter")
        await view.until('the copy is "other"')

    shown(use)
    assert vms.status("other").state == "created"


def test_key_of_what_needs_one_name_takes_two_words_as_one(shown):
    """Two words are not a valid name, and the error is about the name."""

    async def use(view):
        await view.until("build  created")
        await view.press("l", *"one", "space", *"two", "enter")
        await view.until("'one two'")

    shown(use)


@pytest.mark.parametrize(
    ("keys", "typed"),
    [
        (("S",), ["shell", "web"]),
        (("i", "enter"), ["edit", "web", "--cpus", "4"]),
        (("y", "backspace", *"/tmp", "enter"), ["copy", "web:/etc/hostname", "/tmp"]),
    ],
)
def test_key_of_what_needs_the_terminal_runs_the_command(shown, monkeypatch, keys, typed):
    """A login starts at once; a command with arguments is edited first, and waits for Enter after its output."""
    monkeypatch.setattr(Top, "suspend", lambda _: nullcontext())

    async def use(view):
        await view.until("build  created")
        await view.press("end", *keys)
        await view.pilot.pause()

    ((argv, pause),) = shown(use)
    assert (argv[1:], pause) == (["-m", "interlock", *typed], len(keys) > 1)


def test_failure_is_shown_with_its_words(shown, driver):
    """The view shows the error of a failed action."""
    driver.orders = {"start": {"error": "the simulated disk is full"}}

    async def use(view):
        await view.until("build  created")
        await view.press("s")
        await view.until("the simulated disk is full", 'starting "build" failed', "start failed")

    shown(use)


def test_what_was_asked_for_here_can_be_called_off(shown, vms, driver):
    """The key is shown only while an action of this view is under way."""
    driver.orders = {"start": {"hang": True}}

    async def use(view):
        await view.until("build  created")
        assert "call off" not in view.screen
        await view.press("x")
        await view.until("no action of yours is under way")
        await view.press("s")
        await view.until("x call off", "waiting for the simulated guest")
        await view.press("x")
        await view.until("called off by its caller", "it is created")

    shown(use)
    assert vms.status("build").state == "created"


@pytest.mark.parametrize(("answer", "state"), [("q", "running"), ("x", "created")])
def test_quitting_calls_off_what_is_under_way_only_if_asked(shown, vms, driver, tmp_path, answer, state):
    """The question names the action; unless called off, it finishes after the view has ended."""
    driver.orders = {"start": {"until": str(tmp_path / "go")}}
    left = []

    async def use(view):
        await view.until("build  created")
        await view.press("s")
        await view.until("waiting for the simulated guest")
        await view.press("q")
        await view.until('Under way: starting "build"')
        left.extend(view.app.requests.under_way)
        await view.press(answer)

    shown(use)
    if answer == "q":
        assert not left[0].call.future.done()
        (tmp_path / "go").touch()
    left[0].call.future.exception(timeout=PATIENCE_S)
    assert vms.status("build").state == state


def test_damaged_instance_has_the_keys_that_mend_or_remove_it(shown, vms, home):
    """It can be repaired or deleted; every other key is refused with a hint."""
    (home.directory("build") / "spec.json").write_bytes(b"")

    async def use(view):
        await view.until("damaged · ", "E repair", "d delete")
        assert "s start" not in view.screen
        await view.press("s")
        await view.until("hint: interlock delete build --force")
        await view.press("d")
        await view.until("every driver that could have made it")
        await view.press("y")
        await view.until('deleted "build"')

    shown(use)
    assert not vms.status("build").exists


def test_message_of_an_earlier_moment_is_shown_above_later_ones(shown):
    """What happened before the view was opened may be read after a key was answered, and must not hide the answer."""

    async def use(view):
        await view.until("build  created", 'stopped "db"')
        view.app.post_message(Top.Said([Text("refused"), Text("hint: this")]))
        past = datetime.now().astimezone() - timedelta(hours=1)
        for number in range(20):
            view.app.post_message(Top.Said([Text(f"line {number}")], past))
        await view.until("refused", "hint: this")
        lines = view.screen.splitlines()
        (refused,) = (at for at, line in enumerate(lines) if "refused" in line)
        assert "hint: this" in lines[refused + 1]
        assert "line 19" not in view.screen

    shown(use)


def test_page_of_the_diagram_and_of_the_keys_goes_away_by_any_key(shown):
    """Both pages can be scrolled on a small terminal."""

    async def use(view):
        await view.until("build  created", 'stopped "db"')
        await view.press("enter")
        await view.until("in created and stopped, staying there", "║ created ║")
        await view.press("down", "escape", "question_mark")
        await view.until("Turns a template into a spec and a disk")
        await view.press("a")
        await view.until("NAME")

    shown(use)


def test_choice_stays_with_its_instance_and_moves_on_from_one_that_is_gone(shown, vms):
    """New instances do not move the selection; when the selected one vanishes, the next one is selected."""

    async def use(view):
        await view.until("build  created")
        await view.press("down")
        vms.create("a", "tiny")
        await view.until("a      created")
        assert view.app._chosen == "db"
        vms.fire("db", Trigger.delete)
        await view.until('deleted "db"')
        await view.until("web  running")

    shown(use)


def test_many_instances_scroll_with_the_choice(shown, vms):
    """The table leaves room for the rest of the view, and scrolls to the selected instance."""
    for number in range(30):
        vms.create(f"vm{number:02}", "tiny")

    async def use(view):
        await view.until("build  created", "q quit")
        await view.press("end")
        await view.until("web  running", "vm29")
        assert "build " not in view.screen
        await view.press("home")
        await view.until("build  created")

    shown(use)


def test_earlier_messages_can_be_read(shown):
    """Messages can be scrolled by page, and back to the latest."""

    async def use(view):
        await view.until('stopped "db"')
        assert 'creating "build"' not in view.screen
        await view.press(*["pageup"] * 10)
        await view.until('creating "build"')
        await view.press(*["pagedown"] * 10)
        await view.until('stopped "db"')

    shown(use)
