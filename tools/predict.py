"""`egopose predict` from a bare checkout, without installing: python tools/predict.py ..."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from egopose.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
