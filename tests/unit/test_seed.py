import io
import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pycdlib
import pytest

from interlock.guest import cpio, lan, seed
from interlock.guest.facts import (
    BOOT,
    DEPENDENCY,
    EDIT,
    SYSTEM,
    USER,
    File,
    GuestDisk,
    Identity,
    MountPoint,
    Script,
    Seed,
)
from interlock.guest.identity import first_boot, request
from interlock.guest.keys import KeyPair

PLAIN = Seed(
    user="ada",
    hostname="web",
    instance_id="i-1",
    authorized_keys=("ssh-ed25519 AAAA ada",),
    host_key=KeyPair(b"PRIVATE\n", b"ssh-ed25519 BBBB\n"),
)

FULL = replace(
    PLAIN,
    ssh_port=60022,
    passwordless_sudo=False,
    comment="Ada Lovelace",
    timezone="Asia/Kolkata",
    zone=b"TZif",
    locale="C.UTF-8",
    env={"A": 'it\'s "b" \\', "HASH": "a#b", "LINES": "a\nb"},
    param={"X": "two words"},
    dns=("10.0.2.3", "1.1.1.1"),
    hosts={"registry": "10.0.2.7"},
    ca_certs=(b"PEM",),
    remove_default_ca_certs=True,
    upgrade_packages=True,
    disks=(GuestDisk("disk0", "data", "/mnt/a b", format=True, fs_args=("-O", "x y")),),
    mounts=(MountPoint("mount0", "/mnt/m", "9p", "trans=virtio"),),
    files=(File("/etc/x", b"\0", overwrite=False, once=True),),
    scripts=(Script(SYSTEM, b"one"), Script(BOOT, b"two", once=True)),
)

COMMON = {
    "authorized_keys": b"ssh-ed25519 AAAA ada\n",
    "home": b"/home/ada\n",
    "hostname": b"web\n",
    "instance-id": b"i-1\n",
    "identity": seed.IDENTITY_FILE.read_bytes(),
    "interlock": seed.PROGRAM_FILE.read_bytes(),
    "agent": seed._AGENT_FILE.read_bytes(),
    "shell": b"/bin/bash\n",
    "uid": b"1000\n",
    "user": b"ada\n",
}
LIMA = {
    "NAME": "web",
    "USER": "ada",
    "UID": "1000",
    "COMMENT": "",
    "HOME": "/home/ada",
    "SHELL": "/bin/bash",
    "MNT": "/mnt/lima-cidata",
    "VMTYPE": "qemu",
    "TIMEZONE": "",
    "SLIRP_GATEWAY": "10.0.2.2",
    "SLIRP_DNS": "10.0.2.3",
    "SLIRP_IP_ADDRESS": "10.0.2.15",
    "DEBUG": "",
    "MOUNTTYPE": "",
    "MOUNTS": "0",
}
"""What PLAIN's scripts find in their environment, each with `LIMA_CIDATA_` before its name."""

FULL_LIMA = LIMA | {
    "COMMENT": "Ada Lovelace",
    "TIMEZONE": "Asia/Kolkata",
    "MOUNTTYPE": "9p",
    "MOUNTS": "1",
    "MOUNT_0_MOUNTPOINT": "/mnt/m",
    "SSHLOCALPORT": "60022",
}


def variables(lima: dict[str, str], **more: str) -> dict[str, bytes]:
    """Return the files by which a guest knows these variables."""
    named = {f"LIMA_CIDATA_{name}": value for name, value in lima.items()}
    return {
        "lima.env": "".join(f"{name}={value}\n" for name, value in named.items()).encode(),
        "variables.sh": "".join(
            f"export {name}={shlex.quote(value)}\n" for name, value in {**more, **named}.items()
        ).encode(),
    }


OWN_HOSTS = b"127.0.1.1 web\n10.0.2.2 host.interlock.internal\n10.0.2.2 host.lima.internal\n"


def extracted(archive: bytes, folder: Path) -> Path:
    """Return where the seed lies after the kernel has unpacked it."""
    subprocess.run(["cpio", "-idm", "--quiet", "--no-absolute-filenames"], input=archive, cwd=folder, check=True)
    return folder / "seed"


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files below `folder`, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def iso_files(image: bytes) -> tuple[str, dict[str, bytes]]:
    """Return the volume label and the files of an ISO image, by their Rock Ridge paths."""
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(image))
    label = iso.pvd.volume_identifier.decode().strip()
    files = {}
    for folder, _, names in iso.walk(rr_path="/"):
        for name in names:
            out = io.BytesIO()
            path = f"{folder.rstrip('/')}/{name}"
            iso.get_file_from_iso_fp(out, rr_path=path)
            files[path.removeprefix("/")] = out.getvalue()
    iso.close()
    return label, files


def test_overlay_has_one_file_for_each_fact(tmp_path):
    """A guest reads its facts with `read`, and what nothing was said about has no file."""
    assert files_of(extracted(seed.overlay(PLAIN), tmp_path)) == COMMON | variables(LIMA) | {
        "hosts": OWN_HOSTS,
        "ssh_host_ed25519_key": b"PRIVATE\n",
        "ssh_host_ed25519_key.pub": b"ssh-ed25519 BBBB\n",
        "sudo": b"",
    }


