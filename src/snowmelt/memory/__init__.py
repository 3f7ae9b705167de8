"""One budget for the bytes that a process holds on their way from source to target."""
