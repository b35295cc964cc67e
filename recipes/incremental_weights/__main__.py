"""`python -m recipes.incremental_weights`."""

from . import main

main()
