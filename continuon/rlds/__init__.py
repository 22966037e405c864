"""Episodes: recorded without loss, judged by what they hold, in everyone's format."""
