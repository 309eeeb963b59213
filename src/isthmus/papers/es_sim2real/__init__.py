"""ES-sim2real: meta-learning by evolution strategies, adaptation by a few updates in the target."""
