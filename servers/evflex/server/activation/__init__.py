"""ActivationService: the ledger of sold flexibility."""
