"""Matrix products: tiles, their epilogues, tensor cores, narrow networks in one launch."""
