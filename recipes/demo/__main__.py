"""`python -m recipes.demo`."""

from . import main

main()
