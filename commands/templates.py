"""The commands about templates. No other command but `create` and `up` reads one."""

import click

from ..output import Format, format_option, print_records


@click.group("template")
def template_command() -> None:
    """List and show templates."""


@template_command.command("list")
@format_option
def list_command(output_format: Format) -> None:
    """List the built-in templates."""
    from ..templates.load import builtin_names, find, summary

    print_records(
        ({"name": name, "summary": summary(find(name))} for name in builtin_names()),
        output_format,
        (("NAME", lambda record: record["name"]), ("SUMMARY", lambda record: record["summary"])),
    )


@template_command.command("show")
@click.argument("template")
def show_command(template: str) -> None:
    """Print the text of TEMPLATE: a built-in's name, a path, or - for standard input. It is checked first."""
    from ..templates.load import find, parse

    source = find(template)
    parse(source)
    click.echo(source.text, nl=False)
