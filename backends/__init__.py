"""Where bytes live: object stores, packs, inline values, TileDB arrays, codecs and the local cache."""
