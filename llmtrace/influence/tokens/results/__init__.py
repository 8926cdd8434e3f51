"""The nouns of token methods: token by token, by span, as a graph."""
