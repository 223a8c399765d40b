"""Real samples in: files of other systems, mapped to the contract and laid on the 5-minute grid."""
