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
"""The environment of PLAIN's scripts; each name is prefixed with `LIMA_CIDATA_`."""

FULL_LIMA = LIMA | {
    "COMMENT": "Ada Lovelace",
    "TIMEZONE": "Asia/Kolkata",
    "MOUNTTYPE": "9p",
    "MOUNTS": "1",
    "MOUNT_0_MOUNTPOINT": "/mnt/m",
    "SSHLOCALPORT": "60022",
}


def variables(lima: dict[str, str], **more: str) -> dict[str, bytes]:
    """Return the files that give these variables to a guest."""
    named = {f"LIMA_CIDATA_{name}": value for name, value in lima.items()}
    return {
        "lima.env": "".join(f"{name}={value}\n" for name, value in named.items()).encode(),
        "variables.sh": "".join(
            f"export {name}={shlex.quote(value)}\n" for name, value in {**more, **named}.items()
        ).encode(),
    }


OWN_HOSTS = b"127.0.1.1 web\n10.0.2.2 host.interlock.internal\n10.0.2.2 host.lima.internal\n"


def extracted(archive: bytes, folder: Path) -> Path:
    """Return the folder of the seed, unpacked as the kernel would."""
    subprocess.run(["cpio", "-idm", "--quiet", "--no-absolute-filenames"], input=archive, cwd=folder, check=True)
    return folder / "seed"


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files below `folder`: relative path → content."""
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
    """A guest reads its facts with `read`; a fact that is not set has no file."""
    assert files_of(extracted(seed.overlay(PLAIN), tmp_path)) == COMMON | variables(LIMA) | {
        "hosts": OWN_HOSTS,
        "ssh_host_ed25519_key": b"PRIVATE\n",
        "ssh_host_ed25519_key.pub": b"ssh-ed25519 BBBB\n",
        "sudo": b"",
    }


def test_overlay_carries_everything_that_can_be_said(tmp_path):
    """The overlay has every fact, every collection in its order, and every script with its number and mode."""
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
    """The private host key and secrets in scripts must not be readable by every user of the guest."""
    root = extracted(seed.overlay(PLAIN), tmp_path)
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600


def test_overlay_of_the_same_facts_is_the_same():
    """Building the overlay again does not change an instance's initrd."""
    assert seed.overlay(FULL) == seed.overlay(FULL)


def test_nocloud_is_the_volume_that_cloud_init_looks_for():
    """cloud-init finds a NoCloud seed by its label and these two names."""
    label, files = iso_files(seed.nocloud(FULL))
    assert label == "cidata"
    assert json.loads(files["meta-data"]) == {"instance-id": "i-1", "local-hostname": "web"}
    assert files["user-data"].startswith(b"#cloud-config\n{")


def test_nocloud_carries_the_same_tree_without_the_host_key(tmp_path):
    """The program and its facts are the same in both forms, except that cloud-init installs the host key."""
    _, files = iso_files(seed.nocloud(FULL))
    there = {path.removeprefix("interlock/"): data for path, data in files.items() if path.startswith("interlock/")}
    expected = files_of(extracted(seed.overlay(FULL), tmp_path))
    assert {path: data for path, data in expected.items() if not path.startswith("ssh_host")} == there
    assert json.loads(files["user-data"].partition(b"\n")[2])["ssh_keys"] == {
        "ed25519_private": "PRIVATE\n",
        "ed25519_public": "ssh-ed25519 BBBB\n",
    }


def test_nocloud_asks_for_every_module_that_it_uses_and_no_other():
    """About thirty other modules have nothing to do, and finding that out takes an emulated guest seconds."""
    _, files = iso_files(seed.nocloud(FULL))
    given = json.loads(files["user-data"].partition(b"\n")[2])
    stages = [f"cloud_{stage}_modules" for stage in ("init", "config", "final")]
    assert [given.pop(stage) for stage in stages] == [
        ["bootcmd", "growpart", "resizefs", "set-passwords", "ssh"],
        ["runcmd"],
        ["scripts-user"],
    ]
    # Each key has a module that reads it; `users` and `preserve_hostname` keep cloud-init from undoing our work.
    assert given.keys() == {
        *("bootcmd", "growpart", "resize_rootfs", "runcmd", "users", "preserve_hostname"),
        *("disable_root", "ssh_keys", "ssh_deletekeys", "ssh_pwauth"),
    }


