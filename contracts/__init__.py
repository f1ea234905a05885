"""What the console, the edge and the worker promise each other.

Pure data and functions: no IO, no clock, no randomness that is not passed in. Every wire
shape here is frozen by a golden file in tests/contracts/golden/.
"""
