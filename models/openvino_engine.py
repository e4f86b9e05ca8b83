"""The captioner on OpenVINO: CPU executors; never imports Keras or TensorFlow."""
