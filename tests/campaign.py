"""The whole campaign of kills and of damaged files, and a table of what came out: `make campaign`.

The ordinary test run has a sample of each; the variables below, where they are set already, keep their values.
"""

import os
import sys
from pathlib import Path

import pandas as pd
import pytest

SIZES = {"GADAM_KILLS": "50", "GADAM_DAMAGED": "1000", "GADAM_SLOW": "1"}
HERE = Path(__file__).parent
FILES = ("test_killed.py", "test_damaged.py")
CHOSEN = "test_killed or test_damaged or killed or sends"  # of other files, what the variables make longer
FACTS = ("kills", "files", "from_checkpoint", "identical", "refused")


class Table:
    """Writes a row for each test as it ends, so that what is interrupted leaves what it has.

    What a test counted is in it by `record_property`, under the names in `FACTS`.
    """

    def __init__(self, path):
        # Here, for the processes that a test starts import this file too.
        from gadam.paper.report.machine import cpu_model, git_state, usable_cores

        git = git_state() or {"commit": "unknown", "dirty": False}
        self._path, self._rows = path, []
        self._where = {
            "machine": f"{cpu_model()}, {usable_cores()} cores",
            "commit": git["commit"][:10] + (" and changes" if git["dirty"] else ""),
        }

    def pytest_runtest_logreport(self, report):
        if report.skipped or (report.when != "call" and report.passed):
            return
        from gadam.paper.report.paths import write_atomic
        from gadam.paper.report.tables import to_csv

        facts = dict(report.user_properties)
        row = {"case": report.nodeid.rpartition("/")[2], **{name: facts.get(name) for name in FACTS}}
        self._rows.append(row | {"outcome": report.outcome, "seconds": round(report.duration, 1)} | self._where)
        counts = dict.fromkeys(FACTS, "Int64")
        write_atomic(self._path, to_csv(pd.DataFrame(self._rows).astype(counts)))


def main():
    from gadam.paper.report.paths import reports_root

    for name, value in SIZES.items():
        os.environ.setdefault(name, value)
    table = Table(reports_root() / "campaign" / "campaign.csv")
    return pytest.main([*(str(HERE / name) for name in FILES), "-k", CHOSEN, "-v", *sys.argv[1:]], plugins=[table])


if __name__ == "__main__":
    sys.exit(main())
