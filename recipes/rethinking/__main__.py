"""`python -m recipes.rethinking`."""

from . import main

main()
