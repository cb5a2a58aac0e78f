"""What is read of the machine, each family in a module of its own; what cannot be read is Missing."""
