/* Dialogs: a question that htmx swapped into the page's one <dialog> opens as a modal; a secret in it must be
   acknowledged before it closes. */
(() => {
  "use strict";
  const dialog = () => document.getElementById("dialog");
  let opener = null;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target === dialog()) opener = event.detail.elt;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const box = dialog();
    if (!box || !box.contains(event.detail.target) || !box.firstElementChild) return;
    if (!box.open) box.showModal();
    (box.querySelector('[aria-invalid="true"]') || box.querySelector("[autofocus]") || box.querySelector("[data-dialog-close]"))?.focus();
  });
  document.addEventListener("click", (event) => {
    const box = dialog();
    if (!box?.open) return;
    const onBackdrop = event.target === box;
    if (onBackdrop && box.querySelector("[data-secret]")) return;
    if (onBackdrop || (event.target.closest("[data-dialog-close]") && box.contains(event.target))) {
      event.preventDefault();
      box.close();
    }
  });
  document.addEventListener("keydown", (event) => {
    // Escape never throws a secret away that nobody has kept.
    if (event.key === "Escape" && dialog()?.open && dialog().querySelector("[data-secret]")) event.preventDefault();
  });
  document.addEventListener(
    "cancel",
    (event) => {
      if (event.target === dialog() && event.target.querySelector("[data-secret]")) event.preventDefault();
    },
    true,
  );
  document.addEventListener(
    "close",
    (event) => {
      if (event.target !== dialog()) return;
      event.target.replaceChildren();
      opener?.focus();
      opener = null;
    },
    true,
  );
  /* Neither the back button nor a cached copy of the page may bring a secret back. */
  window.addEventListener("pagehide", () => {
    for (const secret of document.querySelectorAll("[data-secret]")) secret.textContent = "shown once";
  });
})();
