import io
import lzma
import tarfile

import pytest

from interlock.errors import HostError, ImageError
from interlock.images.builders import kernel
from interlock.images.builders.packages import Count, Unpacked, mirrors
from interlock.images.tools import run

BOOKWORM = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb deb-src
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://third.example/
Suites: nodistro
Components: main
"""


@pytest.fixture
def etc(tmp_path):
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text(BOOKWORM)
    return tmp_path


def test_mirrors_of_another_suite_are_the_hosts_with_that_suite(etc):
    """The host's mirror has the other releases too, with their updates and security archive."""
    (etc / "apt/sources.list.d/debian.sources").write_text(DEB822)
    assert mirrors(etc, "trixie") == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/security trixie-security main",
    ]


@pytest.mark.parametrize("suite", ["sid", "unstable"])
def test_mirrors_of_a_rolling_suite_are_one(etc, suite):
    """A rolling suite has no updates and no security archive."""
    (etc / "apt/sources.list.d/debian.sources").write_text(DEB822)
    assert mirrors(etc, suite) == [f"deb http://mirror.example/debian {suite} main"]


def test_mirrors_of_deb822_are_the_hosts_own(etc):
    """Images are built from the host's own mirror, not from third parties' archives."""
    (etc / "apt/sources.list.d/debian.sources").write_text(DEB822)
    assert mirrors(etc, "bookworm") == [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian bookworm-updates main",
        "deb http://mirror.example/security bookworm-security main",
    ]


def test_mirrors_of_one_line_form_are_the_hosts_own(etc):
    """apt's older form is read, too."""
    (etc / "apt/sources.list").write_text(
        "# deb http://old.example bookworm main\n"
        "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm contrib main\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/debian trixie main\n"
    )
    assert mirrors(etc, "bookworm") == ["deb http://mirror.example/debian bookworm main"]


def test_mirrors_of_another_system_are_none(etc):
    """On another system, the choice of a mirror is left to mmdebstrap."""
    (etc / "os-release").write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
    (etc / "apt/sources.list.d/ubuntu.sources").write_text(DEB822.replace("bookworm", "noble"))
    assert mirrors(etc, "bookworm") == []


@pytest.fixture
def packages(tmp_path):
    """Yield a tar file as mmdebstrap makes it, with a kernel whose modules need each other."""
    status = (
        "Package: bash\nStatus: install ok installed\nVersion: 5.2\nDescription: a\n Version: none\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: adduser\nStatus: install ok installed\nArchitecture: all\nVersion: 3.134\n"
    )
    tree = {
        "var/lib/dpkg/status": status.encode(),
        "lib/modules/6.1/kernel/packed.ko.xz": lzma.compress(b"depends=virtio\0"),
        "boot/vmlinuz-6.1": b"KERNEL",
        "lib/modules/6.1/modules.builtin": b"kernel/fs/ext4.ko\n",
        "lib/modules/6.1/kernel/virtio-net.ko": b"\0depends=failover,virtio\0license=GPL\0",
        "lib/modules/6.1/kernel/failover.ko": b"license=GPL\0depends=\0",
        "lib/modules/6.1/kernel/virtio.ko": b"depends=virtio_ring\0",
        "lib/modules/6.1/kernel/virtio_ring.ko": b"depends=\0",
        "usr/lib/libc.so": b"C",
    }
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for path, data in tree.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("./bin/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../boot/vmlinuz-6.1"
        tar.addfile(link)
    with Unpacked(tmp_path / "t.tar") as unpacked:
        yield unpacked


def test_unpacked_reads_through_links_and_either_side_of_usr(packages):
    """A path leads to the same file as it will in the guest."""
    assert packages.read("bin/link") == b"KERNEL"
    assert packages.read("lib/libc.so") == b"C"


def test_unpacked_without_the_file_names_it(packages):
    """If a package has changed, the error names the missing file."""
    with pytest.raises(ImageError, match=r"no lib/libz\.so"):
        packages.read("lib/libz.so")


def test_unpacked_knows_the_version_of_what_is_installed(packages):
    """The versions are dpkg's, without those of removed packages."""
    assert packages.versions() == {"adduser": "3.134", "bash": "5.2"}


def test_modules_that_are_compressed_are_unpacked(packages):
    """Debian compresses modules since trixie; insmod needs them uncompressed."""
    tree = kernel.modules(packages, "packed\n")
    assert tree["lib/modules/packed.ko"].data == b"depends=virtio\0"
    assert tree["lib/modules/order"].data.decode().split() == ["virtio_ring", "virtio", "packed"]


def test_modules_come_after_what_they_need(packages):
    """insmod resolves no dependencies, so the order has to; built-in modules need no loading."""
    tree = kernel.modules(packages, "# comment\nvirtio_net  # why\next4\npvpanic?\n")
    assert tree["lib/modules/order"].data.decode().split() == ["failover", "virtio_ring", "virtio", "virtio_net"]
    assert set(tree) == {"lib/modules/order"} | {
        f"lib/modules/{name}.ko" for name in ("failover", "virtio_ring", "virtio", "virtio_net")
    }


def test_modules_that_the_kernel_lacks_are_refused(packages):
    """A guest that could not find its disk is not built."""
    with pytest.raises(ImageError, match="no module virtio_blk"):
        kernel.modules(packages, "virtio_blk\n")


def test_run_failure_has_the_programs_last_words():
    """The error has the last words of the program that failed."""
    with pytest.raises(ImageError) as caught:
        run("sh", "-c", "echo out; echo why >&2; exit 3")
    assert caught.value.message == "sh failed (exit status 3)"
    assert caught.value.details == ("out", "why")


def test_run_success_is_what_was_printed():
    """The result is the program's output, for programs that answer a question."""
    assert run("sh", "-c", "echo out; echo err >&2") == "out\nerr\n"


def test_run_missing_program_names_its_package(monkeypatch):
    """On a host that lacks a program, the error says what to install."""
    monkeypatch.setattr("interlock.images.tools._PATH", "/nonexistent")
    with pytest.raises(HostError) as caught:
        run("mformat", "--version")
    assert caught.value.hint == "apt install mtools"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_count_says_each_tenth_of_the_packages(size):
    """However the output is cut into pieces, each package counts once; lines before the total do not count."""
    said = b"Get:1 lists\nSetting up nothing\n0 upgraded, 20 newly installed, 0 to remove\nUnpacking a\n"
    said += b"".join(b"Setting up p%d (1.0) ...\n" % number for number in range(20))
    said += b"0 upgraded, 20 newly installed, 0 to remove\n" + b"Setting up q (1.0) ...\n" * 20
    shown = []
    count = Count(shown.append, "installing packages", b"Setting up ")
    for begin in range(0, len(said), size):
        count.hear(said[begin : begin + size])
    tenths = [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert shown == [f"installing packages: {done} of 20" for done in tenths] + [
        f"installing packages: {done} of 40" for done in (24, 28, 32, 36, 40)
    ]


def test_run_gives_what_is_printed_while_it_is_printed():
    """The listener gets each piece, and the result still has all of it."""
    heard = []
    assert run("sh", "-c", "echo out; echo err >&2", hear=heard.append) == b"".join(heard).decode() == "out\nerr\n"
