"""What of an instance can be edited: a few keys of its template, read back from its spec and into it.

The text that people edit has the keys, units and rules of a template, and is read by the same code. An instance is more
than its spec: what its image and its guest's seed were made of is decided when it is created.
"""

from pathlib import Path

from ..fsm.port import Change
from ..fsm.spec import Spec
from ..host.sizes import exact
from ..templates.editable import Text
from ..templates.locate import Source, read_file


def text(name: str, spec: Spec) -> str:
    """Return what of the instance `name` can be edited, as YAML."""
    return (
        f"# The instance {name}: changes take effect at the next start. A disk can grow, not shrink.\n"
        f"cpus: {spec.cpus}\n"
        f"memory: {exact(spec.memory_bytes)}\n"
        f"disk: {exact(spec.disk_bytes)}\n"
    )


def change(name: str, file: Path | None, edits: tuple[str, ...]) -> Change:
    """Return the function that applies the text in `file`, if there is one, and then `edits` (`cpus=4`) to a spec.

    It raises InvalidTemplateError with every mistake and its place.
    """

    source = None if file is None else read_file(str(file.absolute()))

    def changed(spec: Spec) -> Spec:
        read = Text(source or Source(f"instance {name}", text(name, spec).encode()), edits)
        asked = read.asked
        if asked.disk is not None and asked.disk < spec.disk_bytes:
            least = exact(spec.disk_bytes)
            read.refuse(
                "disk", f"a disk cannot shrink, as its guest may have written anywhere: expected {least} or more"
            )
        return spec._replace(
            cpus=asked.cpus or spec.cpus,
            memory_bytes=asked.memory or spec.memory_bytes,
            disk_bytes=asked.disk or spec.disk_bytes,
        )

    return changed
