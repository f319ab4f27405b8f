"""Text from services: pure functions. The command line writes it."""
