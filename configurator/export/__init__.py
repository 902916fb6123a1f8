"""What leaves the page: papers of a plan, files to start it, price lists."""
