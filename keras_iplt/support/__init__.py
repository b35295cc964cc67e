"""What any part may need: arguments, files, packages that may be missing."""
