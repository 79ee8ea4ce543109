// What htmx and the browser do not do by themselves: say that a page has changed, and that the server is away.
"use strict";

function arrive() {
  const alert = document.querySelector("#page [role=alert]");
  const first = document.querySelector("#page [autofocus]");
  if (first && !alert) {
    first.focus();
    return;
  }
  const target = alert || document.querySelector("#page h1");
  if (target) {
    target.setAttribute("tabindex", "-1");
    target.focus({ preventScroll: !alert });
  }
}

// A part of a page that comes again by itself (data-poll): it takes no focus and says nothing, waits while nobody looks,
// and when the server has no answer it stays as it was and says so.
const polls = (event) => event.detail.ctx?.sourceElement?.closest?.("[data-poll]");

document.addEventListener("htmx:before:request", (event) => {
  if (polls(event) && document.hidden) {
    event.preventDefault();
  }
});

document.addEventListener("htmx:before:response", (event) => {
  const part = polls(event);
  if (part && event.detail.ctx.response.status !== 200) {
    event.preventDefault();
    part.querySelector("[data-stale]").hidden = false;
  }
});

document.addEventListener("htmx:after:swap", (event) => {
  document.getElementById("away").hidden = true;
  if (!polls(event)) {
    arrive();
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

// <a data-download>: fetched, because inside Shopify's admin only a fetch carries the session token; a page instead of
// a file says what is wrong, and is shown.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-download]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) {
    return;
  }
  event.preventDefault();
  const said = document.getElementById("said");
  said.textContent = "Downloading";
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(link.href);
    if (answer.ok && answer.headers.get("Content-Disposition")) {
      save(await answer.blob(), /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))?.[1]);
      said.textContent = "Downloaded";
    } else {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.getElementById("page").replaceWith(page.getElementById("page"));
      htmx.process(document.getElementById("page"));
      arrive();
    }
    document.getElementById("away").hidden = true;
  } catch {
    said.textContent = "";
    document.getElementById("away").hidden = false;
  } finally {
    link.removeAttribute("aria-busy");
  }
});

function save(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name || "download.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
