"""The captioner on Keras: GPU executors, training and the reference for everything else."""
