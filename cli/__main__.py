"""`python -m soul_lightning.cli`."""

import sys

from soul_lightning.cli.main import main

sys.exit(main())
