"""The template as it is passed to a program that makes and keeps the machine itself, as limactl does.

The text is the whole template with the values of the spec filled in, so the program does not decide them again.
Images that only Interlock builds are refused by name.
"""

import json

from ..errors import InvalidTemplateError
from ..fsm.spec import Spec
from ..host.sizes import exact
from ..images.source import BUILD
from ..templates.load import Loaded, Source, dump, parse
from ..templates.model import Template
from . import resolve


def text(loaded: Loaded, template: Template, spec: Spec) -> bytes:
    """Return the text of `loaded` for the machine `spec`; `template` is `loaded` with its variables replaced.

    Raises InvalidTemplateError for an image that only Interlock builds.
    """
    built = [image.location for image in template.images if image.location.startswith(BUILD)]
    if built:
        raise InvalidTemplateError(
            f'{loaded.name}: driver "{spec.driver}" cannot build the image {built[0]}; use an image with a URL or path',
            hint="interlock template list",
        )
    sizes = {
        "arch": spec.arch,
        "cpus": spec.cpus,
        "memory": exact(spec.memory_bytes),
        "disk": exact(spec.disk_bytes),
        "user.name": spec.user,
    }
    # limactl reads the text from its standard input, so no path can be relative.
    places = {f"images[{n}].location": resolve.place(image.location) for n, image in enumerate(template.images)}
    edits = [f"{key}={json.dumps(value)}" for key, value in {**sizes, **places}.items()]
    return dump(parse(Source(loaded.name, dump(loaded).encode()), edits=edits)).encode()
