"""What are the right labels, and what else is wrong with the images?"""
