"""Shopify from our side: the GraphQL documents we send, the one module that opens connections, the budget of calls."""
