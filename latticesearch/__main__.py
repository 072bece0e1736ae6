"""``python -m latticesearch`` is the command line."""

from __future__ import annotations

import sys

from latticesearch.cli import main

sys.exit(main())
