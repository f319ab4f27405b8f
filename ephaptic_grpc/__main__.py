"""``python -m ephaptic_grpc`` is the command ``ephaptic-grpc``."""

from ephaptic_grpc.cli import main

main()
