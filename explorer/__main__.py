"""`python -m explorer` is the command `slabrace`."""

import sys

from explorer.cli import main

sys.exit(main())
