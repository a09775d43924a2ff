"""The seed, which tells a guest what to do at its boots, in the two forms that guests understand.

    overlay   a cpio archive appended to an Interlock image's initrd: the seed is in /seed when the guest's first
              program starts, at no cost
    nocloud   a disk labelled `cidata` for cloud-init, which all cloud images have. It runs Python in the guest, which
              takes ten seconds or more under emulation, so it is only for images that need it

Both hold the same tree: one file for each fact, and the programs that do the guest's work.

    interlock                   guest/interlock.sh, whose header lists what it does when
    identity                    guest/identity.sh, which gives a running guest another identity
    agent                       guest/agent.sh, which answers the host while the guest runs
    instance-id, user, uid, home, shell, comment, hostname, timezone, locale        a line each
    sudo, remove-default-ca-certs, upgrade-packages                                 exist or not
    lan-interface, lan-mac, lan-address                                             a line each
    authorized_keys, hosts, dns, zone, ssh_host_ed25519_key(.pub)                   as their programs read them
    environment, environment.sshd, environment.sh                                   the same, for PAM, sshd and sh
    variables.sh                                                                    the same, for scripts alone
    lima.env                                                                        NAME=VALUE, for programs
    ca/NNN                      PEM
    disks/NNN/                  serial, label, path, fs-type, fs-args (a line each), format (exists or not)
    mounts/NNN/                 tag, path, type, options
    files/NNN/                  path, content, owner, permissions, keep (exists or not)
    scripts/NNN-MODE
    titles/NNN-MODE                             a line: the script's title, if it is one of Interlock's own
    files/NNN.once, scripts/NNN-MODE.once       exist or not: if so, the file or script is only for the first boot

A fact that is not given has no file. After its first boot a guest writes the instance's id into `BOOTED`, so a single
query over ssh shows whether that boot is over, and for which instance.
"""

import io
import json
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from . import cpio, lan
from .facts import DNS_ADDRESS, GUEST_ADDRESS, HOST_ADDRESS, HOST_NAMES, File, GuestDisk, Identity, MountPoint, Seed
from .keys import in_dropbears_form

STATE = "/var/lib/interlock"
"""Interlock's folder in the guest."""

PROGRAM = f"{STATE}/seed/interlock"
"""Where the guest keeps our program, beside its facts, readable by root only."""

BOOTED = f"{STATE}/booted"
"""Holds the instance's id; exists once the first boot is over."""

EACH_BOOT = f"{STATE}/each-boot"
"""Exists if every boot has work to do."""

REPORT = f"{STATE}/report"
"""The steps whose last run failed, below the boot's id (`boot_id` of proc(5)); the user may read it."""

NEWS = f"{STATE}/news"
"""Each step as it fails, below the id of the boot in which it failed; the user may read it."""

SCRIPTS = f"{STATE}/scripts"
"""Output and exit status of scripts and steps: `000-system.log`, `000-system.status`."""

PROGRAM_FILE = Path(__file__).with_name("interlock.sh")
"""Our program, as it is on the host."""

SEED_BYTES = 1 << 30
"""A seed, alone or at the end of an initrd, is a few dozen MiB at most; larger files are rejected unread."""

_SSH_PORT = r"^(export )?LIMA_CIDATA_SSHLOCALPORT=.*\n"

IDENTITY_FILE, _AGENT_FILE = (Path(__file__).with_name(f"{name}.sh") for name in ("identity", "agent"))

PROGRAMS = {"interlock": PROGRAM_FILE, "identity": IDENTITY_FILE, "agent": _AGENT_FILE}
"""The facts that are programs → their files on the host."""

_UPLINK_MAC = "52:54:00:12:34:56"
"""The address of the card that leads to the host: QEMU's default for the first card."""

_EARLY = (
    'seed=$(mktemp -d) && mount -t iso9660 -o ro "$(blkid -L cidata || findfs LABEL=cidata)" "$seed" && '
    'sh "$seed/interlock/interlock" early; umount "$seed" && rmdir "$seed"'
)
"""How cloud-init runs the program on the seed's disk, before it looks at users and sshd starts."""


def overlay(seed: Seed) -> bytes:
    """Return the archive to append to the initrd of an Interlock image (its length is a multiple of 512)."""
    private, public = seed.host_key
    facts = _facts(seed) | {"ssh_host_ed25519_key": private, "ssh_host_ed25519_key.pub": public}
    return _packed(facts)


