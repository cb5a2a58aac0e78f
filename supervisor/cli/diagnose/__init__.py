"""`diagnose`: facts are gathered, checks make findings of them, and a bundle takes them to a bug report."""
