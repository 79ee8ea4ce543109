"""A pretend Shopify: seeded stores of orders and refunds, their webhooks, a consent page, an Admin API, over HTTP.

records        what a store keeps: orders, items, refunds, transactions, with money that adds up
codes          its discounts with codes, and what its checkout does with them
payloads       the webhook bodies, in the shape of Shopify's 2026-07 REST payloads
store          what merchants and shoppers do: place, pay, refund, cancel, void, edit; each act sends its webhooks
world          a seeded script of such acts, covering every shape of S2-S9
expect         what the refund rules say of the world, worked out on its own from the store's records
sender         delivers webhooks as Shopify does: signed, repeated, delayed, out of order, tried again
shopfront      a store as its server holds it; server: the stores over HTTP, a page and calls for people
access, oauth  the app as Shopify knows it and the tokens it is given: consent, exchange, rotation
graphql        the Admin API: tokens, scopes, limits, faults; admin.graphql is what it understands
admin_*        its resolvers of orders and discounts; subscriptions, bulk: the same for those
limits, faults what a call costs and what may go wrong with it
"""
