"""``python -m asgi_llmobs``: the command line."""

import sys

from asgi_llmobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
