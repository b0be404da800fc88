"""`python -m tests.simulation.table`: every mutant, the invariant that catches it, and the seeds needed.

Exit code 1 when a mutant survives.
"""

from __future__ import annotations

import multiprocessing
import os
import sys

from tests.simulation.planting import Caught, Mutant, hunt, mutants

SEEDS = 1000


def _row(mutant: Mutant) -> tuple[Mutant, Caught | None]:
    return mutant, hunt(mutant, range(SEEDS))


def main() -> int:
    survivors = 0
    sys.stdout.write("| planted bug | caught by | seeds needed |\n|---|---|---|\n")
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for mutant, caught in pool.imap(_row, mutants()):
            survivors += caught is None
            told = f"{caught.invariant} | {caught.seed + 1}" if caught else f"nobody | over {SEEDS}"
            sys.stdout.write(f"| {mutant.name.replace('_', ' ')} | {told} |\n")
            sys.stdout.flush()
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
