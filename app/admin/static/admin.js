// What htmx and the browser do not do by themselves: say that a page has changed, and that the server is away.
"use strict";

document.addEventListener("htmx:after:swap", () => {
  const heading = document.querySelector("#page h1");
  const alert = document.querySelector("#page [role=alert]");
  document.getElementById("away").hidden = true;
  document.getElementById("said").textContent = document.title;
  const target = alert || heading;
  if (target) {
    target.setAttribute("tabindex", "-1");
    target.focus({ preventScroll: !alert });
  }
});

document.addEventListener("htmx:error", () => {
  document.getElementById("away").hidden = false;
});

// App Bridge: a click in Shopify's own menu opens the page here.
document.addEventListener("shopify:navigate", (event) => {
  const path = event.target.getAttribute("href");
  if (path && path.startsWith("/")) {
    htmx.ajax("GET", path, { target: "#page", select: "#page", swap: "outerHTML", push: "true" });
  }
});

// <button data-confirm="Refund 100 points?">: asked before the form is sent, where there are scripts.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-confirm]");
  if (button && !window.confirm(button.dataset.confirm)) {
    event.preventDefault();
    event.stopPropagation();
  }
}, true);

// <button data-copy="#id">: what stands there goes to the clipboard.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
    button.textContent = "Copied";
  }
});
