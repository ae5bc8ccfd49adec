"""What the agent can execute: each module turns a run spec into a container plan, and reads what came of it."""
