"""GraphQL as a protocol, over HTTP and WebSocket; knows no domain."""
