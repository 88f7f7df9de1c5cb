"""Print a command of the README: `run` (install and check the examples) or `test` (install and run the tests).

CI and a test run what this prints, so that the README cannot go stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def command(name: str) -> str:
    """Return the shell block after the marker `<!-- command: NAME -->`."""
    found = re.search(rf"<!-- command: {name} -->\s*```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    if not found:
        sys.exit(f"README.md has no command named {name}")
    return found[1].strip()


if __name__ == "__main__":
    print(command(sys.argv[1]))