def test_overlay_carries_everything_that_can_be_said(tmp_path):
    """Each fact, each collection in its order, and each script under its number and mode."""
    assert files_of(extracted(seed.overlay(FULL), tmp_path)) == COMMON | variables(FULL_LIMA, PARAM_X="two words") | {
        "hosts": OWN_HOSTS + b"10.0.2.7 registry\n",
        "ssh_host_ed25519_key": b"PRIVATE\n",
        "ssh_host_ed25519_key.pub": b"ssh-ed25519 BBBB\n",
        "comment": b"Ada Lovelace\n",
        "timezone": b"Asia/Kolkata\n",
        "zone": b"TZif",
        "locale": b"C.UTF-8\n",
        "environment": b'A=it\'s "b" \\\n',
        "environment.sshd": b'SetEnv "A=it\'s \\"b\\" \\\\" "HASH=a#b"\n',
        "environment.sh": b"export A='it'\"'\"'s \"b\" \\'\nexport HASH='a#b'\nexport LINES='a\nb'\n",
        "dns": b"10.0.2.3\n1.1.1.1\n",
        "ca/000": b"PEM\n",
        "remove-default-ca-certs": b"",
        "upgrade-packages": b"",
        "disks/000/serial": b"disk0\n",
        "disks/000/label": b"data\n",
        "disks/000/path": b"/mnt/a b\n",
        "disks/000/fs-type": b"ext4\n",
        "disks/000/fs-args": b"-O\nx y\n",
        "disks/000/format": b"",
        "mounts/000/tag": b"mount0\n",
        "mounts/000/path": b"/mnt/m\n",
        "mounts/000/type": b"9p\n",
        "mounts/000/options": b"trans=virtio\n",
        "files/000/path": b"/etc/x\n",
        "files/000/content": b"\0",
        "files/000/owner": b"root:root\n",
        "files/000/permissions": b"644\n",
        "files/000/keep": b"",
        "files/000.once": b"",
        "scripts/000-system": b"one",
        "scripts/001-boot": b"two",
        "scripts/001-boot.once": b"",
    }


def test_overlay_is_private_to_root(tmp_path):
    """The host's private key, and secrets in scripts, are not for every login of the guest."""
    root = extracted(seed.overlay(PLAIN), tmp_path)
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600


def test_overlay_of_the_same_facts_is_the_same():
    """An instance's initrd does not change under it when the overlay is made again."""
    assert seed.overlay(FULL) == seed.overlay(FULL)


def test_nocloud_is_the_volume_that_cloud_init_looks_for():
    """cloud-init finds a NoCloud seed by its label and these two names."""
    label, files = iso_files(seed.nocloud(FULL))
    assert label == "cidata"
    assert json.loads(files["meta-data"]) == {"instance-id": "i-1", "local-hostname": "web"}
    assert files["user-data"].startswith(b"#cloud-config\n{")


def test_nocloud_carries_the_same_tree_without_the_host_key(tmp_path):
    """The program and its facts are one, however they come; the key is cloud-init's to put where it belongs."""
    _, files = iso_files(seed.nocloud(FULL))
    there = {path.removeprefix("interlock/"): data for path, data in files.items() if path.startswith("interlock/")}
    expected = files_of(extracted(seed.overlay(FULL), tmp_path))
    assert {path: data for path, data in expected.items() if not path.startswith("ssh_host")} == there
    assert json.loads(files["user-data"].partition(b"\n")[2])["ssh_keys"] == {
        "ed25519_private": "PRIVATE\n",
        "ed25519_public": "ssh-ed25519 BBBB\n",
    }


def test_nocloud_asks_for_every_module_that_it_uses_and_no_other():
    """An emulated guest takes seconds to find that some thirty modules have nothing to do."""
    _, files = iso_files(seed.nocloud(FULL))
    given = json.loads(files["user-data"].partition(b"\n")[2])
    stages = [f"cloud_{stage}_modules" for stage in ("init", "config", "final")]
    assert [given.pop(stage) for stage in stages] == [
        ["bootcmd", "growpart", "resizefs", "set-passwords", "ssh"],
        ["runcmd"],
        ["scripts-user"],
    ]
    # Each key with the module that reads it; `users` and `preserve_hostname` keep our program's work from being undone.
    assert given.keys() == {
        *("bootcmd", "growpart", "resize_rootfs", "runcmd", "users", "preserve_hostname"),
        *("disable_root", "ssh_keys", "ssh_deletekeys", "ssh_pwauth"),
    }


@pytest.mark.parametrize("program", sorted(path.name for path in seed.PROGRAM_FILE.parent.glob("*.sh")))
@pytest.mark.parametrize("shell", ["sh", "bash --posix"])
def test_program_is_read_by_every_shell(shell, program):
    """No guest's shell stumbles over a word that only another knows."""
    subprocess.run([*shell.split(), "-n", seed.PROGRAM_FILE.with_name(program)], check=True)


