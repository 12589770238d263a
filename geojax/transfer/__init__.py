"""Transfer: what an encoder's features are worth on tasks with few labels."""
