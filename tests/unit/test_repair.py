"""Damage is recognized and repaired where possible, and the recorded state is true afterwards."""

import stat

import pytest

from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import BusyError, DamagedError, DriverError, NotFoundError, ProtectedError
from interlock.fsm import engine as engine_module
from interlock.fsm.causes import as_error
from interlock.fsm.journal import FILE
from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import AT_REST, EXISTING, State
from interlock.fsm.table import Trigger
from interlock.host.files import remove_tree
from interlock.host.locks import Lock
from interlock.host.process import boot_id

GARBAGE = {
    "words": b"garbage\n",
    "nothing": b"\n",
    "zeros": b"\0" * 4096 + b"\n",
    "no UTF-8": b"\xff\xfe\x00\xd8\n",
    "a carriage return": b"\r{}\r\n",
    "another object": b'{"seq": 1}\n',
    "nesting": b"[" * 100_000 + b"\n",
    "an enormous line": b"x" * (4 << 20) + b"\n",
}


@pytest.fixture
def journal(home):
    """Return the path of the journal of `web`."""
    return home.directory("web") / FILE


@pytest.fixture(params=GARBAGE)
def garbage(request):
    """Return something that is not a journal line."""
    return GARBAGE[request.param]


def put(path, content, *, before):
    """Put `content` into the file `path` before its last `before` lines."""
    lines = path.read_bytes().splitlines(keepends=True)
    place = len(lines) - before
    path.write_bytes(b"".join([*lines[:place], content, *lines[place:]]))


def set_aside(home):
    """Return the contents that were set aside from the journal of `web`."""
    return [path.read_bytes() for path in home.directory("web").glob(f"{FILE}.damaged-*")]


# -- what is fixed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", EXISTING)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_repair_of_garbage_in_the_journal_sets_it_aside_and_keeps_the_rest(
    engine, home, bring, journal, garbage, state, before
):
    """Wherever the garbage is, good lines stay, bad ones are kept in another file, and the state is known."""
    bring("web", state)
    whole = journal.read_bytes()
    put(journal, garbage, before=before)
    mending = engine.fire("web", Trigger.repair)
    assert mending.state is state
    assert len(mending.mended) == 1
    assert whole == journal.read_bytes()
    assert [garbage] == set_aside(home)
    assert engine.status("web").damage is None


def test_repair_of_lost_line_says_which_numbers_are_missing(engine, bring, journal):
    """Missing lines are named and not invented."""
    bring("web", State.stopped)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"torn\n", *lines[4:]]))
    mending = engine.fire("web", Trigger.repair)
    assert mending.mended[1:] == ("missing from the journal: lines 3 to 4",)
    assert [line.seq for line in engine.history("web")] == [1, 2, *range(5, len(lines) + 1)]


def test_repair_of_lost_outcome_settles_the_operation_as_a_crash(engine, bring, journal):
    """A start whose outcome is lost counts as interrupted; since its guest is up, recovery finishes it."""
    bring("web", State.running)
    *lines, outcome = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines, outcome[:10], b"\n"]))
    assert engine.fire("web", Trigger.repair).state is State.running
    assert engine.status("web").operation is None


def test_repair_of_lost_start_finds_the_machine_that_runs(engine, bring, journal):
    """A running machine whose start is not recorded is noticed, and a start is recorded for it."""
    bring("web", State.running)
    lines = journal.read_bytes().splitlines(keepends=True)
    created = next(number for number, line in enumerate(lines) if b'"start"' in line)
    journal.write_bytes(b"".join([*lines[:created], b"\0\n"]))
    assert engine.fire("web", Trigger.repair).state is State.running
    assert [line.trigger for line in engine.history("web")][-1] is Trigger.start


def test_repair_of_journal_of_machine_that_went_down_records_the_exit(engine, driver, bring, journal, garbage):
    """The usual observation follows the repair, so an instance that is down is not reported as running."""
    bring("web", State.running)
    put(journal, garbage, before=0)
    driver.happen(engine.site("web"), alive=False, exit_reason="host went down")
    assert engine.fire("web", Trigger.repair).state is State.stopped
    assert engine.status("web").reason == "host went down"


@pytest.mark.parametrize("name", [".", SPEC_FILE, FILE])
@pytest.mark.parametrize("mode", [0o000, 0o777])
def test_repair_of_permissions_makes_it_private_again(engine, home, bring, name, mode):
    """The engine's files are private to their owner, who can read and write them."""
    bring("web", State.stopped)
    path = home.directory("web") / name
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode)
    assert len(engine.fire("web", Trigger.repair).mended) == 1
    assert before == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("state", EXISTING)
def test_repair_of_a_healthy_instance_changes_nothing(engine, bring, journal, state):
    """A needless repair succeeds and changes nothing; a torn last line never counted, so it is not damage."""
    bring("web", state)
    with journal.open("ab") as file:
        file.write(b'{"seq": 1')
    before = journal.read_bytes()
    mending = engine.fire("web", Trigger.repair)
    assert (mending.state, mending.mended) == (state, ())
    assert before == journal.read_bytes()


# -- what is not ---------------------------------------------------------------------------------------------------


def a_link(path):
    """Replace the directory `path` with a link to a folder outside the home."""
    elsewhere = path.parents[2] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def a_dangling_link(path):
    """Replace the directory `path` with a dangling link."""
    remove_tree(path)
    path.symlink_to("nowhere")


def a_foreign_link(path):
    """Replace the journal in `path` with a link to a file outside the home."""
    elsewhere = path.parents[2] / "elsewhere"
    (path / FILE).rename(elsewhere)
    (path / FILE).symlink_to(elsewhere)


