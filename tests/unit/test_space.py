"""A lack of disk space is reported in advance where possible, and otherwise as a clear error when the disk is full."""

from pathlib import Path

import pytest

from interlock.errors import HostError
from interlock.images.space import check_space, mib, writing_in


def test_check_space_says_what_is_needed_and_what_there_is(tmp_path):
    """A small size passes; for a huge one the error names the folder, and the hint frees space."""
    check_space(tmp_path, 1, "a byte")
    with pytest.raises(
        HostError, match=rf"^all of it needs 1099511627776 MiB, and {tmp_path} has \d+ MiB free"
    ) as caught:
        check_space(tmp_path, 1 << 60, "all of it")
    assert caught.value.hint == "interlock prune"


def test_writing_in_a_full_disk_is_the_hosts_fault():
    """A disk that fills up during the work is a HostError with a clear message, too."""
    with (
        pytest.raises(HostError, match="bringing it: /dev: No space left") as caught,
        writing_in(Path("/dev"), "bringing it"),
    ):
        Path("/dev/full").write_bytes(b"x")
    assert caught.value.hint == "interlock prune"


def test_writing_in_a_folder_that_cannot_be_has_no_hint_about_room(tmp_path):
    """Removing images helps only against a full disk."""
    with pytest.raises(HostError, match="Not a directory") as caught, writing_in(tmp_path, "bringing it"):
        Path("/dev/null/x").touch()
    assert caught.value.hint is None


def test_mib_is_as_a_download_is_measured():
    """Sizes are whole numbers of MiB."""
    assert mib(3 << 20) == "3 MiB"
