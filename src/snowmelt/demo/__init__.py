"""The demo: a server, a table worth moving, and the proof that it arrived."""
