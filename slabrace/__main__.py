"""The command `slabrace`, with its own modules whatever else the directory or PYTHONPATH has under their names."""

from __future__ import annotations

import sys

from slabrace.names import claim


def main() -> int:
    """Run the command line; return the exit code."""
    claim()
    from explorer.__main__ import main as run_command  # noqa: PLC0415 -- the names have to be claimed before

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
