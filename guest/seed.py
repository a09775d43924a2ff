"""What a guest is told at its first boot, in the two forms that guests understand.

    overlay   a cpio archive that follows an Interlock image's own initrd: the facts lie under /seed, one a file, when
              the guest's first program starts. Costs nothing to read.
    nocloud   a disk labelled `cidata` for cloud-init, which anyone's cloud image carries. Costs a Python program's run
              in the guest, ten seconds and more under emulation, hence for images that know no other.

Both end with the same script, `_FIRST_BOOT`, which runs the template's scripts and then writes the instance's id into
`BOOTED`. So one question over ssh tells of every guest whether its first boot is over, and whose it was.
"""

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

from . import cpio
from .keys import KeyPair

BOOTED = "/var/lib/interlock/booted"
"""The guest's file that holds the instance's id once its first boot is over; never there before."""

SCRIPTS = "/var/lib/interlock/scripts"
"""The guest's folder of what the scripts said (`000.log`) and how they ended (`000.status`, the exit code)."""

_SEED = "/var/lib/interlock/seed"
"""Where a guest keeps the seed while its first boot lasts."""

_FIRST_BOOT = f"""\
#!/bin/sh
# Ends the first boot: runs each script once and keeps what it said, then names the instance that has booted.
# A script that fails does not hold the guest back: what it said is worth more with a machine to look at.
# Cut short by a power loss, it begins again at the next boot, as the whole first boot does.
cd "$(dirname "$0")" || exit
mkdir -p {SCRIPTS}
for script in scripts/*; do
    [ -f "$script" ] || continue
    log={SCRIPTS}/${{script##*/}}
    HOME=/root "./$script" >"$log.log" 2>&1 </dev/null
    echo $? >"$log.status"
done
# By rename, and on the disk: a reader sees no half of it, and the next boot sees it whatever happens now.
cp instance-id {BOOTED}.new && sync && mv {BOOTED}.new {BOOTED} && sync
"""


@dataclass(frozen=True, slots=True)
class FirstBoot:
    """What one guest is told, once."""

    user: str
    """Login with passwordless sudo; `root` is allowed."""
    hostname: str
    instance_id: str
    """The first boot happens once for each value."""
    authorized_keys: tuple[str, ...]
    """Lines of sshd(8)'s AUTHORIZED_KEYS: who may log in."""
    host_key: KeyPair
    scripts: tuple[bytes, ...] = ()
    """Run by root in this order, with the network up; one without a `#!` line is read by sh."""

    def numbered_scripts(self) -> dict[str, bytes]:
        """Return the scripts by their place in the seed, named so that the guest's `*` gives them in this order."""
        return {f"scripts/{number:03}": script for number, script in enumerate(self.scripts)}


def overlay(first_boot: FirstBoot) -> bytes:
    """Return the archive to append to the initrd of an Interlock image (its length is a multiple of 512)."""
    private, public = first_boot.host_key
    tree = {
        "instance-id": cpio.file(_line(first_boot.instance_id)),
        "hostname": cpio.file(_line(first_boot.hostname)),
        "user": cpio.file(_line(first_boot.user)),
        "authorized_keys": cpio.file(_line(*first_boot.authorized_keys)),
        "ssh_host_ed25519_key": cpio.file(private, 0o600),
        "ssh_host_ed25519_key.pub": cpio.file(public),
        "first-boot": cpio.file(_FIRST_BOOT.encode(), 0o755),
        **{path: cpio.file(script, 0o755) for path, script in first_boot.numbered_scripts().items()},
    }
    # Only root reads it: the host's private key is in it, and whatever secrets the scripts carry.
    return cpio.pack({"seed": cpio.directory(0o700)} | {f"seed/{path}": entry for path, entry in tree.items()})


def nocloud(first_boot: FirstBoot) -> bytes:
    """Return an ISO 9660 image, volume `cidata`, to attach as a read-only disk.

    It carries no network configuration on purpose: without one, cloud-init asks DHCP on the guest's first network card,
    whatever its name and whichever of netplan, NetworkManager or ifupdown the guest has. A configuration that we wrote
    would have to name the card. Source: cloud-init, "NoCloud" and "Network configuration: fallback".
    """
    metadata = {"instance-id": first_boot.instance_id, "local-hostname": first_boot.hostname}
    return _iso({"user-data": b"#cloud-config\n" + _json(_user_data(first_boot)), "meta-data": _json(metadata)})


def _user_data(first_boot: FirstBoot) -> dict[str, Any]:
    private, public = first_boot.host_key
    user: dict[str, Any] = {"name": first_boot.user, "ssh_authorized_keys": list(first_boot.authorized_keys)}
    if first_boot.user != "root":
        user |= {"sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash", "lock_passwd": True}
    files = {
        "instance-id": (_line(first_boot.instance_id), "0644"),
        "first-boot": (_FIRST_BOOT.encode(), "0755"),
        **{path: (script, "0755") for path, script in first_boot.numbered_scripts().items()},
    }
    return {
        "users": [user],
        "disable_root": first_boot.user != "root",
        "ssh_pwauth": False,
        # A key that is given is a key that need not be made; those that came with the image are everybody's.
        "ssh_keys": {"ed25519_private": private.decode(), "ed25519_public": public.decode()},
        "ssh_deletekeys": True,
        "preserve_hostname": False,
        # So that sudo finds the hostname without asking the network for it.
        "manage_etc_hosts": "localhost",
        "growpart": {"mode": "auto", "devices": ["/"]},
        "resize_rootfs": True,
        "write_files": [
            {
                "path": f"{_SEED}/{path}",
                "permissions": permissions,
                "encoding": "b64",
                "content": base64.b64encode(data).decode(),
            }
            for path, (data, permissions) in files.items()
        ],
        # From the second boot on cloud-init stays off: it would find nothing to do, and take seconds to find it.
        "runcmd": [[f"{_SEED}/first-boot"], ["touch", "/etc/cloud/cloud-init.disabled"], ["rm", "-rf", _SEED]],
    }


def _iso(files: dict[str, bytes]) -> bytes:
    """Return a disk that holds `files`, under names that both Linux (Rock Ridge) and Windows (Joliet) read."""
    from pycdlib import PyCdlib

    image, out = PyCdlib(), io.BytesIO()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for number, (name, data) in enumerate(files.items()):
        image.add_fp(io.BytesIO(data), len(data), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
    image.write_fp(out)
    image.close()
    return out.getvalue()


def _json(data: dict[str, Any]) -> bytes:
    """Return `data` as JSON, which is YAML that needs no quoting rules."""
    return json.dumps(data, indent=2).encode() + b"\n"


def _line(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
