"""The commands about templates. Apart from these, only `create` and `up` read templates."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InterlockError, InvalidTemplateError, UsageError
from .options import Group, Named, format_option, json_option, pass_session
from .session import Session
from .stdout import Format, print_record, print_records, print_schema
from .terminal import printable

if TYPE_CHECKING:
    from ..templates.load import Loaded

set_option = click.option("--set", "edits", multiple=True, metavar="KEY=VALUE", help="Change a value; may be repeated.")


@click.group("template", cls=Group)
def template_command() -> None:
    """List, show, check and copy templates.

    A TEMPLATE is a built-in's name, a path, a URL (http, https, file), or - for standard input.

    \b
    interlock template list
    interlock template copy debian my-debian.yaml
    """


@template_command.command("list")
@format_option
@pass_session
def list_command(session: Session, output_format: Format) -> None:
    """List the built-in templates.

    \b
    interlock template list
    """
    print_records(
        ({"name": name, "summary": summary} for name, summary in session.interlock.templates.list().items()),
        output_format,
        (("NAME", lambda record: record["name"]), ("SUMMARY", lambda record: record["summary"])),
    )


@template_command.command("show")
@click.argument("template", type=Named("template"))
@json_option
@pass_session
def show_command(session: Session, template: str) -> None:
    """Print the text of TEMPLATE as it is, and report its mistakes.

    \b
    interlock template show docker
    """
    templates = session.interlock.templates
    source = templates.find(template)
    if session.as_json:
        print_record({"about": template, "text": source.text.decode(errors="replace")}, "json")
    else:
        _print_text(source.text)
    _note(session, templates.parse(source))


@template_command.command("validate")
@click.argument("templates", type=Named("template"), metavar="TEMPLATE...", nargs=-1, required=True)
@set_option
@format_option
@pass_session
def validate_command(
    session: Session, templates: tuple[str, ...], edits: tuple[str, ...], output_format: Format
) -> None:
    """Check each TEMPLATE, with its bases, as `create` would; the exit code is 2 if one has mistakes.

    Notes say what is ignored here, and what an instance could reach on this host.

    \b
    interlock template validate web.yaml
    interlock template validate web.yaml --set cpus=8
    """
    records = [_record(session, template, edits) for template in templates]
    print_records(
        records,
        output_format,
        (("TEMPLATE", lambda record: record["template"]), ("RESULT", lambda record: record["result"])),
    )
    for record in records:
        for note in record["notes"]:
            session.note(note)
    mistakes = [mistake for record in records for mistake in record["mistakes"]]
    if mistakes:
        wrong = sum(bool(record["mistakes"]) for record in records)
        raise InvalidTemplateError(f"{wrong} of {len(records)} templates cannot be used", details=mistakes)


@template_command.command("copy")
@click.argument("template", type=Named("template"))
@click.argument("file", type=Named("file"), metavar="FILE")
@click.option("--embed", is_flag=True, help="Write a single self-contained file, with its bases and scripts.")
@set_option
@json_option
@pass_session
def copy_command(session: Session, template: str, file: str, embed: bool, edits: tuple[str, ...]) -> None:
    """Check TEMPLATE, then copy it into the new FILE, or to standard output if FILE is -.

    With --embed, comments are lost.

    \b
    interlock template copy docker my-docker.yaml
    interlock template copy --embed https://example.org/web.yaml web.yaml
    """
    if edits and not embed:
        raise UsageError("--set needs --embed")
    text = _copy(session, template, edits, embed=embed)
    if file != "-":
        _write_new(file, text)
    if session.as_json:
        copied = {"text": text.decode(errors="replace")} if file == "-" else {}
        print_record({"template": template, "file": file, **copied}, "json")
    elif file == "-":
        _print_text(text)


def _write_new(file: str, text: bytes) -> None:
    try:
        with Path(file).open("xb") as target:
            target.write(text)
    except FileExistsError as error:
        raise UsageError(f"{file} already exists") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}") from error


@template_command.command("schema")
@json_option
@pass_session
def schema_command(session: Session) -> None:
    """Print the JSON Schema of templates, with which an editor completes and checks them.

    \b
    interlock template schema > template.schema.json
    """
    print_schema(session.interlock.templates.schema(), as_json=session.as_json)


def _copy(session: Session, template: str, edits: tuple[str, ...], *, embed: bool) -> bytes:
    """Return the text of `template` as it is, or with `embed`, a text that needs no other file."""
    templates = session.interlock.templates
    source = templates.find(template)
    loaded = templates.parse(source, edits)
    _note(session, loaded)
    return templates.dump(loaded).encode() if embed else source.text


def _note(session: Session, loaded: "Loaded") -> None:
    for note in loaded.notes:
        session.note(note)


def _print_text(text: bytes) -> None:
    """Print `text` to its last byte, except control characters on a terminal."""
    if sys.stdout.isatty():
        click.echo(printable(text.decode(errors="replace")), nl=False)
    else:
        click.echo(text, nl=False)


def _record(session: Session, template: str, edits: tuple[str, ...]) -> dict[str, Any]:
    notes: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()
    known = session.interlock.templates
    try:
        notes = known.validate(template, edits)
    except InterlockError as error:
        mistakes = error.details or (error.message,)
    result = "ok" if not mistakes else "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return {"template": template, "result": result, "notes": list(notes), "mistakes": list(mistakes)}
