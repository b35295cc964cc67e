"""What the recipes share: the command line, runs that are remembered, training, results."""
