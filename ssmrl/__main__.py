"""`python -m ssmrl` is `ssmrl`."""

import sys

from ssmrl.cli import main

sys.exit(main())
