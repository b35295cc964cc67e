"""`python -m recipes.language`."""

from . import main

main()
