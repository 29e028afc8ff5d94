"""`python -m runs` is `learned-rl`."""

import sys

from runs.cli import main

sys.exit(main())
