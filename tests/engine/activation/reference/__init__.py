"""The rules of activation, slow and obvious: they share no code with the engine but the model's dataclasses."""
