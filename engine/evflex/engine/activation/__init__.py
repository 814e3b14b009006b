"""Nobody sells the same flexibility twice: the ledger of commitments, and the check of a batch."""
