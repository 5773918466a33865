"""`make bench-path`: a low-risk change through schemaseal beside the registry called directly, in one run.

Printed, not asserted. What it costs is the way: two looks at the registry before, one after, three topics.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from rich.console import Console

from schemaseal.devstack.demo import figures_table, memory_rows
from schemaseal.devstack.deployment import free_ports
from schemaseal.devstack.figures import memory_table, path_figures
from schemaseal.devstack.story import running_stack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="the first one warms everything up")
    options = parser.parse_args()
    console = Console(highlight=False)
    data = Path(tempfile.mkdtemp(prefix="schemaseal-bench-"))
    try:
        with running_stack(data, free_ports()) as stack:
            for number in range(options.rounds):
                figures = path_figures(stack, options.changes, mark=f"{number}-")
                console.print(f"round {number + 1}", figures_table(figures, options.changes))
            console.print(memory_rows(memory_table(stack)))
    finally:
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
