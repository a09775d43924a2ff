"""The parts of a template: an image, a mount, a user. The keys are Lima's, except ours, which model.py names."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from . import values as is_

Path = tuple[str | int, ...]

SOCKET_BYTES = 107
"""A longer path cannot be the address of a socket. Source: unix(7)."""


MANY_PORTS = 1000
"""Up to this many ports are forwarded from the start, whether anything listens or not; of more, those that open."""

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - no socket is bound
LOOPBACK = "127.0.0.1"

KEY_MODES = {
    **dict.fromkeys(("path", "owner", "permissions"), ("data", "yq")),
    **dict.fromkeys(("content", "overwrite"), ("data",)),
    **dict.fromkeys(("expression", "format"), ("yq",)),
    "playbook": ("ansible",),
    "skip_default_dependency_resolution": ("dependency",),
}
"""Field of provision → the modes that it belongs to. The other fields belong to every mode."""


EDITED = ("json", "yaml", "ini")
"""Kinds of files that mode `yq` edits."""


_DISPLAYS = re.compile(r"127\.0\.0\.1:\d{1,4}(,to=\d{1,4})?")


class Strict(BaseModel):
    """A mapping that accepts no keys but its own."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, use_attribute_docstrings=True, protected_namespaces=()
    )

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        """Yield what is wrong although each field is valid by itself: (path from here, words)."""
        yield from ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if found := list(self.mistakes()):
            raise PydanticCustomError("disagreement", "fields that do not agree", {"found": found})
        return self


class File(Strict):
    """A file to fetch."""

    location: is_.Location
    """URL or path."""
    arch: is_.AnyArch | None = None
    """Null: the image's, for its kernel and initrd; otherwise any."""
    digest: is_.Digest | None = None
    """`sha256:...` or `sha512:...`: a file with another digest is refused."""


class Kernel(File):
    """A kernel to boot an image with."""

    cmdline: is_.Line = ""
    """Its command line."""


class ImageSource(File):
    """One place an image can come from; the first that fits the machine is used."""

    location: is_.Location
    """`build:tiny` and `build:debian` are built here; otherwise the URL or path of a disk, or of a CD (`.iso`)."""
    kernel: Kernel | None = None
    """A kernel to boot instead of the image's own."""
    initrd: File | None = None
    """The initramfs of that kernel."""
    variant: is_.Line = ""
    """Which of several images for one architecture: `server`, `minimal`. For people only."""
    arch_variant: is_.Line = ""
    """The level of the processor that the image needs: `v3` for x86-64-v3. For people only."""

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        for name, part in (("kernel", self.kernel), ("initrd", self.initrd)):
            if part and part.arch not in (None, self.arch):
                wanted = f"{self.arch}, like the image" if self.arch else "an arch for the image too"
                yield (name, "arch"), f"expected {wanted}, found {part.arch!r}"
        if self.initrd and not self.kernel:
            yield ("initrd",), "expected a kernel beside it"


class AdditionalDisk(Strict):
    """A disk that outlives the machine."""

    name: is_.DiskName
    format: StrictBool = True
    """False: an empty disk is not formatted."""
    fs_type: is_.FileSystem = "ext4"
    fs_args: tuple[is_.Line, ...] = ()
    """More arguments for mkfs."""


class NineP(Strict):
    """How a folder is shared by 9p. Source: QEMU, -fsdev; Linux, Documentation/filesystems/9p.rst."""

    security_model: Literal["passthrough", "mapped-xattr", "mapped-file", "none"] = "none"
    protocol_version: Literal["9p2000", "9p2000.u", "9p2000.L"] = "9p2000.L"
    msize: is_.MessageSize = 128 << 10
    """Bytes in one message."""
    cache: Literal["none", "loose", "fscache", "mmap"] | None = None
    """Null: `mmap`, with which the guest sees changes on the host at once."""


class Virtiofs(Strict):
    """How a folder is shared by virtiofs."""

    queue_size: is_.QueueSize = 1024
    """How many requests may wait."""


class Mount(Strict):
    """A folder of the host that the guest sees."""

    location: is_.HostPath
    """On the host."""
    mount_point: is_.MountPoint | None = None
    """In the guest; null: as on the host."""
    writable: StrictBool = False
    sshfs: dict[str, Any] | None = None
    nine_p: NineP = Field(NineP(), alias="9p")
    virtiofs: Virtiofs = Virtiofs()


