"""Pictures: pure functions of arrays that return a Figure."""
