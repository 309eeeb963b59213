"""Physics: engines that step worlds, their parameters, and the random numbers of worlds."""
