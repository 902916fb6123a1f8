"""Files made from an answer: code to launch it."""