class Ssh(Strict):
    """How to log in to the guest."""

    local_port: is_.Port = 0
    """On the host's loopback; 0: any that is free."""
    load_dot_ssh_pub_keys: StrictBool = Field(False, alias="loadDotSSHPubKeys")  # noqa: FBT003 - pydantic's default
    """True: the guest accepts the keys in ~/.ssh/*.pub, too."""
    forward_agent: StrictBool = False
    forward_x11: StrictBool = Field(False, alias="forwardX11")  # noqa: FBT003 - likewise
    forward_x11_trusted: StrictBool = Field(False, alias="forwardX11Trusted")  # noqa: FBT003 - likewise
    over_vsock: StrictBool | None = None


class Firmware(Strict):
    """What starts before the operating system."""

    legacy_bios: StrictBool = Field(False, alias="legacyBIOS")  # noqa: FBT003 - likewise
    """True: no UEFI on x86_64; the same as `boot: bios` there."""
    images: tuple[Any, ...] = ()


class Audio(Strict):
    """Sound."""

    device: str = ""
    interface: Literal["", "hda", "virtio"] = ""


class Vnc(Strict):
    """A display over the network."""

    display: str = ""
    """`127.0.0.1:0` is TCP port 5900; `127.0.0.1:0,to=9` is the first free one of ten."""


class Video(Strict):
    """A display."""

    display: str = ""
    """`vnc`: the machine has a screen, which a VNC viewer shows; `none`: it has no screen."""
    vnc: Vnc = Vnc()

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        asked = self.vnc.display
        if self.display == "vnc" and asked and not _DISPLAYS.fullmatch(asked):
            here = "expected a display on this host's loopback, such as 127.0.0.1:0,to=9"
            why = "VNC is not encrypted: from another host, use ssh to reach this one"
            yield ("vnc", "display"), f"{here}, found {asked!r}; {why}"


class Provision(Strict):
    """Something to run or to write in the guest, at every boot unless `once` is true."""

    mode: Literal["system", "user", "boot", "dependency", "data", "yq", "ansible"] = "system"
    script: str = ""
    """Variables in it are replaced. A script without a `#!` line is run by sh."""
    file: Any = None
    """Path or URL of the script or content, read with the template; or `{url, digest}`."""
    once: StrictBool = False
    """True: at the first boot only. Interlock's own."""
    skip_default_dependency_resolution: StrictBool | None = None
    content: str | None = None
    """For mode `data`, like `overwrite`: what to write to `path`."""
    path: is_.GuestPath | None = None
    owner: is_.Line = "root:root"
    permissions: is_.Permissions = "644"
    overwrite: StrictBool = True
    """False: an existing file is left as it is."""
    playbook: str | None = None
    expression: str | None = None
    """For mode `yq`, like `format`: how to change the file at `path`. A missing file is created."""
    format: str = "auto"
    """`json`, `yaml`, `ini`, or `auto`: by the suffix of the file's name, otherwise YAML."""

    @property
    def mode_bits(self) -> int:
        """The permissions as a number."""
        return int(self.permissions, 8)

    @property
    def form(self) -> str:
        """What kind of file `path` is: one of EDITED."""
        if self.format != "auto":
            return self.format
        return next((form for form in EDITED if (self.path or "").endswith(f".{form}")), "yaml")

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        if "file" in self.model_fields_set:
            yield ("file",), "expected the text itself or a file, not both"
        elif self.mode in ("data", "yq"):
            yield from self._mistakes_of_a_file()
        elif self.mode != "ansible" and not self.script:
            yield ("script",), "expected a script"
        for field, modes in KEY_MODES.items():
            if field in self.model_fields_set and self.mode not in modes:
                yield (to_camel(field),), f"a key of mode {' or '.join(modes)}; the mode here is {self.mode}"

    def _mistakes_of_a_file(self) -> Iterator[tuple[Path, str]]:
        if self.path is None:
            yield ("path",), f"expected the path of the file, because the mode is {self.mode}"
        key = "content" if self.mode == "data" else "expression"
        if not getattr(self, key) and (self.mode == "yq" or self.content is None):
            yield (key,), f"expected the {key} of the file, because the mode is {self.mode}"
        if self.script:
            yield ("script",), f"a file of mode {self.mode} is not run: expected {key}"


