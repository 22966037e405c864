"""The ten phases: each a module with `ROOMS`, `inputs` and `run`."""
