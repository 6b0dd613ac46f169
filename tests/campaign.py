"""The campaign of kills and of damaged files, `make campaign`: the same tests with larger numbers, and their outcome.

The variables below, where they are set already, keep their values.
"""

import os
import sys
from pathlib import Path

import pytest

from gadam.paper.report.paths import reports_root

SIZES = {"GADAM_KILLS": "50", "GADAM_DAMAGED": "1000"}
HERE = Path(__file__).parent / "evolution"


def main():
    os.environ.update({name: os.environ.get(name, size) for name, size in SIZES.items()})
    chosen = [str(HERE / name) for name in ("test_killed.py", "test_damaged.py")]
    return pytest.main([*chosen, "-v", f"--junitxml={reports_root() / 'campaign' / 'campaign.xml'}", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
