"""The command line: `aob`. Each command is a function, imported when it is called; `main` holds what they share."""
