"""Tables that describe a study; no verdict depends on them."""
