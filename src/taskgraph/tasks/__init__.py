"""What you do: tasks, their pages, their changes."""
