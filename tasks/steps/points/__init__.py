"""Points reversed by redemption and customer identifier (R35), and what keeps that from a customer for a while.

finding.py     who is meant: by Shopify's number, or by an address or telephone number
reversing.py   the reversal: decided under the locks of everything it touches, booked by `tasks/steps/reversals.py`
locks.py       customers for whom nothing is reversed by hand (904)
"""