class Guest:
    """A folder that plays a guest's root. Its user is the one who runs the tests, so no account has to be made.

    Programs that would change more than files are stood in for by ones that say how they were called.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.bin = folder, folder / "root", folder / "bin"
        for path in ("etc/default", "home", "usr/share/zoneinfo/Asia", "etc/ssh/sshd_config.d"):
            (self.root / path).mkdir(parents=True)
        self.bin.mkdir()
        for program in ("apt-get", "update-ca-certificates"):
            (self.bin / program).write_text('#!/bin/sh\necho "${0##*/} $*"\n')
            (self.bin / program).chmod(0o755)
        self.user, uid = shown("id", "-un"), shown("id", "-u")
        (self.root / "etc/passwd").write_text(f"{self.user}:x:{uid}:{uid}::/home/me:/bin/sh\n")
        (self.root / "etc/shadow").write_text(f"{self.user}:!:::::::\n")
        self.state = self.root / "var/lib/interlock"

    def furnish(self, **given: object) -> None:
        """Unpack the seed, and do what comes before anybody may log in."""
        seed_of = replace(PLAIN, user=self.user, home="/home/me", **given)  # type: ignore[arg-type]
        self.run(extracted(seed.overlay(seed_of), self.folder) / "interlock", "early")

    def boot(self) -> None:
        """Do what a boot does once there is a network."""
        self.run(self.state / "seed/interlock", "boot")

    def run(self, program: Path, *arguments: str) -> str:
        """Return what our program says."""
        done = subprocess.run(
            ["sh", program, *arguments],
            env={"PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "INTERLOCK_ROOT": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def read(self, path: str) -> str:
        """Return the content of the guest's file `path`."""
        return (self.root / path).read_text()

    def results(self, ending: str) -> dict[str, str]:
        """Return what the steps said (`log`) or how they ended (`status`), by their names."""
        return {path.stem: path.read_text() for path in (self.state / "scripts").glob(f"*.{ending}")}

    def report(self) -> list[str]:
        """Return what the guest says that failed in its last boot with work."""
        boot_id, *lines = self.read("var/lib/interlock/report").splitlines()
        assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() == boot_id
        return lines


