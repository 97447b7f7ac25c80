"""From a study to a loss, an ε and a learning rate for a training loop of one's own."""
