"""Changes as they happen: over sockets opened by hand and through the clients that people use."""
