"""The template as it is handed to a program that makes and keeps the machine by itself, as limactl does.

It is the template that was read, whole, with what was decided for its spec: so the program decides none of that again.
What only Interlock can do is refused by name.
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
    """Return the text of `loaded`, whose variables are replaced in `template`, for the machine `spec`.

    Raises InvalidTemplateError for an image that only Interlock builds.
    """
    built = [image.location for image in template.images if image.location.startswith(BUILD)]
    if built:
        raise InvalidTemplateError(
            f'{loaded.name}: driver "{spec.driver}" cannot build the image {built[0]}; name one by its URL or path',
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
