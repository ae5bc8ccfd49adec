"""Looking at the machine: each function asks one thing, and may hang or raise."""
