"""Damage is recognized; what can be fixed is, and what is recorded afterwards is true."""

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
    """Return the journal's file of `web`."""
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
    """Return what was set aside of the journal of `web`."""
    return [path.read_bytes() for path in home.directory("web").glob(f"{FILE}.damaged-*")]


# -- what is fixed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", EXISTING)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_repair_of_garbage_in_the_journal_sets_it_aside_and_keeps_the_rest(
    engine, home, bring, journal, garbage, state, before
):
    """Wherever it lies, the good lines stay as they are, the bad ones are kept beside them, and the state is known."""
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
    """What is not there any more is named; nobody makes it up."""
    bring("web", State.stopped)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"torn\n", *lines[4:]]))
    mending = engine.fire("web", Trigger.repair)
    assert mending.mended[1:] == ("missing from the journal: lines 3 to 4",)
    assert [line.seq for line in engine.history("web")] == [1, 2, *range(5, len(lines) + 1)]


def test_repair_of_lost_outcome_settles_the_operation_as_a_crash(engine, bring, journal):
    """Without its outcome a start is one that was cut short; its guest is up, so it is finished."""
    bring("web", State.running)
    *lines, outcome = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines, outcome[:10], b"\n"]))
    assert engine.fire("web", Trigger.repair).state is State.running
    assert engine.status("web").operation is None


def test_repair_of_lost_start_finds_the_machine_that_runs(engine, bring, journal):
    """Of a start that is nowhere recorded, the machine is there: by the table it is started, never overlooked."""
    bring("web", State.running)
    lines = journal.read_bytes().splitlines(keepends=True)
    created = next(number for number, line in enumerate(lines) if b'"start"' in line)
    journal.write_bytes(b"".join([*lines[:created], b"\0\n"]))
    assert engine.fire("web", Trigger.repair).state is State.running
    assert [line.trigger for line in engine.history("web")][-1] is Trigger.start


def test_repair_of_journal_of_machine_that_went_down_records_the_exit(engine, driver, bring, journal, garbage):
    """The ordinary look at the world follows: what does not run is not said to."""
    bring("web", State.running)
    put(journal, garbage, before=0)
    driver.happen(engine.site("web"), alive=False, exit_reason="host went down")
    assert engine.fire("web", Trigger.repair).state is State.stopped
    assert engine.status("web").reason == "host went down"


@pytest.mark.parametrize("name", [".", SPEC_FILE, FILE])
@pytest.mark.parametrize("mode", [0o000, 0o777])
def test_repair_of_permissions_makes_it_private_again(engine, home, bring, name, mode):
    """What is the engine's is its owner's to read and write, and nobody else's."""
    bring("web", State.stopped)
    path = home.directory("web") / name
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode)
    assert len(engine.fire("web", Trigger.repair).mended) == 1
    assert before == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("state", EXISTING)
def test_repair_of_a_healthy_instance_changes_nothing(engine, bring, journal, state):
    """Asking for what is already so succeeds and does nothing; a torn end never counted and is no damage."""
    bring("web", state)
    with journal.open("ab") as file:
        file.write(b'{"seq": 1')
    before = journal.read_bytes()
    mending = engine.fire("web", Trigger.repair)
    assert (mending.state, mending.mended) == (state, ())
    assert before == journal.read_bytes()


# -- what is not ---------------------------------------------------------------------------------------------------


def a_link(path):
    """Put a link that leads out of the home into the place of the directory `path`."""
    elsewhere = path.parents[2] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def a_dangling_link(path):
    """Put a link that leads nowhere into the place of the directory `path`."""
    remove_tree(path)
    path.symlink_to("nowhere")


def a_foreign_link(path):
    """Let the journal in `path` be a link out of the home."""
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
    """Damage `web` beyond repair, beside `db`, which is whole; return what its reason must say."""
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
    """No state is made up where nothing says it: nothing is changed, and the hint leads out."""
    before = sorted(home.root.rglob("*"))
    with pytest.raises(DamagedError) as refused:
        engine.fire("web", Trigger.repair)
    assert reason.split()[-1] in refused.value.message
    assert refused.value.hint == "interlock delete web --force"
    assert before == sorted(home.root.rglob("*"))


@pytest.mark.usefixtures("reason")
def test_discard_of_what_cannot_be_mended_removes_it_and_nothing_beyond(engine, home, tmp_path):
    """The way out is open; what a link led to is still there."""
    beyond = {path for path in tmp_path.rglob("*") if home.root not in (path, *path.parents)}
    engine.fire("web", Trigger.delete, force=True)
    assert engine.names() == ["db"]
    assert beyond == {path for path in tmp_path.rglob("*") if home.root not in (path, *path.parents)}


def test_discard_of_a_link_ends_no_machine_it_leads_to(engine, home, bring, driver):
    """A link to another instance is no proof that its machine is this one's, nor does its protection count."""
    bring("db", State.running)
    engine.fire("db", Trigger.protect)
    home.directory("web").symlink_to(home.directory("db"))
    engine.fire("web", Trigger.delete, force=True)
    assert driver.observe(engine.site("db")).alive
    assert engine.status("db").state is State.running


def test_repair_of_absent_instance_is_not_found(engine):
    """There is nothing to fix where there is nothing."""
    with pytest.raises(NotFoundError):
        engine.fire("web", Trigger.repair)


def test_repair_beside_a_delete_that_ends_first_is_not_found(engine, home, bring, monkeypatch):
    """What is gone when the lock is free is absent, not damaged: no hint proposes to remove what may come next."""
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
    """What is being written to is not fixed under its writer."""
    monkeypatch.setattr(engine_module, "HANDOVER_S", 0.05)
    bring("web", State.created)
    with Lock(home.lock("web")) as lock:
        assert lock.acquire()
        with pytest.raises(BusyError, match="repair was not begun"):
            engine.fire("web", Trigger.repair)


@pytest.mark.parametrize("state", EXISTING)
def test_repair_takes_no_protection_away(engine, bring, journal, state):
    """What was protected before it was fixed still is."""
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
    """Observed before decided also at rest: no disk is taken from under a machine that lives, recorded or not."""
    bring("web", state)
    driver.happen(engine.site("web"), alive=True, boot_id=boot_id())
    with pytest.raises(Exception, match="is running") as refused:
        engine.fire("web", trigger)
    assert as_error(refused.value).reference == "illegal-transition"
    assert driver.observe(engine.site("web")).alive


def test_fire_over_an_unrecorded_machine_that_does_not_answer_ends_it(make_engine, bring, driver):
    """A machine that was not recorded and whose guest is silent is undone as a start that was cut short."""
    bring("web", State.created)
    engine = make_engine(SimulatedDriver({"start": {"error": "silent"}}))
    driver.happen(engine.site("web"), alive=True, boot_id=boot_id())
    assert engine.fire("web", Trigger.reset).changed
    assert not driver.observe(engine.site("web")).alive
    with pytest.raises(DriverError, match="silent"):
        engine.fire("web", Trigger.start)
