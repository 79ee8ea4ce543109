"""What the pages say when something is not as it should be: what happened, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    title: str
    what: str
    remedy: str


ERRORS = {
    "nobody": Words(
        "Who are you?",
        "These pages belong to a store, and nothing here says which one is yours.",
        "Open the app from your store's admin. Whoever runs this server can also type `unwind admin link"
        " your-store.myshopify.com` and open the address that it prints.",
    ),
    "session_ended": Words(
        "This page has to be opened again",
        "Shopify did not confirm who you are, or no longer.",
        "Open the app again from your store's admin. If this happens each time, whoever runs this server should compare"
        " SHOPIFY_API_KEY and SHOPIFY_API_SECRET with the app's, and check the server's clock.",
    ),
    "login_ended": Words(
        "Your login has ended",
        "It was used for long enough, was ended, or belongs to a store that is no longer here.",
        "Type `unwind admin link your-store.myshopify.com` on the server and open the address that it prints.",
    ),
    "link_used": Words(
        "This link leads nowhere any more",
        "Each link logs in once, and within a quarter of an hour.",
        "Type `unwind admin link your-store.myshopify.com` on the server for another one.",
    ),
    "not_installed": Words(
        "The app is not installed in this store",
        "It was removed, or never finished installing.",
        "Open it from the Apps page of your store's admin.",
    ),
    "not_our_form": Words(
        "Nothing was done",
        "This form was not opened here, or its login has ended since.",
        "Go back, reload the page, and try again.",
    ),
    "not_found": Words(
        "There is nothing here",
        "No page has this address, or it names something that this store does not have.",
        "Check the number, or look for it in the lists.",
    ),
    "bad_request": Words(
        "That could not be understood",
        "Something in the address or in the form is missing, or is not as it should be. Nothing was done.",
        "Go back and try again.",
    ),
    "too_large": Words(
        "That was too much at once",
        "What was sent is larger than any form here. Nothing was done.",
        "Go back and send less. Whole files are imported with `unwind import` on the server.",
    ),
    "too_often": Words(
        "That was too often",
        "This store's pages were asked for more often than this server answers in a minute.",
        "Wait a minute and try again.",
    ),
    "busy": Words(
        "The server is busy",
        "Its database or Shopify does not answer just now. Nothing is lost.",
        "Wait a moment and try again.",
    ),
    "unexpected": Words(
        "Something went wrong on our side",
        "It has been logged.",
        "Try again; if it stays, tell whoever runs this server.",
    ),
}
OF_STATUS = {404: "not_found", 405: "not_found", 413: "too_large", 429: "too_often"}