def shown(*command: str) -> str:
    """Return the line that `command` prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """Return a guest that has no seed yet."""
    return Guest(tmp_path)


def test_early_lets_the_user_in_and_keeps_the_seed(guest):
    """The key opens the endpoint; what the guest proves itself with goes to sshd's folder and is kept nowhere else."""
    guest.furnish()
    assert guest.read("home/me/.ssh/authorized_keys") == "ssh-ed25519 AAAA ada\n"
    assert f"{guest.user}:*:::::::\n" == guest.read("etc/shadow")
    assert guest.read("etc/ssh/ssh_host_ed25519_key") == "PRIVATE\n"
    assert (guest.root / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (guest.state / "seed").stat().st_mode & 0o777 == 0o700
    assert not (guest.state / "seed/ssh_host_ed25519_key").exists()
    assert {"0\n"} == set(guest.results("status").values())


def test_early_leaves_a_home_that_is_there(guest):
    """Who may log in has been the user's to change since; but an image may have an empty folder for its keys."""
    keys = guest.root / "home/me/.ssh/authorized_keys"
    keys.parent.mkdir(parents=True)
    guest.furnish()
    assert keys.read_text() == "ssh-ed25519 AAAA ada\n"
    guest.boot()
    keys.unlink()
    guest.furnish()
    assert list(keys.parent.iterdir()) == []


def test_early_may_be_done_again(guest):
    """A boot that was cut short starts over, and leaves nothing twice."""
    (guest.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    guest.furnish(hosts={"registry": "10.0.2.7"}, env={"A": "b"})
    once = guest.read("etc/hosts"), guest.read("etc/environment")
    guest.furnish(hosts={"registry": "10.0.2.7"}, env={"A": "b"})
    assert once == (guest.read("etc/hosts"), guest.read("etc/environment"))
    assert once[0].splitlines() == [
        "127.0.0.1 localhost",
        "# begin interlock",
        "127.0.1.1 web",
        "10.0.2.2 host.interlock.internal",
        "10.0.2.2 host.lima.internal",
        "10.0.2.7 registry",
        "# end interlock",
    ]


@pytest.mark.parametrize("known", [True, False], ids=["zone database", "zone file"])
def test_timezone_is_the_guests_own_or_the_one_given(guest, known):
    """A guest without the database gets the zone's file."""
    if known:
        (guest.root / "usr/share/zoneinfo/Asia/Kolkata").write_text("theirs")
    guest.furnish(timezone="Asia/Kolkata", zone=b"given")
    there = guest.root / "etc/localtime"
    assert ("/usr/share/zoneinfo/Asia/Kolkata" if known else "given") == (
        str(there.readlink()) if known else there.read_text()
    )


def test_timezone_that_is_nowhere_is_a_failure_with_its_name(guest):
    """What could not be done is reported like a script that failed, and the rest is done."""
    guest.furnish(timezone="Mars/Utopia", scripts=(Script(SYSTEM, b"echo ran"),))
    guest.boot()
    assert guest.report() == ["failed 1 time zone", " this guest has no zone Mars/Utopia"]
    assert guest.results("log")["000-system"] == "ran\n"


@pytest.mark.parametrize(("before", "after"), [("", "LANG=C.UTF-8\n"), ("LANG=de_DE.UTF-8\n", "LANG=de_DE.UTF-8\n")])
def test_locale_of_the_guests_own_stays(guest, before, after):
    """Only a guest that has none is given one."""
    (guest.root / "etc/locale.conf").write_text(before)
    guest.furnish(locale="C.UTF-8")
    assert after == guest.read("etc/locale.conf")


def test_name_servers_replace_those_of_the_network(guest):
    """The programs that would write them again are configured not to."""
    (guest.root / "etc/NetworkManager").mkdir()
    (guest.root / "etc/resolv.conf").symlink_to("/nowhere")
    guest.furnish(dns=("10.0.2.3", "1.1.1.1"))
    assert guest.read("etc/resolv.conf") == "nameserver 10.0.2.3\nnameserver 1.1.1.1\n"
    assert guest.read("etc/NetworkManager/conf.d/90-interlock.conf") == "[main]\ndns=none\n"


SCRIPTS = (
    Script(USER, b'#!/bin/sh\necho "user $PARAM_X $HOME"; echo user >>"$INTERLOCK_ORDER"\n'),
    Script(SYSTEM, b'echo "system $A"; echo system >>"$INTERLOCK_ORDER"; exit 3\n'),
    Script(DEPENDENCY, b'echo dependency >>"$INTERLOCK_ORDER"\n'),
    Script(BOOT, b'#!/bin/sh\necho boot >>"$INTERLOCK_ORDER"\n'),
    Script(SYSTEM, b"#!/no/such/program\n"),
)


@pytest.fixture
def order(guest: Guest) -> Callable[[], list[str]]:
    """Return a function that returns which scripts have run, in their order."""
    path = guest.folder / "order"
    path.touch()
    guest.furnish(scripts=SCRIPTS, env={"INTERLOCK_ORDER": str(path), "A": 'it\'s "b"'}, param={"X": "two words"})
    return lambda: path.read_text().split()


def test_first_boot_runs_scripts_by_mode(guest, order):
    """Modes in their order, scripts of one mode in theirs; what each said and how it ended is kept."""
    guest.boot()
    assert order() == ["boot", "dependency", "system", "user"]
    assert guest.results("log")["001-system"] == 'system it\'s "b"\n'
    assert f"user two words {guest.root}/home/me\n" == guest.results("log")["000-user"]
    ended = guest.results("status")
    assert [ended[name] for name in ("000-user", "001-system", "002-dependency", "003-boot")] == [
        "0\n",
        "3\n",
        "0\n",
        "0\n",
    ]
    assert guest.read("var/lib/interlock/booted") == "i-1\n"


@pytest.mark.usefixtures("order")
def test_first_boot_reports_the_scripts_that_failed(guest):
    """The exit status, and the last that was said; a script that cannot be run has failed as well."""
    guest.boot()
    failed = [line for line in guest.report() if line.startswith("failed")]
    assert failed == ["failed 3 script 001 (system)", "failed 127 script 004 (system)"]
    assert ' system it\'s "b"' in guest.report()


def test_script_that_floods_is_reported_in_a_few_kilobytes(guest):
    """Its log is whole in the guest; what the host hears over ssh is its end, and no more of a line than is shown."""
    flood = b"head -c 5000000 /dev/zero | tr '\\0' x; echo; echo why; exit 3"
    guest.furnish(scripts=(Script(SYSTEM, flood),))
    guest.boot()
    failed, line, why = guest.report()
    assert (failed, line, why) == ("failed 3 script 000 (system)", f" {'x' * 2000}", " why")
    assert len(guest.results("log")["000-system"]) > 5_000_000


def test_every_boot_runs_scripts_of_every_mode(guest, order):
    """Templates rely on it: what a script loads, sets or mounts is gone with that kernel."""
    guest.boot()
    guest.boot()
    assert order() == ["boot", "dependency", "system", "user"] * 2


def test_later_boot_leaves_out_what_is_done_once(guest, tmp_path):
    """`once` means the first boot, for scripts of every mode and for files; the rest is done as ever."""
    ran = tmp_path / "ran"
    guest.furnish(
        scripts=tuple(
            Script(mode, f"echo {mode}{' once' * once} >>{ran}\n".encode(), once=once)
            for mode in (SYSTEM, BOOT)
            for once in (True, False)
        ),
        files=(File("/etc/one", b"ours", guest.user, once=True), File("/etc/each", b"ours", guest.user)),
    )
    guest.boot()
    assert ran.read_text().splitlines() == ["boot once", "boot", "system once", "system"]
    ran.unlink()
    for name in ("one", "each"):
        (guest.root / "etc" / name).write_text("theirs")
    guest.boot()
    assert ran.read_text().splitlines() == ["boot", "system"]
    assert (guest.read("etc/one"), guest.read("etc/each")) == ("theirs", "ours")


def test_failure_stands_until_its_step_succeeds(guest, tmp_path):
    """A boot without the failed script says nothing about it, so it is still reported; one that runs it does."""
    mended = tmp_path / "mended"
    test = f"[ -e {mended} ]".encode()
    guest.furnish(scripts=(Script(SYSTEM, test, once=True), Script(SYSTEM, test)))
    guest.boot()
    assert guest.report() == ["failed 1 script 000 (system)", "failed 1 script 001 (system)"]
    mended.touch()
    guest.boot()
    assert guest.report() == ["failed 1 script 000 (system)"]
    assert "failed" not in guest.run(guest.state / "seed/interlock", "again")
    assert guest.report() == []


def test_again_does_over_each_step_that_failed(guest):
    """A time zone that could not be set, say; and none that succeeded but the scripts and files."""
    guest.furnish(timezone="Asia/Kolkata")
    guest.boot()
    failed = ["failed 1 time zone", " this guest has no zone Asia/Kolkata"]
    assert guest.report() == failed
    (guest.state / "report").unlink()
    guest.boot()
    assert guest.report() == failed
    (guest.root / "usr/share/zoneinfo/Asia/Kolkata").touch()
    assert guest.run(guest.state / "seed/interlock", "again") == "running time zone\n"
    guest.boot()
    assert guest.report() == []


def test_first_boot_of_another_instance_forgets_what_failed(guest):
    """A copied disk brings its files along; the guest in which something failed is the one to report it."""
    guest.furnish(timezone="Mars/Utopia", scripts=(Script(SYSTEM, b"exit 1"),))
    guest.boot()
    (guest.state / "seed/instance-id").write_text("i-2\n")
    guest.run(guest.state / "seed/interlock", "early")
    assert guest.results("status").keys() == {"user", "names", "timezone", "lima"}


def test_scripts_find_the_variables_of_lima(guest):
    """In their environment, and in the file that programs made for Lima's guests read."""
    check = Script(SYSTEM, b'set -u; echo "$LIMA_CIDATA_NAME $LIMA_CIDATA_USER $LIMA_CIDATA_HOME"')
    guest.furnish(name="My_VM", scripts=(check, replace(check, mode=USER)))
    guest.boot()
    assert {guest.results("log")[name] for name in ("000-system", "001-user")} == {f"My_VM {guest.user} /home/me\n"}
    assert "LIMA_CIDATA_NAME=My_VM" in guest.read("mnt/lima-cidata/lima.env").splitlines()


def test_later_boot_without_work_does_nothing(guest):
    """Nothing waits for it either: the flag that says so is not there."""
    guest.furnish(scripts=(Script(SYSTEM, b"echo ran", once=True),))
    guest.boot()
    before = guest.read("var/lib/interlock/report")
    (guest.state / "report").write_text("of another boot\n")
    guest.boot()
    assert "of another boot\n" == guest.read("var/lib/interlock/report") != before
    assert not (guest.state / "each-boot").exists()


def test_again_runs_everything_and_says_what_it_begins(guest, order):
    """On demand, scripts and files are done as at a first boot; what fails is said at once, and again at the end."""
    guest.boot()
    said = guest.run(guest.state / "seed/interlock", "again").splitlines()
    assert order() == ["boot", "dependency", "system", "user"] * 2
    assert [line for line in said if not line.startswith(" ")] == [
        "running script 003 (boot)",
        "running script 002 (dependency)",
        "running script 001 (system)",
        "now failed 3 script 001 (system)",
        "running script 004 (system)",
        "now failed 127 script 004 (system)",
        "running script 000 (user)",
        "failed 3 script 001 (system)",
        "failed 127 script 004 (system)",
    ]


def test_boot_tells_of_a_failed_script_before_it_runs_the_next(guest, tmp_path):
    """The host need not wait for the other scripts; it hears of the steps that failed before there was a network, too.

    A script has no hold on the news: one that left a program behind would keep a session open that listens.
    """
    news = guest.state / "news"
    guest.furnish(
        timezone="Mars/Utopia",
        scripts=(
            Script(SYSTEM, b"printf 'no key'; exit 3"),
            Script(SYSTEM, f"cp {news} {tmp_path}/seen; ls /proc/self/fd >{tmp_path}/open".encode()),
        ),
    )
    guest.boot()
    assert (tmp_path / "seen").read_text().splitlines() == [
        Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "now failed 1 time zone",
        " this guest has no zone Mars/Utopia",
        "now failed 3 script 000 (system)",
        " no key",
    ]
    assert news.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "open").read_text().split()[:4] == ["0", "1", "2", "3"]  # 3 is the folder that `ls` reads
    assert len((tmp_path / "open").read_text().split()) == 4


def test_file_is_written_as_told(guest):
    """Byte for byte, with its owner and mode; one that shall stay, stays."""
    (guest.root / "etc/there").write_text("old")
    given = (
        File("/etc/a b/new", b"\0\xff", owner=guest.user, permissions=0o640),
        File("/etc/there", b"new", owner=guest.user, overwrite=False),
    )
    guest.furnish(files=given)
    guest.boot()
    assert (guest.root / "etc/a b/new").read_bytes() == b"\0\xff"
    assert (guest.root / "etc/a b/new").stat().st_mode & 0o777 == 0o640
    assert guest.read("etc/there") == "old"
    assert guest.report() == []


def test_edit_comes_between_files_and_scripts_and_is_called_by_its_title(guest):
    """What a file holds can be edited, scripts find it so, and a failure names the file."""
    guest.furnish(
        files=(File("/etc/x", b"written\n", owner=guest.user),),
        scripts=(
            Script(SYSTEM, b"echo system >>$INTERLOCK_ROOT/etc/x"),
            Script(EDIT, b"echo edit >>$INTERLOCK_ROOT/etc/x; exit 3", title="edit of /etc/x"),
        ),
    )
    guest.boot()
    assert guest.read("etc/x") == "written\nedit\nsystem\n"
    assert guest.report() == ["failed 3 edit of /etc/x"]


def stand_in(guest, program, words):
    """Let `program` of the guest run `words` of sh first, and return the file into which they write."""
    heard = guest.folder / f"{program}.heard"
    (guest.bin / program).write_text(f'#!/bin/sh\nexec 3>&1\n{{ {words}; }} >>{heard}\nexec /bin/{program} "$@"\n')
    (guest.bin / program).chmod(0o755)
    return heard


@pytest.mark.parametrize("there", [None, 0o644], ids=["new", "open-to-all"])
def test_file_is_private_before_it_is_filled(guest, there):
    """At no moment can others read what only some may: the file is closed before its first byte is in it."""
    if there:
        (guest.root / "etc/secret").write_text("old")
        (guest.root / "etc/secret").chmod(there)
    guest.furnish(files=(File("/etc/secret", b"s3cret", owner=guest.user, permissions=0o600),))
    heard = stand_in(guest, "cat", "readlink /proc/$$/fd/3; stat -L -c %a /proc/$$/fd/3")
    guest.boot()
    lines = heard.read_text().splitlines()
    assert lines[lines.index(str(guest.root / "etc/secret")) + 1] == "600"
    assert (guest.read("etc/secret"), guest.report()) == ("s3cret", [])


def test_scripts_and_what_they_say_are_private(guest):
    """A user's script waits in a folder that is closed before anything is in it; logs are root's alone."""
    guest.furnish(scripts=(Script(USER, b"true"),))
    heard = stand_in(guest, "cp", 'stat -c %a "${2%/*}"')
    guest.boot()
    assert heard.read_text().splitlines()[0] == "700"
    assert (guest.state / "scripts").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("owner", "folders"), [(None, ["etc/new", "etc/new/deep"]), ("nobody", [])])
