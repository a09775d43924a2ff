"""An unreadable file is not damage: no hint proposes to delete an instance because the system failed for a moment."""

import errno
import os
import resource
from contextlib import contextmanager, suppress

import pytest

from interlock import Interlock
from interlock.drivers.qemu.command import RECORD, Board
from interlock.errors import HostError, InterlockError, UnreadableError
from interlock.fsm import words
from interlock.fsm.journal import FILE
from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import AT_REST, State

KINDS = {
    **dict.fromkeys((errno.EIO, errno.EACCES, errno.ESTALE), UnreadableError),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOMEM), HostError),
}
"""The system's error when it cannot read a file → our error: about the file, or about this host."""


@pytest.fixture
def vms(home):
    """Return the API."""
    return Interlock(home)


@contextmanager
def unreadable(path, code, call="open"):
    """Make each attempt to read the file `path` fail with `code`, at open or at pread."""
    real_open, real_pread, opened = os.open, os.pread, set()

    def open_(name, flags, *more, **named):
        ours = os.fspath(name) == str(path) and not flags & (os.O_WRONLY | os.O_RDWR)
        if ours and call == "open":
            raise OSError(code, os.strerror(code), str(name))
        descriptor = real_open(name, flags, *more, **named)
        (opened.add if ours else opened.discard)(descriptor)
        return descriptor

    def pread(descriptor, *more):
        if descriptor in opened and call == "pread":
            raise OSError(code, os.strerror(code))
        return real_pread(descriptor, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_)
        patch.setattr(os, "pread", pread)
        yield


@contextmanager
def descriptors_left(count):
    """Leave this process `count` free descriptors, with RLIMIT_NOFILE as `ulimit -n` sets it."""
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def kept(home):
    """Return the content of all files of the instance."""
    return {path: path.read_bytes() for path in home.directory("web").iterdir()}


@pytest.mark.parametrize("file", [SPEC_FILE, FILE])
@pytest.mark.parametrize("code", KINDS, ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("call", ["open", "pread"])
def test_instance_that_cannot_be_read_is_said_to_be_and_left_alone(vms, home, bring, file, code, call, injected):
    """`list` shows it beside the others; each request is refused with the system's error."""
    bring("web", State.stopped)
    bring("db", State.created)
    before, path = kept(home), home.directory("web") / file
    with unreadable(path, code, call):
        db, web = vms.instances()
        assert (words.status(db), words.status(web)) == ("created", f"unreadable · {path}: {os.strerror(code)}")
        for ask in (vms.start, vms.reset, vms.delete, vms.repair, vms.can):
            with pytest.raises(KINDS[code], match=f"{file}: {os.strerror(code)}") as refused:
                ask("web")
            assert "delete" not in (refused.value.hint or "")
    assert before == kept(home)
    assert words.status(vms.status("web")).startswith("stopped")
    injected("a record that the system cannot read (EMFILE, ENFILE, ENOMEM, EIO, EACCES, ESTALE)")


@pytest.mark.parametrize("code", KINDS, ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("file", [SPEC_FILE, FILE])
def test_delete_with_force_of_what_cannot_be_read(vms, home, bring, file, code, injected):
    """If the host lacks resources, nothing is deleted; an instance whose file is unreadable can be deleted by force."""
    bring("web", State.stopped)
    before = kept(home)
    with unreadable(home.directory("web") / file, code):
        if KINDS[code] is HostError:
            with pytest.raises(HostError, match=os.strerror(code)):
                vms.delete("web", force=True)
        else:
            assert vms.delete("web", force=True).state is State.absent
    assert home.directory("web").exists() == (KINDS[code] is HostError)
    assert not home.directory("web").exists() or before == kept(home)
    injected("a record that the system cannot read (EMFILE, ENFILE, ENOMEM, EIO, EACCES, ESTALE)")


def test_hint_for_what_its_owner_may_not_read_mends_it(vms, home, bring):
    """`repair` restores the permissions, so the hint proposes that."""
    bring("web", State.stopped)
    with unreadable(home.directory("web") / SPEC_FILE, errno.EACCES), pytest.raises(UnreadableError) as refused:
        vms.start("web")
    assert refused.value.hint == "interlock repair web"


@pytest.mark.parametrize("state", [*AT_REST, State.running])
@pytest.mark.parametrize("ask", ["start", "stop", "kill", "reset", "delete", "repair"])
def test_request_with_any_number_of_descriptors_left_loses_nothing(vms, home, bring, state, ask, injected):
    """Wherever descriptors run out, nothing counts as damaged, and repeating the request works."""
    bring("web", state)
    for count in range(12):
        before = kept(home)
        with descriptors_left(count):
            with suppress(InterlockError):
                getattr(vms, ask)("web")
            status = vms.status("web")
        assert "damaged" not in words.status(status)
        assert vms.status("web").damage is None
        if not home.directory("web").exists():
            break
        assert before.items() - kept(home).items() <= {
            (path, before[path]) for path in before if path.name != SPEC_FILE
        }
    with suppress(InterlockError):  # the table's own refusals
        getattr(vms, ask)("web")
    vms.delete("web", force=True)
    injected("a process without descriptors to spare (RLIMIT_NOFILE)")


@pytest.mark.parametrize("code", KINDS, ids=lambda code: errno.errorcode[code])
def test_board_that_cannot_be_read_is_not_damaged(tmp_path, code):
    """The same is true of the records of drivers."""
    Board("pc-q35-7.2").write(tmp_path)
    with unreadable(tmp_path / RECORD, code), pytest.raises(KINDS[code], match=RECORD):
        Board.read(tmp_path)
