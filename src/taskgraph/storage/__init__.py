"""MongoDB and Redis; knows no GraphQL and no domain."""
