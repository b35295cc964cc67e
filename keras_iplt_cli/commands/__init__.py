"""A module per command: its options, and what can be judged of them without Keras."""
