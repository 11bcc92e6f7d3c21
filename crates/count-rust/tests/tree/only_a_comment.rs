// No item at all.
