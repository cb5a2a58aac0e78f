"""systemd: the units that it is given, and the bus on which it is asked."""
