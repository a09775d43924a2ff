"""What a template may say: the schema, as pydantic models.

The keys are those of Lima's YAML format for Linux guests, so that existing templates work; `boot`, `network`,
`warm`, `restart`, `once` of provision, `maxSize` of copyToHost and the location `build:NAME` are ours. An unknown key
is a mistake, never ignored. Keys that are known but not supported, or do not apply, are listed in support.py. A
key whose value is null counts as not given, and is removed before it gets here.
Source: Lima, pkg/limatype/lima_yaml.go and pkg/limayaml/validate.go.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, WithJsonSchema

from . import values as is_
from .parts import (
    AdditionalDisk,
    Audio,
    CaCerts,
    Containerd,
    CopyToHost,
    Firmware,
    HostResolver,
    ImageSource,
    Mount,
    Network,
    Path,
    Peers,
    PortForward,
    Probe,
    Provision,
    Ssh,
    Strict,
    User,
    Video,
    VmOptions,
)

Restart = Literal["never", "on-failure"]


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _some(value: Any) -> Any:
    if value == []:
        raise ValueError("expected at least one image")
    return value


class Template(Strict):
    """A template with its bases merged, before anything is filled in from this host."""

    base: Annotated[Any, WithJsonSchema({"type": ["string", "object", "array"]})] = None
    """Templates to build on: a locator, `{url, digest}`, or a list of them. A base fills what the template lacks."""
    minimum_lima_version: is_.Version | None = None
    vm_type: Annotated[str | None, is_.BLANK] = None
    vm_opts: VmOptions = VmOptions()
    os: Annotated[Literal["Linux", "Darwin", "FreeBSD", "Windows"] | None, is_.BLANK] = None
    os_opts: Any = None
    arch: Annotated[is_.AnyArch | None, is_.BLANK] = None
    """Null: this host's."""
    images: Annotated[tuple[ImageSource, ...], BeforeValidator(_some), Field(json_schema_extra={"minItems": 1})]
    """The first that fits is used."""
    boot: Literal["kernel", "firmware", "bios"] | None = None
    """Which of the image's ways to boot; null: its fastest. Interlock's own."""
    warm: Literal["auto", "never", "always"] = "auto"
    """Whether the first start begins from a warm image of this size (`image warm`). `auto`: if there is one; `never`:
    not at all; `always`: without one the creation is refused. Interlock's own."""
    restart: Restart = "never"
    """`on-failure`: the machine is started again when its guest panicked or its hypervisor crashed. Interlock's own."""
    cpu_type: dict[is_.AnyArch, is_.Line] = Field(default_factory=dict)
    cpus: is_.Cpus | None = None
    memory: Annotated[is_.Memory | None, is_.BLANK] = None
    disk: Annotated[is_.DiskSize | None, is_.BLANK] = None
    additional_disks: tuple[
        Annotated[AdditionalDisk, BeforeValidator(_named, json_schema_input_type=AdditionalDisk | is_.DiskName)], ...
    ] = ()
    """Names of disks, or mappings that say more."""
    mounts: tuple[Mount, ...] = ()
    mount_types_unsupported: tuple[str, ...] = ()
    """Mount types that the image's kernel lacks."""
    mount_type: Annotated[Literal["9p", "virtiofs", "reverse-sshfs", "wsl2"] | None, is_.BLANK] = None
    mount_inotify: StrictBool = False
    ssh: Ssh = Ssh()
    firmware: Firmware = Firmware()
    audio: Audio = Audio()
    video: Video = Video()
    provision: tuple[Provision, ...] = ()
    upgrade_packages: StrictBool = False
    containerd: Containerd = Containerd()
    guest_install_prefix: str | None = None
    probes: tuple[Probe, ...] = ()
    port_forwards: tuple[PortForward, ...] = ()
    """The first that matches a port counts."""
    copy_to_host: tuple[CopyToHost, ...] = ()
    message: str = ""
    """Shown to the user after a start."""
    networks: tuple[Peers, ...] = ()
    """At most one network, with the guests of other instances."""
    network: Network = Network()
    env: dict[is_.VariableName, is_.AnyLine] = Field(default_factory=dict)
    """Environment of every login in the guest."""
    param: dict[is_.ParamName, is_.AnyLine] = Field(default_factory=dict)
    """Variables that the template declares: `{{.Param.NAME}}`, and `PARAM_NAME` in the environment of scripts."""
    dns: tuple[is_.Address, ...] = ()
    host_resolver: HostResolver = HostResolver()
    use_host_resolver: Any = None
    propagate_proxy_env: StrictBool = True
    """The guest uses the host's proxies, as the environment names them."""
    ca_certs: CaCerts = CaCerts()
    rosetta: Any = None
    plain: StrictBool = False
    """True: as little as possible; no mounts, only static forwards."""
    timezone: is_.Zone | None = None
    """Null: this host's; empty: the guest's own."""
    nested_virtualization: StrictBool = False
    user: User = User()
    tpm: StrictBool = False

    @property
    def mount_kind(self) -> Literal["9p", "virtiofs"]:
        """How folders are shared: as the template says, else by 9p, or virtiofs if the image's kernel lacks 9p."""
        if self.mount_type in ("9p", "virtiofs"):
            return self.mount_type
        return "virtiofs" if "9p" in self.mount_types_unsupported else "9p"

    def boot_way(self, arch: str) -> Literal["kernel", "firmware", "bios"] | None:
        """Return how a machine of `arch` boots; None: in the image's fastest way. Only x86_64 has a BIOS."""
        return self.boot or ("bios" if self.firmware.legacy_bios and arch == "x86_64" else None)

    def cpu_model(self, arch: str) -> str:
        """Return the model of the processor for machines of `arch`; "" for the best available."""
        models = (*self.vm_opts.qemu.cpu_type.items(), *self.cpu_type.items())
        return next((model for name, model in models if name == arch), "")

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        if self.dns and self.host_resolver.enabled:
            yield ("dns",), "only with hostResolver.enabled: false; otherwise the host resolves names"
        if self.boot not in (None, "bios") and self.firmware.legacy_bios:
            yield ("boot",), f"expected bios, or no firmware.legacyBIOS, found {self.boot!r}"
        if self.mounts and not self.plain and self.mount_kind in self.mount_types_unsupported:
            if {"9p", "virtiofs"} <= {*self.mount_types_unsupported}:
                yield ("mountTypesUnsupported",), "only mounts by 9p and virtiofs are supported"
            else:
                yield ("mountType",), f"the image's kernel lacks {self.mount_kind}, as mountTypesUnsupported says"
        if len(self.networks) > 1:
            yield ("networks", 1), "expected at most one network: user-v2 is always the same network"
        if self.nested_virtualization and (self.cpu_type or self.vm_opts.qemu.cpu_type):
            yield ("nestedVirtualization",), "expected no cpuType: this key chooses the processor model"
        if not self.user.passwordless_sudo and not self.plain:
            yield ("user", "passwordlessSudo"), "not supported yet without plain: true"


