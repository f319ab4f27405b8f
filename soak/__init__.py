"""What takes long: faults in great number, load for minutes, streams by the thousand. scripts/soak runs it."""
