"""The run-agent: starts at boot, executes one run, and shuts the machine down, whatever happens."""