class Editable(Strict):
    """The keys of a template that can be changed later, with the values that a template may have. Null: unchanged."""

    cpus: is_.Cpus | None = None
    memory: Annotated[is_.Memory | None, is_.BLANK] = None
    disk: Annotated[is_.DiskSize | None, is_.BLANK] = None
    restart: Restart | None = None
    mounts: tuple[Mount, ...] | None = None
    port_forwards: tuple[PortForward, ...] | None = None

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        points: set[str] = set()
        for number, mount in enumerate(self.mounts or ()):
            for key, path in (("location", mount.location), ("mountPoint", mount.mount_point or "")):
                if "{{" in path:
                    yield ("mounts", number, key), "expected a path without variables"
            if (point := mount.mount_point or mount.location) in points:
                yield ("mounts", number), f"{point} is already mounted above"
            points.add(point)
        for number, forward in enumerate(self.port_forwards or ()):
            for key, socket in (("guestSocket", forward.guest_socket), ("hostSocket", forward.host_socket)):
                if socket and ("{{" in socket or not socket.startswith("/")):
                    yield ("portForwards", number, key), "expected an absolute path without variables"
            if forward.unwatched:
                yield ("portForwards", number), forward.unwatched


class Wished(BaseModel):
    """What `Wishes` may hold: the values that a template may have."""

    arch: str | None
    """The driver decides which are possible."""
    cpus: is_.Cpus | None
    memory_bytes: is_.Memory | None
    disk_bytes: is_.DiskSize | None
    user: is_.Login | None
    start_timeout_s: is_.Seconds | None
    stop_timeout_s: is_.Seconds | None


SECRET = ("env", "param")
"""Keys whose values may be secret: no message shows them."""


def known_keys(path: Path, model: type[BaseModel] = Template) -> list[str]:
    """Return the keys that the mapping at `path` of a `model` may have, for suggestions; empty where any key may be."""
    inner: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, str) and inner:
            field = next((field for field in inner.model_fields.values() if field.alias == part), None)
            inner = _model_in(field.annotation) if field else None
    return [str(field.alias) for field in inner.model_fields.values()] if inner else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in `annotation`, also within a tuple, a union or an `Annotated`; None if it has no model."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_model_in(argument) for argument in getattr(annotation, "__args__", ())]
    return next((model for model in inner if model), None)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of templates, for editors: every key, with descriptions, bounds and patterns.

    Wherever a template may say null, it is one more type, not an alternative. So a checker names the key that is wrong
    instead of saying that no alternative fits. What depends on bases, variables or other keys is not checked.
    """
    schema: dict[str, Any] = Template.model_json_schema(by_alias=True)
    parts: dict[str, dict[str, Any]] = schema["$defs"]
    for part in parts.values():
        part["type"] = ["object", "null"]
    del schema["required"], parts[Mount.__name__]["required"]  # a base may supply what is required
    for part in (schema, *parts.values()):
        keys = part["properties"]
        part["properties"] = {key: _shown(keys[key], parts, null=key not in part.get("required", ())) for key in keys}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _shown(schema: dict[str, Any], parts: dict[str, dict[str, Any]], *, null: bool) -> dict[str, Any]:
    """Return `schema`, which is of one value, without alternatives; with null among its types if `null` is true."""
    shown = {key: value for key, value in schema.items() if key not in ("anyOf", "title")}
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    match sorted(options, key=lambda option: "$ref" not in option):
        case [{"$ref": name}, word]:  # a part that a single word may stand for
            part = parts[name.rsplit("/", 1)[-1]]
            part |= {**word, "type": [*part["type"], word["type"]]}
            shown["$ref"] = name
        case [option]:
            shown |= _shown(option, parts, null=False)
    if names := shown.pop("patternProperties", None):
        ((pattern, shown["additionalProperties"]),) = names.items()
        shown["propertyNames"] = {"pattern": pattern}
    if "items" in shown:
        shown["items"] = _shown(shown["items"], parts, null=False)
    if isinstance(shown.get("additionalProperties"), dict):
        shown["additionalProperties"] = _shown(shown["additionalProperties"], parts, null=True)
    if null and "enum" in shown:
        shown["enum"] = [*shown["enum"], None]
    if null and "type" in shown:
        types = shown["type"] if isinstance(shown["type"], list) else [shown["type"]]
        shown["type"] = list(dict.fromkeys([*types, "null"]))
    return shown
