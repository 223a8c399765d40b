"""Prediction without PyTorch's operations: a C++ kernel compiled for a network's sizes on the machine that runs it."""