@pytest.mark.parametrize("program", sorted(path.name for path in seed.PROGRAM_FILE.parent.glob("*.sh")))
@pytest.mark.parametrize("shell", ["sh", "bash --posix"])
def test_program_is_read_by_every_shell(shell, program):
    """The program uses no syntax that some guest's shell does not know."""
    subprocess.run([*shell.split(), "-n", seed.PROGRAM_FILE.with_name(program)], check=True)


class Guest:
    """A folder that serves as a guest's root. Its user is the one who runs the tests, so no account has to be made.

    Programs that would change more than files are replaced by ones that print how they were called.
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
        """Unpack the seed, and run the part that comes before logins are allowed."""
        seed_of = replace(PLAIN, user=self.user, home="/home/me", **given)  # type: ignore[arg-type]
        self.run(extracted(seed.overlay(seed_of), self.folder) / "interlock", "early")

    def boot(self) -> None:
        """Run the part of a boot that comes once there is a network."""
        self.run(self.state / "seed/interlock", "boot")

    def run(self, program: Path, *arguments: str) -> str:
        """Run our program, which must succeed, and return its output."""
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
        """Return the output (`log`) or the exit status (`status`) of each step, by its name."""
        return {path.stem: path.read_text() for path in (self.state / "scripts").glob(f"*.{ending}")}

    def report(self) -> list[str]:
        """Return the lines of the guest's report on its last boot that had work to do."""
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
    """The user's key is accepted, and the host key is kept in sshd's folder only."""
    guest.furnish()
    assert guest.read("home/me/.ssh/authorized_keys") == "ssh-ed25519 AAAA ada\n"
    assert f"{guest.user}:*:::::::\n" == guest.read("etc/shadow")
    assert guest.read("etc/ssh/ssh_host_ed25519_key") == "PRIVATE\n"
    assert (guest.root / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (guest.state / "seed").stat().st_mode & 0o777 == 0o700
    assert not (guest.state / "seed/ssh_host_ed25519_key").exists()
    assert {"0\n"} == set(guest.results("status").values())


def test_early_leaves_a_home_that_is_there(guest):
    """Keys are put into an image's empty `.ssh`, but not again after a boot, when the user may have removed them."""
    keys = guest.root / "home/me/.ssh/authorized_keys"
    keys.parent.mkdir(parents=True)
    guest.furnish()
    assert keys.read_text() == "ssh-ed25519 AAAA ada\n"
    guest.boot()
    keys.unlink()
    guest.furnish()
    assert list(keys.parent.iterdir()) == []


def test_early_may_be_done_again(guest):
    """An interrupted boot starts over, and adds nothing twice."""
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
    """A guest without the zone database gets the zone's file from the seed."""
    if known:
        (guest.root / "usr/share/zoneinfo/Asia/Kolkata").write_text("theirs")
    guest.furnish(timezone="Asia/Kolkata", zone=b"given")
    there = guest.root / "etc/localtime"
    assert ("/usr/share/zoneinfo/Asia/Kolkata" if known else "given") == (
        str(there.readlink()) if known else there.read_text()
    )


def test_timezone_that_is_nowhere_is_a_failure_with_its_name(guest):
    """The step is reported like a failed script, and the other steps are done."""
    guest.furnish(timezone="Mars/Utopia", scripts=(Script(SYSTEM, b"echo ran"),))
    guest.boot()
    assert guest.report() == ["failed 1 time zone", " this guest has no zone Mars/Utopia"]
    assert guest.results("log")["000-system"] == "ran\n"


@pytest.mark.parametrize(("before", "after"), [("", "LANG=C.UTF-8\n"), ("LANG=de_DE.UTF-8\n", "LANG=de_DE.UTF-8\n")])
def test_locale_of_the_guests_own_stays(guest, before, after):
    """Only a guest without a locale gets the given one."""
    (guest.root / "etc/locale.conf").write_text(before)
    guest.furnish(locale="C.UTF-8")
    assert after == guest.read("etc/locale.conf")


def test_name_servers_replace_those_of_the_network(guest):
    """NetworkManager is configured not to write them again."""
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
    """Return a function that lists the scripts that have run, in order."""
    path = guest.folder / "order"
    path.touch()
    guest.furnish(scripts=SCRIPTS, env={"INTERLOCK_ORDER": str(path), "A": 'it\'s "b"'}, param={"X": "two words"})
    return lambda: path.read_text().split()


def test_first_boot_runs_scripts_by_mode(guest, order):
    """Scripts run in the order of their modes; the output and the exit status of each are kept."""
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
    """The report has the exit status and the last output; a script that cannot be executed counts as failed."""
    guest.boot()
    failed = [line for line in guest.report() if line.startswith("failed")]
    assert failed == ["failed 3 script 001 (system)", "failed 127 script 004 (system)"]
    assert ' system it\'s "b"' in guest.report()


def test_script_that_floods_is_reported_in_a_few_kilobytes(guest):
    """The full log stays in the guest; the host only gets its end over ssh, with long lines cut."""
    flood = b"head -c 5000000 /dev/zero | tr '\\0' x; echo; echo why; exit 3"
    guest.furnish(scripts=(Script(SYSTEM, flood),))
    guest.boot()
    failed, line, why = guest.report()
    assert (failed, line, why) == ("failed 3 script 000 (system)", f" {'x' * 2000}", " why")
    assert len(guest.results("log")["000-system"]) > 5_000_000


def test_every_boot_runs_scripts_of_every_mode(guest, order):
    """Templates rely on it, because modules, settings and mounts made by a script are gone after a reboot."""
    guest.boot()
    guest.boot()
    assert order() == ["boot", "dependency", "system", "user"] * 2


def test_later_boot_leaves_out_what_is_done_once(guest, tmp_path):
    """Scripts and files with `once` are skipped after the first boot; the others are done at each boot."""
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
    """A failure is still reported after a boot that does not run its script; it is cleared when the script succeeds."""
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
    """Failed steps, such as setting the time zone, are repeated; of the others, only scripts and files are."""
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
    """A copied disk has the results of its original's steps; those failures must not be reported again."""
    guest.furnish(timezone="Mars/Utopia", scripts=(Script(SYSTEM, b"exit 1"),))
    guest.boot()
    (guest.state / "seed/instance-id").write_text("i-2\n")
    guest.run(guest.state / "seed/interlock", "early")
    assert guest.results("status").keys() == {"user", "names", "timezone", "lima"}


def test_scripts_find_the_variables_of_lima(guest):
    """They are in the environment, and in the file that programs written for Lima's guests read."""
    check = Script(SYSTEM, b'set -u; echo "$LIMA_CIDATA_NAME $LIMA_CIDATA_USER $LIMA_CIDATA_HOME"')
    guest.furnish(name="My_VM", scripts=(check, replace(check, mode=USER)))
    guest.boot()
    assert {guest.results("log")[name] for name in ("000-system", "001-user")} == {f"My_VM {guest.user} /home/me\n"}
    assert "LIMA_CIDATA_NAME=My_VM" in guest.read("mnt/lima-cidata/lima.env").splitlines()


def test_later_boot_without_work_does_nothing(guest):
    """Nothing waits for such a boot either, because there is no `each-boot` flag."""
    guest.furnish(scripts=(Script(SYSTEM, b"echo ran", once=True),))
    guest.boot()
    before = guest.read("var/lib/interlock/report")
    (guest.state / "report").write_text("of another boot\n")
    guest.boot()
    assert "of another boot\n" == guest.read("var/lib/interlock/report") != before
    assert not (guest.state / "each-boot").exists()


def test_again_runs_everything_and_says_what_it_begins(guest, order):
    """`again` does all scripts and files as a first boot does; failures are printed at once, and again at the end."""
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
    """The host learns of a failure before other scripts end, also of steps that failed before the network was up.

    Scripts do not inherit the news file: a background program with it open would keep a listening session open.
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


def test_file_is_written_as_asked(guest):
    """Content, owner and mode are exact; with `overwrite` off, an existing file is left alone."""
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
    """Edits run after files are written and before scripts; a failed edit is reported with the name of the file."""
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
    """Make `program` of the guest run the shell code `words` first, and return the file with their output."""
    heard = guest.folder / f"{program}.heard"
    (guest.bin / program).write_text(f'#!/bin/sh\nexec 3>&1\n{{ {words}; }} >>{heard}\nexec /bin/{program} "$@"\n')
    (guest.bin / program).chmod(0o755)
    return heard


@pytest.mark.parametrize("there", [None, 0o644], ids=["new", "open-to-all"])
def test_file_is_private_before_it_is_filled(guest, there):
    """Others can never read a private file: its mode is set before the first byte is written."""
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
    """A user script is copied into a folder that is already private; logs are readable by root only."""
    guest.furnish(scripts=(Script(USER, b"true"),))
    heard = stand_in(guest, "cp", 'stat -c %a "${2%/*}"')
    guest.boot()
    assert heard.read_text().splitlines()[0] == "700"
    assert (guest.state / "scripts").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("owner", "folders"), [(None, ["etc/new", "etc/new/deep"]), ("nobody", [])])
def test_folders_of_a_file_are_its_owners_below_the_owners(guest, owner, folders):
    """New folders belong to the file's owner only where that user could have made them; elsewhere to root."""
    owner = owner or guest.user
    heard = stand_in(guest, "chown", 'echo "$@"; exit')
    guest.furnish(files=(File("/etc/new/deep/file", b"x", owner=owner),))
    heard.unlink()
    guest.boot()
    chowned = [line for line in heard.read_text().splitlines() if "/etc/" in line]
    assert chowned == [f"{owner} {guest.root}/{path}" for path in (*folders, "etc/new/deep/file")]


def test_certificates_are_put_where_the_guest_wants_them(guest):
    """On Debian: a folder, a list of the system's certificates, and a program that updates the rest from both."""
    (guest.root / "etc/ca-certificates.conf").write_text("# list\nmozilla/A.crt\n!mozilla/B.crt\n")
    guest.furnish(ca_certs=(b"ONE\n", b"TWO"), remove_default_ca_certs=True)
    guest.boot()
    assert guest.read("etc/ca-certificates.conf") == "# list\n!mozilla/A.crt\n!mozilla/B.crt\n"
    folder = guest.root / "usr/local/share/ca-certificates"
    assert files_of(folder) == {"interlock-000.crt": b"ONE\n", "interlock-001.crt": b"TWO\n"}
    assert guest.results("log")["certificates"] == "update-ca-certificates \n"


def test_upgrade_uses_the_guests_package_manager(guest):
    """Package lists are updated first, then the packages."""
    guest.furnish(upgrade_packages=True)
    guest.boot()
    assert [line.split()[-1] for line in guest.results("log")["upgrade"].splitlines()] == ["update", "upgrade"]


def test_disk_that_is_not_there_is_a_failure_with_its_place(guest):
    """A disk is identified by its serial number."""
    guest.furnish(disks=(GuestDisk("disk7", "data", "/mnt/data", format=True),))
    guest.boot()
    assert guest.report() == ["failed 1 disk at /mnt/data", " no disk has the serial number disk7"]


def test_program_called_wrongly_says_how():
    """The program prints its usage."""
    program = ["sh", seed.PROGRAM_FILE, "sometimes"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "early | boot | again" in done.stderr


LAN = lan.place(PLAIN.instance_id)


@pytest.fixture
def card(guest):
    """Return the log of the guest's `ip` calls; its second card is on the network of instances."""
    heard = guest.folder / "ip.heard"
    (guest.bin / "ip").write_text(f'#!/bin/sh\necho "$*" >>{heard}\n')
    (guest.bin / "ip").chmod(0o755)
    for name, mac in {"eth0": "52:54:00:12:34:56", "eth1": LAN.mac}.items():
        (guest.root / f"sys/class/net/{name}").mkdir(parents=True)
        (guest.root / f"sys/class/net/{name}/address").write_text(f"{mac}\n")
    (guest.root / "etc/systemd/network").mkdir(parents=True)
    return heard


def test_card_of_the_network_of_instances_is_found_by_its_address_and_named(guest, card):
    """It is set up at each boot before scripts run, and the guest's own network daemon does not configure it."""
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
    """The initrd of a system with a disk copies the seed to its final place, and runs it from there."""
    given = replace(PLAIN, user=guest.user, home="/home/me", lan="lima0")
    guest.state.mkdir(parents=True)
    extracted(seed.overlay(given), guest.folder).rename(guest.state / "seed")
    guest.run(guest.state / "seed/interlock", "early")
    assert f"MACAddress={LAN.mac}\n" in guest.read("etc/systemd/network/10-interlock.network")


def test_card_that_cloud_init_has_set_up_is_left_alone(guest, card):
    """A card that is already configured correctly is not taken down."""
    shows = f"link/ether {LAN.mac} brd\n inet {LAN.with_prefix} scope"
    (guest.bin / "ip").write_text(f'#!/bin/sh\necho "$*" >>{card}\necho "{shows}"\n')
    guest.furnish(lan="lima0")
    guest.boot()
    assert card.read_text() == "addr show dev lima0\n"


def test_nocloud_configures_both_cards_of_a_guest_that_has_two():
    """Cards are matched by address, because their names differ between systems; only the first uses DHCP."""
    _, files = iso_files(seed.nocloud(replace(PLAIN, lan="lima0")))
    cards = json.loads(files["network-config"])["ethernets"]
    assert [card["match"]["macaddress"] for card in cards.values()] == ["52:54:00:12:34:56", LAN.mac]
    assert (cards["eth0"]["dhcp4"], cards["lima0"]["addresses"]) == (True, [LAN.with_prefix])
    other = seed.nocloud_for(seed.nocloud(replace(PLAIN, lan="lima0")), OTHER)
    assert lan.place(OTHER.instance_id).mac.encode() in iso_files(other)[1]["network-config"]


@pytest.mark.usefixtures("card")
def test_names_of_peers_are_added_to_the_hosts_and_stay(guest):
    """They survive a reboot, at which the host sends no names; a new list replaces them."""
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
    """A copy wakes up with the card addresses of its original, and changes to those of its own id."""
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
    """Return a function that gives the booted `guest` another identity, and returns the guest's error message."""
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
    """Name, ids and keys are new; a host key of another type, which the original has too, is removed."""
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
    """The instance's id changes last, so a guest that failed to change anything else keeps the old id too."""
    (guest.root / "etc/ssh/ssh_host_ed25519_key").unlink(missing_ok=True)
    (guest.root / "etc/ssh/ssh_host_ed25519_key").mkdir()
    assert taken() == "the host key could not be changed\n"
    assert (guest.state / "booted").read_text() == "i-1\n"


def test_identity_of_a_copy_waits_for_new_random_numbers(guest, taken):
    """A copy in the same boot as its original succeeds only if the kernel logs that it reseeded its random state."""
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
    """A restarting server closes and opens its sockets one by one, and in between nobody can log in."""
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
    """Return a function that turns `guest`, booted for a warm image, into an instance's, and returns the error."""
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
    """Facts that differ are applied as in a first boot with the new seed."""
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
    """The user's home, keys and sudo rules are removed; root's keys are removed too, in case the user was root."""
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
    """Scripts may take long, so the host waits for them as it does at a boot."""
    script = Script(SYSTEM, f"#!/bin/sh\ntouch {tmp_path}/ran\n".encode())
    assert become(scripts=(script,)) == ""
    until((guest.state / "booted").exists)
    assert (tmp_path / "ran").exists()
    assert (guest.state / "booted").read_text() == "i-2\n"
