"""What a party does when it is asked, step by step."""
