"""The refund rules R0-R40: pure functions over facts. Standard library only; nothing here knows where facts came from."""
