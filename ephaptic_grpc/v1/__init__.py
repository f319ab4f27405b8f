"""The generated messages; scripts/protos makes them."""
