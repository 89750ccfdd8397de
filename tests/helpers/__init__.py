"""What the tests share: cases, oracles, and where things lie."""