def test_folders_of_a_file_are_its_owners_below_the_owners(guest, owner, folders):
    """What its owner could have made is its owner's, as if made so; elsewhere it is root's."""
    owner = owner or guest.user
    heard = stand_in(guest, "chown", 'echo "$@"; exit')
    guest.furnish(files=(File("/etc/new/deep/file", b"x", owner=owner),))
    heard.unlink()
    guest.boot()
    chowned = [line for line in heard.read_text().splitlines() if "/etc/" in line]
    assert chowned == [f"{owner} {guest.root}/{path}" for path in (*folders, "etc/new/deep/file")]


def test_certificates_are_put_where_the_guest_wants_them(guest):
    """Debian's way: a folder, a list of those that come with the system, and a program that makes the rest of both."""
    (guest.root / "etc/ca-certificates.conf").write_text("# list\nmozilla/A.crt\n!mozilla/B.crt\n")
    guest.furnish(ca_certs=(b"ONE\n", b"TWO"), remove_default_ca_certs=True)
    guest.boot()
    assert guest.read("etc/ca-certificates.conf") == "# list\n!mozilla/A.crt\n!mozilla/B.crt\n"
    folder = guest.root / "usr/local/share/ca-certificates"
    assert files_of(folder) == {"interlock-000.crt": b"ONE\n", "interlock-001.crt": b"TWO\n"}
    assert guest.results("log")["certificates"] == "update-ca-certificates \n"


