"""Training a model on SENTINEL's tasks with TRL; needs the `train` extra. Nothing heavy is imported until it is used."""
