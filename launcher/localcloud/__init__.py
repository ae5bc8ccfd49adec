"""The embedded default: AWS on this machine, so that a person without an account runs the same commands."""