def test_upgrade_uses_the_guests_package_manager(guest):
    """Lists first, then what they have that is newer; nobody is asked anything."""
    guest.furnish(upgrade_packages=True)
    guest.boot()
    assert [line.split()[-1] for line in guest.results("log")["upgrade"].splitlines()] == ["update", "upgrade"]


def test_disk_that_is_not_there_is_a_failure_with_its_place(guest):
    """A disk is known by its serial number alone."""
    guest.furnish(disks=(GuestDisk("disk7", "data", "/mnt/data", format=True),))
    guest.boot()
    assert guest.report() == ["failed 1 disk at /mnt/data", " no disk has the serial number disk7"]


def test_program_called_wrongly_says_how():
    """It names its uses."""
    program = ["sh", seed.PROGRAM_FILE, "sometimes"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "early | boot | again" in done.stderr


LAN = lan.place(PLAIN.instance_id)


@pytest.fixture
def card(guest):
    """Return what the guest did to its network cards; the second is the one of the network of instances."""
    heard = guest.folder / "ip.heard"
    (guest.bin / "ip").write_text(f'#!/bin/sh\necho "$*" >>{heard}\n')
    (guest.bin / "ip").chmod(0o755)
    for name, mac in {"eth0": "52:54:00:12:34:56", "eth1": LAN.mac}.items():
        (guest.root / f"sys/class/net/{name}").mkdir(parents=True)
        (guest.root / f"sys/class/net/{name}/address").write_text(f"{mac}\n")
    (guest.root / "etc/systemd/network").mkdir(parents=True)
    return heard


def test_card_of_the_network_of_instances_is_found_by_its_address_and_named(guest, card):
    """At each boot, before scripts; a daemon of the guest's own leaves it alone."""
    guest.furnish(lan="lima0", scripts=(Script(SYSTEM, b"ip route"),))
    assert f"MACAddress={LAN.mac}\n" in guest.read("etc/systemd/network/10-interlock.network")
    for _ in range(2):
        guest.boot()
        assert card.read_text().splitlines() == [
            "addr show dev lima0",
            "link set eth1 down",
            "link set eth1 name lima0",
            f"link set lima0 address {LAN.mac}",
            "addr flush dev lima0",
            "link set lima0 up",
            f"addr add {LAN.with_prefix} dev lima0",
            "route",
        ]
        card.unlink()


@pytest.mark.usefixtures("card")
def test_card_is_claimed_where_the_seed_was_laid_over_the_guest_before(guest):
    """The initrd of a system with a disk copies the seed to where it stays, and then begins with it."""
    given = replace(PLAIN, user=guest.user, home="/home/me", lan="lima0")
    guest.state.mkdir(parents=True)
    extracted(seed.overlay(given), guest.folder).rename(guest.state / "seed")
    guest.run(guest.state / "seed/interlock", "early")
    assert f"MACAddress={LAN.mac}\n" in guest.read("etc/systemd/network/10-interlock.network")


def test_card_that_cloud_init_has_set_up_is_left_alone(guest, card):
    """What is right already is not taken down under its users."""
    shows = f"link/ether {LAN.mac} brd\n inet {LAN.with_prefix} scope"
    (guest.bin / "ip").write_text(f'#!/bin/sh\necho "$*" >>{card}\necho "{shows}"\n')
    guest.furnish(lan="lima0")
    guest.boot()
    assert card.read_text() == "addr show dev lima0\n"


def test_nocloud_configures_both_cards_of_a_guest_that_has_two():
    """Each by its address: no name of a card is the same in all systems, and DHCP is for the first alone."""
    _, files = iso_files(seed.nocloud(replace(PLAIN, lan="lima0")))
    cards = json.loads(files["network-config"])["ethernets"]
    assert [card["match"]["macaddress"] for card in cards.values()] == ["52:54:00:12:34:56", LAN.mac]
    assert (cards["eth0"]["dhcp4"], cards["lima0"]["addresses"]) == (True, [LAN.with_prefix])
    other = seed.nocloud_for(seed.nocloud(replace(PLAIN, lan="lima0")), OTHER)
    assert lan.place(OTHER.instance_id).mac.encode() in iso_files(other)[1]["network-config"]


@pytest.mark.usefixtures("card")
def test_names_of_peers_are_added_to_the_hosts_and_stay(guest):
    """They are there after a reboot, at which the host tells none; another list takes their place."""
    guest.furnish(lan="lima0")
    guest.boot()
    for names in ("198.18.0.7 lima-db.internal", "198.18.0.8 lima-web.internal"):
        call = ["sh", guest.state / "seed/interlock", "peers"]
        environment = {"PATH": f"{guest.bin}:/usr/bin:/bin", "INTERLOCK_ROOT": str(guest.root)}
        subprocess.run(call, input=f"{names}\n", text=True, check=True, env=environment)
        guest.run(guest.state / "seed/interlock", "early")
        assert [line for line in guest.read("etc/hosts").splitlines() if line.startswith("198.")] == [names]


OTHER = Identity("copy", "copy-host", "i-2", KeyPair(b"OTHER\n", b"ssh-ed25519 CCCC\n"))


def test_identity_takes_the_place_of_the_new_instance(guest, card):
    """A copy has its original's card in its memory; it leaves the place to the original."""
    guest.furnish(lan="lima0")
    initrd = cpio.pack({}) + seed.overlay(replace(PLAIN, user=guest.user, home="/home/me", lan="lima0"))
    call = ["sh", guest.state / "seed/interlock", "identity"]
    environment = {"PATH": f"{guest.bin}:/usr/sbin:/usr/bin:/bin", "INTERLOCK_ROOT": str(guest.root)}
    line = request(seed.identity_facts(OTHER, initrd=initrd))
    said = subprocess.run(call, input=f"{line}\n", text=True, check=True, env=environment, capture_output=True)
    assert said.stdout == ""
    place = lan.place("i-2")
    assert f"link set lima0 address {place.mac}\n" in card.read_text()
    assert f"addr add {place.with_prefix} dev lima0\n" in card.read_text()
    assert f"MACAddress={place.mac}\n" in guest.read("etc/systemd/network/10-interlock.network")


@pytest.fixture
def taken(guest):
    """Return what has `guest`, after its first boot, become another; it returns what the guest says went wrong."""
    guest.furnish()
    guest.boot()
    initrd = cpio.pack({}) + seed.overlay(replace(PLAIN, user=guest.user, home="/home/me"))
    identity = Identity("copy", "copy-host", "i-2", KeyPair(b"OTHER\n", b"ssh-ed25519 CCCC\n"))

    def take(boot="", mark="", **facts):
        line = request(seed.identity_facts(identity, initrd=initrd) | facts, boot=boot, mark=mark)
        done = subprocess.run(
            ["sh", guest.state / "seed/interlock", "identity"],
            input=f"{line}\n",
            env={"PATH": f"{guest.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "INTERLOCK_ROOT": str(guest.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is (done.stdout == "")
        return done.stdout

    return take


def test_identity_makes_a_guest_another_and_may_be_repeated(guest, taken):
    """Name, ids and keys are the new ones; a host key of another kind, which the original has too, is gone."""
    (guest.root / "etc/ssh/ssh_host_rsa_key").write_text("shared")
    with (guest.root / "home/me/.ssh/authorized_keys").open("a") as keys:
        keys.write("ssh-ed25519 DDDD mine\n")
    ids = set()
    for _ in range(2):
        assert taken(authorized_keys=b"ssh-ed25519 EEEE host\n") == ""
        ids.add(guest.read("etc/machine-id"))
    assert [len(it) for it in ids] == [33, 33]
    assert guest.read("etc/hostname") == "copy-host\n"
    assert "127.0.1.1 copy-host\n" in guest.read("etc/hosts")
    assert (guest.state / "booted").read_text() == (guest.state / "seed/instance-id").read_text() == "i-2\n"
    assert "LIMA_CIDATA_NAME=copy" in (guest.state / "seed/variables.sh").read_text()
    assert [path.name for path in guest.root.glob("etc/ssh/ssh_host_*_key")] == ["ssh_host_ed25519_key"]
    assert guest.read("etc/ssh/ssh_host_ed25519_key") == "OTHER\n"
    assert guest.read("home/me/.ssh/authorized_keys") == "ssh-ed25519 DDDD mine\nssh-ed25519 EEEE host\n"
    assert not (guest.state / "identity").exists()


def test_identity_that_cannot_be_taken_says_what_is_wrong_and_keeps_the_id(guest, taken):
    """The instance's id is the last to change, so a guest that kept anything of the original keeps that as well."""
    (guest.root / "etc/ssh/ssh_host_ed25519_key").unlink(missing_ok=True)
    (guest.root / "etc/ssh/ssh_host_ed25519_key").mkdir()
    assert taken() == "the host key could not be changed\n"
    assert (guest.state / "booted").read_text() == "i-1\n"


def test_identity_of_a_copy_waits_for_new_random_numbers(guest, taken):
    """In the boot of the original, only the kernel's word that it has renewed its random state suffices."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (guest.bin / "sleep").symlink_to("/bin/true")
    log, renewed = guest.folder / "log", "random: crng reseeded due to virtual machine fork\n"
    (guest.bin / "dmesg").write_text(f"#!/bin/sh\ncat {log}\n")
    (guest.bin / "dmesg").chmod(0o755)
    log.write_text(f"[1.5] {renewed}[2.5] interlock: copying m1\n")
    assert taken(boot, "m1") == "the random state could not be changed\n"
    assert taken("another boot", "m1") == ""
    log.write_text(f"{log.read_text()}[3.5] {renewed}")
    assert taken(boot, "m1") == ""


def test_identity_waits_until_the_server_listens_again_on_all_it_listened_on(guest, taken):
    """A server that ends closes one socket after the other, and the next one opens them so: between, nobody gets in."""
    net, waits = guest.root / "proc/net", guest.folder / "waits"
    net.mkdir(parents=True)
    seen = [("11", "12"), ("11", ""), ("", ""), ("21", ""), ("21", "22")]
    for number, inodes in enumerate(seen):
        moment = waits / str(number)
        moment.mkdir(parents=True)
        for table, inode in zip(("tcp", "tcp6"), inodes, strict=True):
            line = f"  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0\n"
            (moment / table).write_text("  sl  local_address rem_address   st\n" + (line if inode else ""))
    pass_time = f'for next in {waits}/*; do mv "$next"/* {net} && rmdir "$next"; exit; done\n'
    (guest.bin / "sleep").write_text(f"#!/bin/sh\n{pass_time}")
    (guest.bin / "sleep").chmod(0o755)
    guest.run(guest.bin / "sleep")
    (guest.root / "run").mkdir()
    with subprocess.Popen(
        ["sh", "-c", "trap '' HUP; echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        (guest.root / "run/sshd.pid").write_text(f"{server.pid}\n")
        assert taken(**{"environment.sh": b"export A=b\n"}) == ""
        server.communicate(b"")
    assert not list(waits.iterdir())


@pytest.fixture
def become(guest):
    """Return what has `guest`, which was booted as nobody's, become that of a seed; it returns what went wrong."""
    guest.furnish()
    guest.boot()

    def become(**given):
        former = {name: (guest.state / "seed" / name).read_text().strip() for name in ("user", "home")}
        of = replace(
            PLAIN, **{"user": guest.user, "home": "/home/me", "hostname": "mine", "instance_id": "i-2", **given}
        )
        before = seed.facts_of(cpio.pack({}) + seed.overlay(replace(PLAIN, **former)))
        line, archive = first_boot(cpio.pack({}) + seed.overlay(of), before, boot="", mark="")
        done = subprocess.run(
            ["sh", guest.state / "seed/interlock", "become", str(len(archive))],
            input=f"{line}\n".encode() + archive,
            env={"PATH": f"{guest.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "INTERLOCK_ROOT": str(guest.root)},
            capture_output=True,
            check=False,
        )
        assert (done.returncode == 0) is (done.stdout == b"")
        return done.stdout.decode()

    return become


def test_guest_of_nobody_becomes_that_of_a_seed(guest, become):
    """What differs is done as by a first boot with the other seed."""
    assert become(timezone="Asia/Kolkata", zone=b"TZif", host_key=KeyPair(b"OTHER\n", b"ssh-ed25519 CCCC\n")) == ""
    assert guest.read("etc/hostname") == "mine\n"
    assert guest.read("etc/localtime") == "TZif"
    assert guest.read("etc/ssh/ssh_host_ed25519_key") == "OTHER\n"
    assert (guest.state / "booted").read_text() == "i-2\n"
    assert (guest.state / "seed/ssh_host_ed25519_key.pub").read_text() == "ssh-ed25519 CCCC\n"
    assert len(guest.read("etc/machine-id")) == 33
    left = {path.name for path in guest.state.iterdir()}
    assert "pending" not in left
    assert not (guest.state / "seed/ssh_host_ed25519_key").exists()
    assert (guest.state / "seed").stat().st_mode & 0o777 == 0o700


def test_user_of_nobodys_guest_is_gone_from_the_instances(guest, become):
    """With what he was allowed; where he was root, root is not let in any more."""
    (guest.state / "seed/user").write_text("nobodys\n")
    (guest.state / "seed/home").write_text("/home/nobodys\n")
    for path, line in (
        ("etc/passwd", "nobodys:x:77:77::/home/nobodys:/bin/sh\n"),
        ("etc/shadow", "nobodys:*:::::::\n"),
    ):
        (guest.root / path).write_text(guest.read(path) + line)
    (guest.root / "etc/group").write_text("nobodys:x:77:\n")
    for path in ("home/nobodys/.ssh/authorized_keys", "root/.ssh/authorized_keys", "etc/sudoers.d/interlock"):
        (guest.root / path).parent.mkdir(parents=True, exist_ok=True)
        (guest.root / path).write_text("nobodys\n")
    assert become(passwordless_sudo=False) == ""
    there = [path for path in guest.root.rglob("*") if path.is_file() and "nobodys" in path.read_text(errors="replace")]
    assert there == []
    assert not (guest.root / "home/nobodys").exists()
    assert (guest.state / "seed/user").read_text() == f"{guest.user}\n"


def test_scripts_of_a_guest_that_became_one_run_in_the_background(guest, become, tmp_path, until):
    """They may take long: the host waits for them as it waits at a boot."""
    script = Script(SYSTEM, f"#!/bin/sh\ntouch {tmp_path}/ran\n".encode())
    assert become(scripts=(script,)) == ""
    until((guest.state / "booted").exists)
    assert (tmp_path / "ran").exists()
    assert (guest.state / "booted").read_text() == "i-2\n"
