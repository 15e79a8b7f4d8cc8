"""What a process keeps for itself: nothing here needs redis-py, a sixth of a cold start."""
