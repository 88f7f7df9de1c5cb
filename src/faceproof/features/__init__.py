"""What is computed from pixels before a network sees them, and the networks themselves."""
