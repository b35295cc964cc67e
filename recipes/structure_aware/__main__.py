"""`python -m recipes.structure_aware`."""

from . import main

main()