class Probe(Strict):
    """A script that must succeed in the guest before the guest counts as ready."""

    mode: Literal["readiness"] = "readiness"
    description: is_.Line = ""
    script: str = ""
    """Begins with a `#!` line; run by the guest's user."""
    file: Any = None
    """Path or URL of the script; or `{url, digest}`."""
    hint: str = ""
    """Shown when the probe fails."""

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        if "file" in self.model_fields_set:
            yield ("file",), "expected the script itself or a file, not both"
        if not self.script.startswith("#!"):
            yield ("script",), "expected a script that begins with a #! line"


Range = Annotated[
    tuple[Annotated[StrictInt, Field(ge=1, le=65535)], Annotated[StrictInt, Field(ge=1, le=65535)]],
    WithJsonSchema(
        {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}, "minItems": 2, "maxItems": 2}
    ),
]


class PortForward(Strict):
    """A port or socket of the guest that the host can connect to, or the reverse."""

    guest_ip: is_.Address | None = Field(None, alias="guestIP")
    """Null: the guest's loopback."""
    guest_ip_must_be_zero: StrictBool | None = Field(None, alias="guestIPMustBeZero")
    """True: not for programs that listen on the guest's loopback only; false: for those too."""
    guest_port: is_.Port = 0
    guest_port_range: Range | None = None
    guest_socket: is_.GuestPath | None = None
    host_ip: is_.Address = Field("127.0.0.1", alias="hostIP")
    host_port: is_.Port = 0
    host_port_range: Range | None = None
    host_socket: str | None = None
    """A relative path starts in the folder `sock` of the instance's directory."""
    proto: Literal["tcp", "udp", "any"] = "any"
    reverse: StrictBool = False
    """True: the guest connects and the host answers; sockets only."""
    ignore: StrictBool = False
    """True: nothing is forwarded, not even by later rules."""
    static: StrictBool = False

    @property
    def guest_address(self) -> str:
        """The address in the guest. `0.0.0.0` is its own, which programs that listen on loopback alone do not serve."""
        matched = self.guest_ip_matched
        return LOOPBACK if matched == ANY_ADDRESS and not self.exact else matched

    @property
    def guest_ip_matched(self) -> str:
        """The address that a program in the guest listens on, for a rule about ports that open."""
        return self.guest_ip or (ANY_ADDRESS if self.guest_ip_must_be_zero else LOOPBACK)

    @property
    def exact(self) -> bool:
        """False if a `guest_ip_matched` of `0.0.0.0` means any address; without guestIPMustBeZero it means itself."""
        zero = self.guest_ip_matched == ANY_ADDRESS
        return zero if self.guest_ip_must_be_zero is None else self.guest_ip_must_be_zero

    @property
    def guest_ports(self) -> tuple[int, int]:
        """First and last port in the guest; (1, 65535) by default."""
        return self.guest_port_range or ((self.guest_port, self.guest_port) if self.guest_port else (1, 65535))

    @property
    def host_ports(self) -> tuple[int, int]:
        """First and last port on the host; by default the guest's."""
        return self.host_port_range or ((self.host_port, self.host_port) if self.host_port else self.guest_ports)

    @property
    def of_many_ports(self) -> bool:
        """True for a rule of so many ports that only those that open in the guest are forwarded."""
        first, last = self.guest_ports
        return not (self.ignore or self.guest_socket) and last - first >= MANY_PORTS

    @property
    def unwatched(self) -> str | None:
        """In words, what is not supported yet for a rule of many ports; None if the rule asks for no such thing."""
        kind = "a static forward" if self.static else "a UDP forward" if self.proto == "udp" else None
        return (
            f"not supported yet: {kind} of more than {MANY_PORTS} ports; name only those that you need"
            if self.of_many_ports and kind
            else None
        )

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        for end, port, ports, socket in (
            ("guest", self.guest_port, self.guest_port_range, self.guest_socket),
            ("host", self.host_port, self.host_port_range, self.host_socket),
        ):
            if socket and (port or ports):
                yield (f"{end}Socket",), f"expected a port or a socket at the {end}'s end, not both"
            if port and ports and ports[0] != port:
                yield (f"{end}Port",), f"expected the first port of {end}PortRange, or no value"
            if ports and ports[0] > ports[1]:
                yield (f"{end}PortRange",), "expected the smaller port first"
        yield from self._lengths()
        if self.guest_ip_must_be_zero and self.guest_ip not in (None, ANY_ADDRESS):
            yield ("guestIPMustBeZero",), "expected a guestIP of 0.0.0.0, or no guestIP"
        if self.reverse and not (self.guest_socket and self.host_socket):
            yield ("reverse",), "expected sockets at both ends"
        if self.host_socket and len(self.host_socket.encode()) > SOCKET_BYTES:
            yield ("hostSocket",), f"expected at most {SOCKET_BYTES} bytes"

    def _lengths(self) -> Iterator[tuple[Path, str]]:
        (first, last), (host_first, host_last) = self.guest_ports, self.host_ports
        if self.guest_socket and self.host_socket:
            return
        if self.guest_socket and not (self.host_port or (self.host_port_range and host_first == host_last)):
            yield ("guestSocket",), "expected one hostPort or a hostSocket that leads to it"
        elif self.host_socket and first != last:
            yield ("hostSocket",), "expected one guestPort or a guestSocket for it to lead to"
        elif not self.guest_socket and not self.host_socket and last - first != host_last - host_first:
            yield (
                ("hostPortRange",) if self.host_port_range else ("hostPort",),
                (f"expected as many ports as at the guest's end: {last - first + 1}"),
            )


