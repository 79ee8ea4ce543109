"""A pretend Shopify store: a seeded world of orders and refunds, their webhook bodies, a sender and an HTTP server.

records   what the store keeps: orders, items, refunds, transactions, with money that adds up
payloads  the webhook bodies, in the shape of Shopify's 2026-07 REST payloads
store     what merchants and shoppers do: place, pay, refund, cancel, void, edit; each act sends its webhooks
world     a seeded script of such acts, covering every shape of S2-S9
expect    what the refund rules say of the world, worked out on its own from the store's records
sender    delivers webhooks as Shopify does: signed, repeated, delayed, out of order, tried again
server    the store over HTTP
"""
