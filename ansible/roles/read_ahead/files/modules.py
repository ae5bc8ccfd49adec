"""Prints the files that the agent's Python reads until the workload's container runs, a line each."""

import importlib
import sys

for name in ("agent.__main__", "agent.workloads.nextflow", "docker"):
    importlib.import_module(name)
files = {
    getattr(module, "__cached__", None) or getattr(module, "__file__", None)
    for module in sys.modules.values()
}
print("\n".join(sorted(path for path in files if path)))
