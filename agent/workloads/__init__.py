"""What the agent can execute: a module a workload, from run spec to container plan."""
