"""The command `slabrace`, which always imports its own modules, whatever the directory or PYTHONPATH contains."""

from __future__ import annotations

import sys

from slabrace.names import claim


def main() -> int:
    """Run the command line; return the exit code."""
    claim()
    from explorer.__main__ import main as run_command  # noqa: PLC0415 -- claim() has to come first

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
