"""The same training as one compiled JAX program per pass over the photographs, for one GPU."""
