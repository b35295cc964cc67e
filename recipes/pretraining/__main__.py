"""`python -m recipes.pretraining`."""

from . import main

main()
