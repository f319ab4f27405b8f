"""What a call costs, compared with a grpc.aio server and client that are written by hand."""
