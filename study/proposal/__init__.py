"""A first study file for a data set: what is in the data, and a study that fits it."""
