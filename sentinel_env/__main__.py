"""`python -m sentinel_env`: the `sentinel` command where it is not on the path."""

from .cli import main

main()
