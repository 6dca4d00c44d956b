"""Patterns that are compiled at their first use: all of them at once would be a tenth of what the import takes."""

import re
from functools import lru_cache

__all__ = ["compiled"]

compiled = lru_cache(maxsize=None)(re.compile)
