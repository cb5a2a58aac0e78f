"""The command `gpu-supervisor`: one module for each group of commands, imported when its command is given."""
