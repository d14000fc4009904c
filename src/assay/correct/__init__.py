"""What are the right labels?"""