class CopyToHost(Strict):
    """A file to fetch from the guest once it is ready."""

    guest: is_.GuestPath
    host: is_.GuestPath
    skip_if_missing: StrictBool = False
    delete_on_stop: StrictBool = False
    max_size: is_.FileSize = 1 << 30
    """A larger file is not copied. Interlock's own."""


class Network(Strict):
    """What the guest can reach over its network. Interlock's own."""

    host: StrictBool = True
    """False: no service of the host; true: all, even those that listen on the host's loopback only."""
    internet: StrictBool = True


class Peers(Strict):
    """A network that the guest is on, in addition to the one that leads to the host."""

    lima: str | None = None
    """`user-v2`: shared with the guests of the home's other instances."""
    socket: str | None = None
    vz_nat: StrictBool | None = Field(None, alias="vzNAT")
    mac_address: str | None = None
    interface: is_.Interface = "lima0"
    """The name of the network card in the guest."""
    metric: int | None = None

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        if not (self.lima or self.socket or self.vz_nat):
            yield ("lima",), "expected user-v2"


class HostResolver(Strict):
    """How the guest resolves names."""

    enabled: StrictBool = True
    """False: with the servers in `dns`."""
    ipv6: StrictBool = False
    hosts: dict[is_.HostName, is_.Target] = Field(default_factory=dict)
    """Name → address, or another name that has an address."""


class CaCerts(Strict):
    """Certificates that the guest trusts."""

    remove_defaults: StrictBool = False
    files: tuple[str, ...] = ()
    """Paths on the host, read when the instance is created."""
    certs: tuple[is_.Certificate, ...] = ()


class User(Strict):
    """Who logs in."""

    name: is_.Login | None = None
    """Null: the user who creates the instance."""
    comment: is_.Comment | None = None
    """Full name."""
    home: is_.GuestPath | None = None
    shell: is_.GuestPath = "/bin/bash"
    uid: Annotated[StrictInt, Field(ge=0, lt=1 << 32)] | None = None
    passwordless_sudo: StrictBool = True


class QemuOptions(Strict):
    """Options for QEMU."""

    minimum_version: is_.Version | None = None
    cpu_type: dict[is_.AnyArch, is_.Line] = Field(default_factory=dict)
    """Architecture → model of the processor, as in QEMU's -cpu."""


class VmOptions(Strict):
    """Options for each kind of hypervisor."""

    qemu: QemuOptions = QemuOptions()
    vz: Any = None
    wsl2: Any = None
    krunkit: Any = None


class Containerd(Strict):
    """A container engine, installed from the packages of the guest's distribution or from an archive."""

    system: StrictBool = False
    """True: it runs as root."""
    user: StrictBool = False
    """True: it runs as the guest's user."""
    archives: tuple[File, ...] = ()
    """URLs of nerdctl's own archive, with all that it needs; the first for the machine's architecture is used."""

    @property
    def asked(self) -> bool:
        """True if the engine is to be installed."""
        return self.system or self.user

    def archive(self, arch: str) -> File | None:
        """Return the archive for a machine of `arch`; None if there is no such archive."""
        return next((it for it in self.archives if it.arch in (arch, None)), None)

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        for number, archive in enumerate(self.archives if self.asked else ()):
            if not archive.location.startswith(("http:", "https:")):
                yield ("archives", number, "location"), "expected a URL (http, https): the guest itself fetches it"
