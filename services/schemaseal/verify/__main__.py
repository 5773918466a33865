"""`python -m schemaseal.verify EXPORT`: the verifier for a machine that has nothing else of this package.

Exit code 0: no verdict failed. 1: at least one did. 2: it could not be run as asked.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemaseal.verify.files import silent
from schemaseal.verify.report import render
from schemaseal.verify.verifier import verify_export

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="python -m schemaseal.verify",
        description="Verify an evidence export offline, with public keys only.",
        epilog="Exit code 0: no verdict failed; 1: at least one did; 2: could not be run as asked.",
    )
    arguments.add_argument("export", type=Path, metavar="EXPORT", help="directory of the export")
    arguments.add_argument(
        "--key",
        action="append",
        metavar="VKEY",
        help="the log's verifier key as you pinned it (repeatable); without it the export's own is taken, "
        "which proves only that the export agrees with itself",
    )
    arguments.add_argument("--against", type=Path, metavar="FILE", help="an older checkpoint that you kept")
    arguments.add_argument("--max-age", type=_seconds, metavar="SECONDS", help="how old the last leaf may be")
    arguments.add_argument("--json", action="store_true", help="the report as JSON")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code. argparse itself leaves with 2 for unknown options."""
    options = parser().parse_args(argv)
    try:
        against = None if options.against is None else options.against.read_bytes()
        report = verify_export(
            options.export,
            vkeys=options.key,
            against=against,
            now=datetime.now(UTC),
            max_age=None if options.max_age is None else timedelta(seconds=options.max_age),
            progress=_progress if sys.stderr.isatty() else silent,
        )
    except (OSError, ValueError) as error:
        print(f"cannot verify: {error}", file=sys.stderr)
        return EXIT_USAGE
    text = report.to_json() + "\n" if options.json else render(report)
    sys.stdout.write(text)
    return EXIT_OK if report.ok else EXIT_FAILED


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise argparse.ArgumentTypeError("a whole number of seconds")
    return int(text)


def _progress(step: str, done: int, total: int) -> None:
    end = "\n" if done >= total else ""
    print(f"\r{step}: {100 * done // max(total, 1):3d} %", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
