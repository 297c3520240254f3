"""A self-hosted GraphQL API server for task management."""
