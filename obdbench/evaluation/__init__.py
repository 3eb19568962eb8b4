"""How a synset is scored."""
