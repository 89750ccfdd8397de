"""From a configuration to a trained run in its folder: the loop, and all that keeps it safe."""
