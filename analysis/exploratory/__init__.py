"""Tables that describe and carry no verdict."""
