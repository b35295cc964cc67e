"""`python -m recipes.iplt`."""

from . import main

main()