UNMENDABLE = {
    "an empty directory": (lambda path: [file.unlink() for file in path.iterdir()], "No such file"),
    "a file": (lambda path: (remove_tree(path), path.write_text("web")), "not a directory"),
    "a link": (a_link, "not a directory"),
    "a link to nowhere": (a_dangling_link, "not a directory"),
    "no spec": (lambda path: (path / SPEC_FILE).unlink(), "No such file"),
    "half a spec": (lambda path: (path / SPEC_FILE).write_bytes(b'{"driver": "simu'), "Unterminated string"),
    "a journal of garbage": (lambda path: (path / FILE).write_bytes(b"garbage\n" * 3), "journal line"),
    "a torn journal": (lambda path: (path / FILE).write_bytes(b'{"seq": 1'), "holds no whole line"),
    "a journal elsewhere": (a_foreign_link, "not a regular file"),
}  # fmt: skip


@pytest.fixture(params=UNMENDABLE)
def reason(request, home, bring):
    """Damage `web` beyond repair, leave `db` intact, and return what the reason must contain."""
    bring("web", State.stopped)
    bring("db", State.created)
    damage, said = UNMENDABLE[request.param]
    damage(home.directory("web"))
    return said


def test_damage_is_listed_with_its_reason_and_disturbs_no_other(engine, reason):
    """Both are listed; the damaged one says what is wrong with it."""
    db, web = engine.statuses()
    assert (db.name, db.damage, web.name, reason in (web.damage or "")) == ("db", None, "web", True)


def test_repair_of_what_cannot_be_mended_says_so_and_the_way_out(engine, home, reason):
    """No state is invented: nothing changes, and the hint is the way out."""
    before = sorted(home.root.rglob("*"))
    with pytest.raises(DamagedError) as refused:
        engine.fire("web", Trigger.repair)
    assert reason.split()[-1] in refused.value.message
    assert refused.value.hint == "interlock delete web --force"
    assert before == sorted(home.root.rglob("*"))


@pytest.mark.usefixtures("reason")
def test_discard_of_what_cannot_be_mended_removes_it_and_nothing_beyond(engine, home, tmp_path):
    """A forced delete works; the target of a link is not removed."""
    beyond = {path for path in tmp_path.rglob("*") if home.root not in (path, *path.parents)}
    engine.fire("web", Trigger.delete, force=True)
    assert engine.names() == ["db"]
    assert beyond == {path for path in tmp_path.rglob("*") if home.root not in (path, *path.parents)}


def test_discard_of_a_link_ends_no_machine_it_leads_to(engine, home, bring, driver):
    """A link to another instance does not make that machine this instance's, and its protection does not count."""
    bring("db", State.running)
    engine.fire("db", Trigger.protect)
    home.directory("web").symlink_to(home.directory("db"))
    engine.fire("web", Trigger.delete, force=True)
    assert driver.observe(engine.site("db")).alive
    assert engine.status("db").state is State.running


def test_repair_of_absent_instance_is_not_found(engine):
    """There is no instance to repair."""
    with pytest.raises(NotFoundError):
        engine.fire("web", Trigger.repair)


def test_repair_beside_a_delete_that_ends_first_is_not_found(engine, home, bring, monkeypatch):
    """An instance that is gone once the lock is free is absent, not damaged; the hint does not propose a delete."""
    bring("web", State.created)
    acquire = Lock.acquire

    def acquire_after_the_delete(lock):
        remove_tree(home.directory("web"))
        return acquire(lock)

    monkeypatch.setattr(Lock, "acquire", acquire_after_the_delete)
    with pytest.raises(NotFoundError) as refused:
        engine.fire("web", Trigger.repair)
    assert "delete" not in refused.value.hint
    assert not home.lock("web").exists()


def test_repair_while_another_process_holds_it_is_busy(engine, home, bring, monkeypatch):
    """An instance is not repaired while another process writes to it."""
    monkeypatch.setattr(engine_module, "HANDOVER_S", 0.05)
    bring("web", State.created)
    with Lock(home.lock("web")) as lock:
        assert lock.acquire()
        with pytest.raises(BusyError, match="repair was not begun"):
            engine.fire("web", Trigger.repair)


@pytest.mark.parametrize("state", EXISTING)
def test_repair_takes_no_protection_away(engine, bring, journal, state):
    """A protected instance is still protected after the repair."""
    bring("web", state)
    engine.fire("web", Trigger.protect)
    put(journal, b"garbage\n", before=0)
    engine.fire("web", Trigger.repair)
    assert engine.status("web").protected
    if state is not State.running:
        with pytest.raises(ProtectedError):
            engine.fire("web", Trigger.delete, force=True)


# -- a machine that nobody recorded --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", AT_REST)
@pytest.mark.parametrize("trigger", [Trigger.delete, Trigger.reset])
def test_fire_what_destroys_over_an_unrecorded_machine_refuses(engine, driver, bring, state, trigger):
    """The machine is observed first, even at rest, so no disk is removed under a live machine, recorded or not."""
    bring("web", state)
    driver.happen(engine.site("web"), alive=True, boot_id=boot_id())
    with pytest.raises(Exception, match="is running") as refused:
        engine.fire("web", trigger)
    assert as_error(refused.value).reference == "illegal-transition"
    assert driver.observe(engine.site("web")).alive


def test_fire_over_an_unrecorded_machine_that_does_not_answer_ends_it(make_engine, bring, driver):
    """An unrecorded machine with a silent guest is ended, as an interrupted start would be."""
    bring("web", State.created)
    engine = make_engine(SimulatedDriver({"start": {"error": "silent"}}))
    driver.happen(engine.site("web"), alive=True, boot_id=boot_id())
    assert engine.fire("web", Trigger.reset).changed
    assert not driver.observe(engine.site("web")).alive
    with pytest.raises(DriverError, match="silent"):
        engine.fire("web", Trigger.start)