def nocloud(seed: Seed) -> bytes:
    """Return an ISO 9660 image, volume `cidata`, to attach as a read-only disk.

    Unless there is a second card, it deliberately has no network configuration: without one, cloud-init uses DHCP on
    the guest's first network card, whatever its name, by netplan, NetworkManager or ifupdown. A configuration of ours
    would have to name the card. Source: cloud-init, "NoCloud" and "Network configuration: fallback".
    """
    return _nocloud(_user_data(seed), seed.instance_id, seed.hostname, _facts(seed))


def overlay_for(initrd: bytes, identity: Identity) -> bytes:
    """Return `initrd`, which ends in an `overlay`, with that overlay changed to give the same guest `identity`.

    Raises ValueError for an initrd that ends in no overlay.
    """
    begin, facts = _overlaid(initrd)
    return initrd[:begin] + _packed(facts | _identified(facts, identity) | _host_key(identity))


def nocloud_for(image: bytes, identity: Identity) -> bytes:
    """Return `image`, a `nocloud` image, changed to give the same guest `identity`. Raises ValueError for others."""
    files = _files(image)
    user_data = json.loads(files["user-data"].partition(b"\n")[2])
    private, public = identity.host_key
    user_data["ssh_keys"] = {"ed25519_private": private.decode(), "ed25519_public": public.decode()}
    facts = _on_disk(files)
    return _nocloud(user_data, identity.instance_id, identity.hostname, facts | _identified(facts, identity))


def overlay_with(initrd: bytes, mounts: Sequence[MountPoint]) -> bytes:
    """Return `initrd`, which ends in an `overlay`, with the guest's mounts in that overlay replaced by `mounts`.

    Raises ValueError for an initrd that ends in no overlay.
    """
    begin, facts = _overlaid(initrd)
    return initrd[:begin] + _packed(_mounting(facts, mounts))


def nocloud_with(image: bytes, mounts: Sequence[MountPoint]) -> bytes:
    """Return `image`, a `nocloud` image, with the guest's mounts replaced by `mounts`. Raises ValueError for others."""
    files = _files(image)
    facts = _mounting(_on_disk(files), mounts)
    return _iso({path: it for path, it in files.items() if "/" not in path} | _below("interlock", facts))


def mount_facts(mounts: Sequence[MountPoint]) -> dict[str, bytes]:
    """Return the facts of `mounts`: path → content."""
    records = {f"mounts/{number:03}": _record(mount) for number, mount in enumerate(mounts)}
    return {f"{folder}/{name}": content for folder, record in records.items() for name, content in record.items()}


def _mounting(facts: Mapping[str, bytes], mounts: Sequence[MountPoint]) -> dict[str, bytes]:
    return {path: it for path, it in facts.items() if not path.startswith("mounts/")} | mount_facts(mounts)


