"""``python -m egopose``."""

import sys

from egopose.cli import main

sys.exit(main())
