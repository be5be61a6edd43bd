"""`python -m tokpack`, and `torchrun -m tokpack`: the command line."""

from tokpack.cli.app import main

main()
