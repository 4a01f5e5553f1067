"""Files and pipes that output goes to."""
