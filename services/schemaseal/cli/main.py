"""The root of the command line."""

from __future__ import annotations

import typer

from schemaseal.cli import audit, change, stack, verify

app = typer.Typer(
    name="schemaseal",
    help="An identity-aware gateway for JSON Schema changes, whose evidence nobody can rewrite.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(change.app, name="change")
app.add_typer(audit.app, name="audit")
app.command("verify")(verify.verify)
app.command("up")(stack.up)
app.command("token")(stack.token)
app.command("topics")(stack.topics)
app.command("genesis")(stack.genesis)


def main() -> None:
    """Entry point of the `schemaseal` script."""
    app()


if __name__ == "__main__":
    main()
