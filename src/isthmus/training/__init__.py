"""The training loop, and what makes a run something that can be stopped, resumed and checked."""
