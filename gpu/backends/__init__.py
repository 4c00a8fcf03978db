"""Which library and precision run a model fastest on this machine, without changing its results."""
