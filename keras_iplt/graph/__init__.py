"""Reading a model as channels."""
