"""What replicas share through Redis, and the scripts that make each change in one step."""
