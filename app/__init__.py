"""HTTP and the terminal come in here; nothing is decided here. The web application is made by `app.web.create_app`."""
