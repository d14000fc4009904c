"""What every local web page of this package shares."""
