"""Samples and pulses: the robot's devices behind one protocol each."""
