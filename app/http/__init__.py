"""HTTP: what every request and answer has, whichever feature serves it."""
