"""The nouns of the supervisor: frozen values without behaviour, shared by every other part."""
