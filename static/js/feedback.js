/* Toasts, copy buttons, the focus after a failed form, and the key that finds the search. */
(() => {
  "use strict";
  const TOAST_MS = 8000;

  const icon = (name) => {
    const sprite = document.querySelector("svg.icon use")?.getAttribute("href")?.split("#")[0];
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    if (sprite) use.setAttribute("href", `${sprite}#${name}`);
    svg.append(use);
    return svg;
  };

  const expire = (toast) => {
    if (toast.dataset.timed) return;
    toast.dataset.timed = "yes";
    if (toast.classList.contains("toast-bad")) return; // bad news stays until it is read
    let timer = setTimeout(() => toast.remove(), TOAST_MS);
    toast.addEventListener("mouseenter", () => clearTimeout(timer));
    toast.addEventListener("mouseleave", () => (timer = setTimeout(() => toast.remove(), TOAST_MS)));
  };

  const toast = ({ message, note, tone = "good" }) => {
    const box = document.createElement("div");
    box.className = `toast toast-${tone}`;
    box.dataset.toast = "";
    const words = document.createElement("div");
    const strong = document.createElement("strong");
    strong.textContent = message;
    words.append(strong);
    if (note) {
      const span = document.createElement("span");
      span.textContent = note;
      words.append(span);
    }
    const close = document.createElement("button");
    close.type = "button";
    close.className = "button button-quiet button-small button-icon";
    close.dataset.toastClose = "";
    close.setAttribute("aria-label", "Dismiss");
    close.append(icon("x"));
    box.append(icon(tone === "good" ? "circle-check" : "triangle-alert"), words, close);
    document.getElementById("toasts")?.append(box);
    expire(box);
  };

  document.addEventListener("console:toast", (event) => toast(event.detail));
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-toast]").forEach(expire));
  document.addEventListener("htmx:sendError", () => toast({ tone: "bad", message: "The console cannot be reached", note: "Nothing was changed. Try again in a moment." }));
  document.addEventListener("htmx:responseError", (event) => {
    const { status } = event.detail.xhr;
    if (status === 401) return; // session.js renews
    const message = { 403: "Your role does not allow this", 404: "This is no longer here", 412: "Somebody else changed this meanwhile" }[status];
    toast({ tone: "bad", message: message || "That did not work", note: `Nothing was changed (status ${status}).` });
  });

  document.addEventListener("click", async (event) => {
    if (event.target.closest("[data-toast-close]")) event.target.closest("[data-toast]")?.remove();
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const label = button.querySelector("[data-copy-label]");
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      label.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      label.textContent = "Selected";
    }
    setTimeout(() => (label.textContent = "Copy"), 2000);
  });

  const focusFirstProblem = (within) => {
    const target = within.querySelector('[aria-invalid="true"]') || within.querySelector("[data-form-problems]");
    target?.focus({ preventScroll: false });
  };
  document.addEventListener("htmx:afterSettle", (event) => focusFirstProblem(event.detail.elt.closest("form") || event.detail.elt));
  document.addEventListener("DOMContentLoaded", () => focusFirstProblem(document));

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const search = document.querySelector("[data-search]");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  });
})();
