"""Others' recordings as episodes: told by content, every loss named."""