def _below(folder: str, facts: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{path}": content for path, content in facts.items()}


def identity_facts(identity: Identity, *, initrd: bytes | None = None, image: bytes | None = None) -> dict[str, bytes]:
    """Return the facts that give a running guest `identity`; its seed is in `initrd`, or on the disk `image`.

    Raises ValueError if there is no seed.
    """
    facts = _overlaid(initrd)[1] if initrd is not None else _on_disk(_files(image or b""))
    keys = _host_key(identity)
    return {**_identified(facts, identity), **keys, **_host_keys(keys), "machine-id": _machine_id()}


def facts_of(initrd: bytes) -> dict[str, bytes]:
    """Return the facts of the seed in `initrd`, except the programs. Raises ValueError if there is no seed."""
    return {name: content for name, content in _overlaid(initrd)[1].items() if name not in PROGRAMS}


def first_boot_facts(initrd: bytes, former: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the facts that give a running guest, which belonged to no instance, the seed in `initrd`.

    The guest had the facts `former`. Returned are the facts that differ, the names of those that are gone, and the host
    keys and machine id that `identity_facts` has, too. Raises ValueError if there is no seed.
    """
    facts = facts_of(initrd)
    gone = "".join(f"{name}," for name in sorted({name.partition("/")[0] for name in former.keys() - facts.keys()}))
    fresh = {name: content for name, content in facts.items() if former.get(name) != content}
    return {
        **fresh,
        **_host_keys(facts),
        **({"without": f",{gone}".encode()} if gone else {}),
        "machine-id": _machine_id(),
    }


def _machine_id() -> bytes:
    return _lines(os.urandom(16).hex())


def _overlaid(initrd: bytes) -> tuple[int, dict[str, bytes]]:
    """Return where the `overlay` of `initrd` begins, and its facts. Raises ValueError if it has no overlay."""
    begin, tree = cpio.last(initrd)
    if "seed/instance-id" not in tree:
        raise ValueError("there is no seed in it")
    return begin, {path.removeprefix("seed/"): entry.data for path, entry in tree.items() if stat.S_ISREG(entry.mode)}


def _on_disk(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the facts among the `files` of a `nocloud` image."""
    return {path.removeprefix("interlock/"): content for path, content in files.items() if "/" in path}


def _host_key(identity: Identity) -> dict[str, bytes]:
    private, public = identity.host_key
    return {"ssh_host_ed25519_key": private, "ssh_host_ed25519_key.pub": public}


def _host_keys(facts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the host key among `facts` in each form in which a running guest needs it."""
    keys = {name: facts[name] for name in ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub")}
    with suppress(ValueError):  # only OpenSSH's servers read other keys
        keys["dropbear_host_key"] = in_dropbears_form(keys["ssh_host_ed25519_key"])
    return keys


def _identified(facts: Mapping[str, bytes], identity: Identity) -> dict[str, bytes]:
    """Return the facts that identify the guest, with the values of `identity`. A copy has no fixed port for ssh."""

    def named(path: str, before: str, value: str) -> bytes:
        """Return the fact `path` with `value` after `before` in each line that begins with `before`."""
        text = re.sub(_SSH_PORT, "", facts[path].decode(), flags=re.MULTILINE)
        return re.sub(rf"^({before}).*$", lambda line: line[1] + value, text, flags=re.MULTILINE).encode()

    return {
        **(_lan(identity.instance_id) if "lan-mac" in facts else {}),
        "instance-id": _lines(identity.instance_id),
        "hostname": _lines(identity.hostname),
        "hosts": named("hosts", r"127\.0\.1\.1 ", identity.hostname),
        "lima.env": named("lima.env", "LIMA_CIDATA_NAME=", identity.name),
        "variables.sh": named("variables.sh", "export LIMA_CIDATA_NAME=", shlex.quote(identity.name)),
    }


def _facts(seed: Seed) -> dict[str, bytes]:
    """Return the tree without the host key: path → content."""
    lines = {
        "instance-id": seed.instance_id,
        "user": seed.user,
        "uid": str(_uid(seed)),
        "home": _home(seed),
        "shell": seed.shell,
        "comment": seed.comment,
        "hostname": seed.hostname,
        "timezone": seed.timezone,
        "locale": seed.locale,
    }
    flags = {
        "sudo": seed.passwordless_sudo,
        "remove-default-ca-certs": seed.remove_default_ca_certs,
        "upgrade-packages": seed.upgrade_packages,
    }
    facts = {name: _lines(line) for name, line in lines.items() if line}
    facts |= {name: b"" for name, there in flags.items() if there}
    facts |= {
        **{name: file.read_bytes() for name, file in PROGRAMS.items()},
        "authorized_keys": _lines(*seed.authorized_keys),
        "hosts": _lines(
            f"127.0.1.1 {seed.hostname}",
            *(f"{HOST_ADDRESS} {name}" for name in HOST_NAMES if name not in seed.hosts),
            *(f"{address} {name}" for name, address in seed.hosts.items()),
        ),
    }
    if seed.dns:
        facts["dns"] = _lines(*seed.dns)
    if seed.zone:
        facts["zone"] = seed.zone
    if seed.lan:
        facts |= {"lan-interface": _lines(seed.lan), **_lan(seed.instance_id)}
    lima = _lima(seed)
    facts["lima.env"] = _lines(*(f"{name}={value}" for name, value in lima.items()))
    facts["variables.sh"] = _exports({f"PARAM_{name}": value for name, value in seed.param.items()} | lima)
    return facts | _environment(seed.env) | dict(_collections(seed))


def _lan(instance_id: str) -> dict[str, bytes]:
    """Return the facts about the guest's place on the network of instances."""
    place = lan.place(instance_id)
    return {"lan-mac": _lines(place.mac), "lan-address": _lines(place.with_prefix)}


def _uid(seed: Seed) -> int:
    return 0 if seed.user == "root" else seed.uid


def _home(seed: Seed) -> str:
    return seed.home or ("/root" if seed.user == "root" else f"/home/{seed.user}")


def _lima(seed: Seed) -> dict[str, str]:
    """Return the variables that scripts written for Lima's guests expect, as far as they apply here.

    Source: Lima, pkg/cidata/cidata.TEMPLATE.d/lima.env; a flag that is off is empty there, and here too.
    """
    variables = {
        "NAME": seed.name or seed.hostname,
        "USER": seed.user,
        "UID": str(_uid(seed)),
        "COMMENT": seed.comment,
        "HOME": _home(seed),
        "SHELL": seed.shell,
        "MNT": "/mnt/lima-cidata",
        "VMTYPE": "qemu",
        "TIMEZONE": seed.timezone,
        "SLIRP_GATEWAY": HOST_ADDRESS,
        "SLIRP_DNS": DNS_ADDRESS,
        "SLIRP_IP_ADDRESS": GUEST_ADDRESS,
        "DEBUG": "",
        "MOUNTTYPE": seed.mounts[0].type if seed.mounts else "",
        "MOUNTS": str(len(seed.mounts)),
        **{f"MOUNT_{number}_MOUNTPOINT": mount.path for number, mount in enumerate(seed.mounts)},
        **({"SSHLOCALPORT": str(seed.ssh_port)} if seed.ssh_port else {}),
    }
    return {f"LIMA_CIDATA_{name}": value for name, value in variables.items()}


def _environment(env: Mapping[str, str]) -> dict[str, bytes]:
    facts = {}
    if env:
        facts["environment.sh"] = _exports(env)
        # Neither PAM nor sshd can express a value of several lines, and for PAM `#` begins a comment anywhere.
        words = [f"{name}={value}" for name, value in env.items() if "\n" not in value]
        facts["environment"] = _lines(*(word for word in words if "#" not in word))
        facts["environment.sshd"] = _lines(f"SetEnv {' '.join(map(_sshd_word, words))}") if words else b""
    return facts


def _exports(variables: Mapping[str, str]) -> bytes:
    return _lines(*(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))


def _sshd_word(word: str) -> str:
    """Return `word` quoted as one argument of sshd_config(5)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _collections(seed: Seed) -> Iterator[tuple[str, bytes]]:
    """Yield the lists of a seed, numbered so that `*` in the guest's shell gives them in order."""
    for number, certificate in enumerate(seed.ca_certs):
        yield f"ca/{number:03}", certificate if certificate.endswith(b"\n") else certificate + b"\n"
    collections: dict[str, Sequence[GuestDisk | MountPoint | File]] = {
        "disks": seed.disks,
        "mounts": seed.mounts,
        "files": seed.files,
    }
    for folder, records in collections.items():
        for number, record in enumerate(records):
            for name, content in _record(record).items():
                yield f"{folder}/{number:03}/{name}", content
    for number, script in enumerate(seed.scripts):
        yield f"scripts/{number:03}-{script.mode}", script.text
        if script.title:
            yield f"titles/{number:03}-{script.mode}", _lines(script.title)
    once = [f"files/{number:03}" for number, file in enumerate(seed.files) if file.once]
    once += [f"scripts/{number:03}-{script.mode}" for number, script in enumerate(seed.scripts) if script.once]
    yield from ((f"{path}.once", b"") for path in once)


def _record(record: GuestDisk | MountPoint | File) -> dict[str, bytes]:
    match record:
        case GuestDisk():
            facts = {"serial": record.serial, "label": record.label, "path": record.path, "fs-type": record.fs_type}
            extra = {"format": b""} if record.format else {}
            if record.fs_args:
                extra["fs-args"] = _lines(*record.fs_args)
        case MountPoint():
            facts = {"tag": record.tag, "path": record.path, "type": record.type, "options": record.options}
            extra = {}
        case File():
            facts = {"path": record.path, "owner": record.owner, "permissions": f"{record.permissions:o}"}
            extra = {"content": record.content} | ({} if record.overwrite else {"keep": b""})
    return {name: _lines(line) for name, line in facts.items()} | extra


def _user_data(seed: Seed) -> dict[str, Any]:
    private, public = seed.host_key
    return {
        # Our program makes the user, as in every other guest, before cloud-init looks at its own list.
        "bootcmd": [["sh", "-c", _EARLY]],
        # (An empty list is the documented way, although the schema of some versions warns about it.)
        "users": [],
        "disable_root": seed.user != "root",
        "ssh_pwauth": False,
        # The guest need not make the key that it is given; keys in the image are the same for everybody.
        "ssh_keys": {"ed25519_private": private.decode(), "ed25519_public": public.decode()},
        "ssh_deletekeys": True,
        "preserve_hostname": False,
        "growpart": {"mode": "auto", "devices": ["/"]},
        # In the background: no later step needs the space at once.
        "resize_rootfs": "noblock",
        # Only the modules that we use, of some thirty: each of the others would take time and find nothing to do.
        "cloud_init_modules": ["bootcmd", "growpart", "resizefs", "set-passwords", "ssh"],
        "cloud_config_modules": ["runcmd"],
        "cloud_final_modules": ["scripts-user"],
        # From the second boot on cloud-init is off: it would take seconds to find nothing to do.
        "runcmd": [["sh", PROGRAM, "boot"], ["touch", "/etc/cloud/cloud-init.disabled"]],
    }


def _packed(facts: Mapping[str, bytes]) -> bytes:
    # For root only: it contains the host's private key, and any secrets in the scripts.
    tree = {f"seed/{path}": cpio.file(content, 0o600) for path, content in facts.items()}
    return cpio.pack({"seed": cpio.directory(0o700)} | tree)


def _nocloud(user_data: dict[str, Any], instance_id: str, hostname: str, facts: Mapping[str, bytes]) -> bytes:
    metadata = {"instance-id": instance_id, "local-hostname": hostname}
    files = {f"interlock/{path}": content for path, content in facts.items()}
    if "lan-mac" in facts:
        files["network-config"] = _json(_network_config(facts))
    return _iso({"user-data": b"#cloud-config\n" + _json(user_data), "meta-data": _json(metadata)} | files)


def _network_config(facts: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the configuration for a guest with a second card; the cards are matched by address, as names vary.

    Source: cloud-init, "Networking config Version 2".
    """
    name, mac, address = (facts[f"lan-{it}"].decode().strip() for it in ("interface", "mac", "address"))
    uplink = {"match": {"macaddress": _UPLINK_MAC}, "set-name": "eth0", "dhcp4": True}
    shared = {"match": {"macaddress": mac}, "set-name": name, "addresses": [address], "optional": True}
    return {"version": 2, "ethernets": {"eth0": uplink, name: shared}}


def _files(image: bytes) -> dict[str, bytes]:
    """Return the files of an image that `_iso` made: path → content. Raises ValueError for any other image."""
    from pycdlib import PyCdlib
    from pycdlib.pycdlibexception import PyCdlibException

    opened, files = PyCdlib(), dict[str, bytes]()
    try:
        opened.open_fp(io.BytesIO(image))
        for folder, _, names in opened.walk(joliet_path="/"):
            for name in names:
                content, path = io.BytesIO(), str(PurePosixPath(folder, name))
                opened.get_file_from_iso_fp(content, joliet_path=path)
                files[path.removeprefix("/")] = content.getvalue()
    except PyCdlibException as error:
        raise ValueError(str(error)) from error
    if not {"user-data", "interlock/instance-id"} <= files.keys():
        raise ValueError("there is no seed in it")
    return files


def _iso(files: dict[str, bytes]) -> bytes:
    """Return an image with `files`, whose names both Linux (Rock Ridge) and Windows (Joliet) can read."""
    from pycdlib import PyCdlib

    image, out = PyCdlib(), io.BytesIO()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    folders = {PurePosixPath("."): ""}
    for number, (path, data) in enumerate(files.items()):
        *above, place = reversed([PurePosixPath(path), *PurePosixPath(path).parents])
        for folder in above:
            if folder not in folders:
                folders[folder] = f"{folders[folder.parent]}/D{len(folders)}"
                image.add_directory(folders[folder], rr_name=folder.name, joliet_path=f"/{folder}")
        name = f"{folders[place.parent]}/F{number}.;1"
        image.add_fp(io.BytesIO(data), len(data), name, rr_name=place.name, joliet_path=f"/{path}")
    image.write_fp(out)
    image.close()
    return out.getvalue()


def _json(data: dict[str, Any]) -> bytes:
    """Return `data` as JSON, which is valid YAML."""
    return json.dumps(data, indent=2).encode() + b"\n"


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
