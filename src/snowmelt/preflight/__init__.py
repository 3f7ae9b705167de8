"""What is found out before anything moves."""
