"""`python -m speclab` is the command `speclab`."""

from speclab.cli import main

main()
