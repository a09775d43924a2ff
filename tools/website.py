"""A hook for MkDocs that adds the pages and files outside docs/ to which the pages link.

    README.md, SKILL.md, ...     pages; README.md is the first
    a picture                    source/PATH
    any other file               source/PATH.md, a page that shows it

So every link in the sources works on the site without another server. Source: MkDocs, "Hooks".
"""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()([^()\s:#]+)((?:#[^()\s]*)?\))")
PICTURES = {".svg", ".png"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages at the top of the repository, and each file outside docs/ that a page links to."""
    for page in sorted(ROOT.glob("*.md")):
        files.append(File.generated(config, page.name, abs_src_path=str(page)))
    for page in list(files.documentation_pages()):
        for _, link, _ in LINK.findall(page.content_string):
            target = _target(page, link)
            if _on_site(target) != target and files.get_file_from_path(_on_site(target)) is None:
                files.append(_file(target, config))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point the links of `page` to the places of their targets on the site."""

    def moved(link: re.Match[str]) -> str:
        place = _on_site(_target(page.file, link[2]))
        return f"{link[1]}{os.path.relpath(place, PurePosixPath(page.file.src_uri).parent)}{link[3]}"

    return LINK.sub(moved, markdown)


def _target(page: File, link: str) -> str:
    """Return the path in the repository that `link` of `page` leads to."""
    return os.path.relpath((Path(str(page.abs_src_path)).parent / link).resolve(), ROOT)


def _on_site(path: str) -> str:
    """Return where the file `path` of the repository is among the site's sources."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.endswith(".md") and "/" not in path:
        return path
    return f"source/{path}" if Path(path).suffix in PICTURES else f"source/{path}.md"


def _file(path: str, config: MkDocsConfig) -> File:
    """Return the file `path` of the repository as one of the site's."""
    if Path(path).suffix in PICTURES:
        return File.generated(config, _on_site(path), abs_src_path=str(ROOT / path))
    language = {".py": "python", ".pml": "c"}.get(Path(path).suffix, "text")
    shown = (ROOT / path).read_text(encoding="utf-8")
    return File.generated(config, _on_site(path), content=f"# {path}\n\n````{language}\n{shown}````\n")
