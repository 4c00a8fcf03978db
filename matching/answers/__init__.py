"""Turn the candidates of a search into an answer: the same, new, or for a person, with probabilities."""
